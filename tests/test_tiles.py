"""Prediction by tiles: as of the whole picture, whatever its size, and without holding all of it."""

import numpy as np
import pytest

from jaxvision.train.tiles import blending_weights, count_tiles, tile_starts, tiled

TILE = (16, 12)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pixelwise(pictures: np.ndarray) -> np.ndarray:
    """Three numbers a pixel, from nothing but that pixel."""
    return pictures.astype(np.float32) @ np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)


def blurred(pictures: np.ndarray) -> np.ndarray:
    """The mean of 3x3 pixels, zeros beyond the border: what a convolution does."""
    values = np.pad(pixelwise(pictures), [(0, 0), (1, 1), (1, 1), (0, 0)])
    height, width = pictures.shape[1:3]
    return sum(values[:, i : i + height, j : j + width] for i in range(3) for j in range(3)) / np.float32(9)


def whole(picture: np.ndarray, forward, overlap: float = 0.25, batch_size: int = 3) -> np.ndarray:
    sizes = set()

    def seen(tiles):
        sizes.add(tiles.shape)
        return forward(tiles)

    rows = list(tiled(picture, seen, tile=TILE, overlap=overlap, batch_size=batch_size))
    assert sizes == {(batch_size, *TILE, 3)}  # one compiled program
    return np.concatenate(rows)


@pytest.mark.parametrize("length", [16, 17, 31, 100, 211])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.95])
def test_tiles_reach_from_border_to_border_and_their_weights_sum_to_one(length, overlap):
    starts = tile_starts(length, 16, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - 16
    assert all(np.diff(starts) <= max(1, 16 * (1 - overlap)))
    weights = blending_weights(length, 16, starts)
    total = np.zeros(length)
    for start, row in zip(starts, weights, strict=True):
        total[start : start + 16] += row
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert weights.min() > 0
    # Between two tiles, the one whose middle is nearer counts for more.
    if len(starts) > 1 and starts[1] < 16:
        overlapped = slice(starts[1], 16)
        assert np.all(np.diff(weights[0, overlapped]) < 0)


@pytest.mark.parametrize("size", [(16, 12), (37, 53), (16, 29), (5, 40), (40, 5), (3, 2), (1, 1)])
@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_a_model_that_sees_single_pixels_gives_the_same_by_tiles(size, overlap):
    picture = noise(*size)
    got = whole(picture, pixelwise, overlap)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, pixelwise(picture[None])[0], rtol=1e-5, atol=1e-3)


def test_a_convolution_gives_the_same_by_tiles_away_from_their_borders():
    picture, expected = noise(45, 50), blurred(noise(45, 50)[None])[0]
    wrong = np.abs(whole(picture, blurred) - expected).max(axis=-1) > 1e-3
    at_border = np.zeros((45, 50), bool)
    for length, tile, borders in ((45, 16, at_border), (50, 12, at_border.T)):
        for start in tile_starts(length, tile, 0.25):
            borders[[start, start + tile - 1]] = True
    assert not (wrong & ~at_border).any()
    assert at_border.mean() < 0.5
    # What the borders do wrong counts little: tiles side by side without overlap are much worse.
    error, without = (np.abs(whole(picture, blurred, o) - expected).mean() for o in (0.25, 0.0))
    assert error < 0.2 * without


def test_rows_come_before_all_tiles_are_predicted():
    calls = []

    def counting(tiles):
        calls.append(len(tiles))
        return pixelwise(tiles)

    picture = noise(400, 30)
    rows = tiled(picture, counting, tile=TILE, overlap=0.25, batch_size=2)
    first = next(rows)
    assert 0 < len(first) <= TILE[0]
    assert sum(calls) < 0.1 * count_tiles((400, 30), TILE, 0.25)
    assert len(first) + sum(len(block) for block in rows) == 400
