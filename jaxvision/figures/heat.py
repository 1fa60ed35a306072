"""Heat maps in colours, alone and over their pictures."""

import numpy as np
from matplotlib import colormaps

COLOURS = "inferno"
"""Matplotlib's: evenly brighter from cold to hot, so that it can be read in grey and with any colour vision."""
OPACITY = 0.5


def paint_heat(values: np.ndarray, colours: str = COLOURS) -> np.ndarray:
    """uint8 (..., H, W, 3) of values float (..., H, W) in 0..1, by a colour map of Matplotlib."""
    return np.rint(255 * colormaps[colours](values)[..., :3]).astype(np.uint8)


def heat_overlay(
    picture: np.ndarray, values: np.ndarray, *, colours: str = COLOURS, opacity: float = OPACITY
) -> np.ndarray:
    """The heat over its picture turned grey, so that all colour is heat: uint8 (H, W, 3).

    Args:
      picture: uint8 (H, W, C), C 1 or 3.
      values: float (H, W), 0..1.
      colours: a colour map of Matplotlib; the book's is "jet".
      opacity: of the heat.
    """
    grey = np.broadcast_to(picture.astype(np.float32).mean(axis=-1, keepdims=True), (*values.shape, 3))
    heat = paint_heat(values, colours).astype(np.float32)
    return np.rint((1 - opacity) * grey + opacity * heat).astype(np.uint8)
