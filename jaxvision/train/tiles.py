"""Large pictures by tiles with overlap: each pixel's probabilities are a weighted mean of those of its tiles."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Forward = Callable[[np.ndarray], np.ndarray]
"""Probabilities float32 (B, h, w, K) of tiles uint8 (B, h, w, C)."""


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """First pixels of tiles along one side: evenly spread from border to border, neighbours sharing `overlap` or more.

    Args:
      length: pixels of the picture's side, `tile` or more.
      tile: pixels of a tile's side.
      overlap: least share of a tile that it has in common with the next one, 0 or more and less than 1.
    """
    stride = max(1, tile - math.ceil(overlap * tile))
    count = 1 + -(-(length - tile) // stride)
    return [round(number * (length - tile) / max(count - 1, 1)) for number in range(count)]


def blending_weights(length: int, tile: int, starts: Sequence[int]) -> np.ndarray:
    """float32 (tiles, tile): weight of each of a tile's pixels along one side; at each place in the picture they sum
    to 1. They fall off from the tile's middle to its borders as the square of a sine, since a network sees nothing
    beyond the borders."""
    window = np.sin(np.pi * (np.arange(tile) + 0.5) / tile) ** 2
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += window
    return np.stack([window / total[start : start + tile] for start in starts]).astype(np.float32)


def count_tiles(size: tuple[int, int], tile: tuple[int, int], overlap: float) -> int:
    """How many tiles a picture of (height, width) is cut into."""
    return math.prod(len(tile_starts(max(n, t), t, overlap)) for n, t in zip(size, tile, strict=True))


def tiled(
    picture: np.ndarray, forward: Forward, *, tile: tuple[int, int], overlap: float, batch_size: int
) -> Iterator[np.ndarray]:
    """Class probabilities of a picture, float32 (rows, W, K) from its top to its bottom, a few rows at a time.

    Only the rows that a row of tiles covers are held in memory. A picture smaller than a tile is first continued by
    its mirror image on all sides.

    Args:
      picture: uint8 (H, W, C).
      forward: probabilities of tiles; it is always called with `batch_size` of them.
      tile: height and width of a tile, which the model was made for.
      overlap: see `tile_starts`.
    """
    (height, width), size = picture.shape[:2], picture.shape[:2]
    before = [max(t - n, 0) // 2 for n, t in zip(size, tile, strict=True)]
    after = [max(t - n, 0) - b for n, t, b in zip(size, tile, before, strict=True)]
    picture = np.pad(picture, [*zip(before, after, strict=True), (0, 0)], mode="symmetric")
    for rows in _blended(picture, forward, tile, overlap, batch_size):
        # With rows to cut off there is one row of tiles only.
        yield rows[before[0] : before[0] + height, before[1] : before[1] + width]


def _blended(
    picture: np.ndarray, forward: Forward, tile: tuple[int, int], overlap: float, batch_size: int
) -> Iterator[np.ndarray]:
    height, width = picture.shape[:2]
    tops, lefts = (tile_starts(n, t, overlap) for n, t in zip((height, width), tile, strict=True))
    down, across = blending_weights(height, tile[0], tops), blending_weights(width, tile[1], lefts)
    predicted = _predicted(picture, forward, list(itertools.product(tops, lefts)), tile, batch_size)
    sums = np.zeros((tile[0], width, 0), np.float32)
    for top, following, row_weights in zip(tops, [*tops[1:], height], down, strict=True):
        for left, column_weights in zip(lefts, across, strict=True):
            values = next(predicted)
            if not sums.shape[2]:
                sums = np.zeros((tile[0], width, values.shape[2]), np.float32)
            weights = row_weights[:, None, None] * column_weights[None, :, None]
            sums[:, left : left + tile[1]] += values * weights
        done = following - top  # no later tile covers these rows
        yield sums[:done]
        sums = np.concatenate([sums[done:], np.zeros_like(sums[:done])])


def _predicted(
    picture: np.ndarray, forward: Forward, corners: Sequence[tuple[int, int]], tile: tuple[int, int], batch_size: int
) -> Iterator[np.ndarray]:
    """float32 (h, w, K) of the tile at each corner."""
    for first in range(0, len(corners), batch_size):
        chosen = corners[first : first + batch_size]
        tiles = np.zeros((batch_size, *tile, picture.shape[2]), picture.dtype)
        for place, (top, left) in enumerate(chosen):
            tiles[place] = picture[top : top + tile[0], left : left + tile[1]]
        yield from forward(tiles)[: len(chosen)]
