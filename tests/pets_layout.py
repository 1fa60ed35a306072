"""A small folder laid out as the Oxford-IIIT Pets are unpacked, with what is odd and broken in them."""

from pathlib import Path

import numpy as np
from PIL import Image

from jaxvision.data.shapes import draw_shapes

SIZES = ((48, 64), (57, 40), (64, 64), (41, 75))
"""Heights and widths, in turn."""

TRIMAP = np.array([2, 1, 3], np.uint8)
"""Background, shape and contour of a drawn mask as trimaps have them."""

GIF, EMPTY = "Egyptian_Mau_14", "Egyptian_Mau_139"
"""A picture that is a GIF in spite of its name, and one of zero bytes."""


def write_pets(root: Path, count: int = 21, *, broken: bool = True) -> list[str]:
    """Pictures Abyssinian_1.jpg ... under images/, trimaps under annotations/; names without ending, sorted.

    Trimaps are gray and palette PNGs in turn. broken: two of the names (`GIF`, `EMPTY`) are broken pictures, and hidden
    files, .mat files and lists stand beside the pictures.
    """
    images, trimaps = root / "images", root / "annotations" / "trimaps"
    trimaps.mkdir(parents=True)
    images.mkdir()
    names = [f"Abyssinian_{number}" for number in range(1, count + 1 - 2 * broken)] + [GIF, EMPTY] * broken
    for number, name in enumerate(names):
        picture, mask = drawn(number)
        Image.fromarray(picture).save(images / f"{name}.jpg", "GIF" if name == GIF else "JPEG", quality=95)
        trimap = Image.fromarray(mask)
        if number % 2:
            trimap.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
        trimap.save(trimaps / f"{name}.png")
    if broken:
        (images / f"{EMPTY}.jpg").write_bytes(b"")
        for odd in (images / "._Abyssinian_1.jpg", images / "Abyssinian_100.mat", trimaps / "._Abyssinian_1.png"):
            odd.write_bytes(b"\0\5\x16\7")
        (root / "annotations" / "list.txt").write_text("Abyssinian_1 1 1 1\n")
    return sorted(names, key=lambda name: f"{name}.jpg")


def drawn(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture and trimap number `number`: uint8 (H, W, 3) and (H, W)."""
    pictures, _, masks = draw_shapes(number, 1, image_size=SIZES[number % len(SIZES)])
    return pictures[0], TRIMAP[masks[0]]
