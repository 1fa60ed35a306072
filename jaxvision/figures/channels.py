"""Many small pictures in one: every channel of a layer as the book shows it, or a layer's filters."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps

COLUMNS = 16
COLOURS = "viridis"


def channel_picture(channel: np.ndarray) -> np.ndarray:
    """uint8 (h, w) of one channel, `standardized`; black where it is 0."""
    return standardized(channel) if channel.any() else np.zeros(channel.shape, np.uint8)


def filter_picture(picture: np.ndarray, *, margin: int = 25) -> np.ndarray:
    """A picture (H, W, C) of `jaxvision.explain.filters` to look at, uint8: `standardized`, without its margin."""
    height, width = picture.shape[:2]
    return standardized(picture[margin : height - margin, margin : width - margin])


def standardized(values: np.ndarray) -> np.ndarray:
    """uint8, as the book shows what has no scale of its own: minus the mean, over the standard deviation, x64 + 128."""
    scaled = (values - values.mean()) / max(float(values.std()), 1e-12) * 64 + 128
    return np.clip(scaled, 0, 255).astype(np.uint8)


def channel_grid(output: np.ndarray, *, columns: int = COLUMNS, smallest: int = 16, gap: int = 1) -> np.ndarray:
    """Every channel of a layer's output (h, w, c) in rows of `columns`, uint8 (H, W, 3).

    smallest: pixels of a channel's shorter side; smaller ones are enlarged by a whole number.
    """
    channels = np.stack([channel_picture(output[..., number]) for number in range(output.shape[-1])])
    factor = -(-smallest // min(output.shape[:2]))
    coloured = np.rint(255 * colormaps[COLOURS](channels / 255)[..., :3]).astype(np.uint8)
    return tile_pictures(coloured.repeat(factor, axis=1).repeat(factor, axis=2), columns=columns, gap=gap)


def tile_pictures(
    pictures: Sequence[np.ndarray] | np.ndarray, *, columns: int, gap: int = 1, background: int = 255
) -> np.ndarray:
    """Pictures uint8 (N, h, w, 3) of one size in rows, `gap` pixels between them: uint8 (H, W, 3)."""
    pictures = np.asarray(pictures)
    count, height, width = pictures.shape[:3]
    columns = min(columns, count)
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), background, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * (height + gap), number % columns * (width + gap)
        sheet[top : top + height, left : left + width] = picture
    return sheet
