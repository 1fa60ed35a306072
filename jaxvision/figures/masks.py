"""Masks as pictures: in the colours of their classes, over a picture, and as PNG files that hold class numbers."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from jaxvision.figures.palette import palette

OPACITY = 0.45


def paint(mask: np.ndarray) -> np.ndarray:
    """A mask uint8 (..., H, W) of class numbers in their colours: uint8 (..., H, W, 3)."""
    return palette()[mask]


def overlay(picture: np.ndarray, mask: np.ndarray, *, opacity: float = OPACITY) -> np.ndarray:
    """A mask's colours over its picture, regions rimmed: uint8 (H, W, 3).

    Args:
      picture: uint8 (H, W, C), C 1 or 3.
      mask: uint8 (H, W), class numbers, 255 for pixels that count nowhere.
      opacity: of the colours within a region; its rim hides the picture.
    """
    colours = paint(mask).astype(np.float32)
    blended = np.broadcast_to(picture, colours.shape) * np.float32(1 - opacity) + colours * np.float32(opacity)
    return np.where(_rims(mask)[..., None], colours, np.rint(blended)).astype(np.uint8)


def mask_png(mask: np.ndarray, values: Sequence[int] = ()) -> bytes:
    """A PNG file of a mask uint8 (H, W), in mode P: its pixels are the class numbers, its palette their colours.

    values: the number to write for each class, where these fit into 8 bits; empty: class numbers.
    """
    colours = palette()
    if values and min(values) >= 0 and max(values) < len(colours):
        mask, colours = np.asarray(values, np.uint8)[mask], colours.copy()
        colours[list(values)] = palette()[: len(values)]
    image = Image.fromarray(mask, mode="L")
    image.putpalette(colours.tobytes())
    return png(image)


def png(image: np.ndarray | Image.Image) -> bytes:
    """A PNG file of a picture, uint8 (H, W, 3) or Pillow's."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, format="PNG")
    return file.getvalue()


def _rims(mask: np.ndarray) -> np.ndarray:
    """bool (H, W): pixels near one of another class, in a band that widens with the picture."""
    rims = np.zeros(mask.shape, bool)
    for shift in range(1, 1 + max(1, round(min(mask.shape) / 300))):
        across, along = mask[:, shift:] != mask[:, :-shift], mask[shift:] != mask[:-shift]
        rims[:, shift:] |= across
        rims[:, :-shift] |= across
        rims[shift:] |= along
        rims[:-shift] |= along
    return rims
