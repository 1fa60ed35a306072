"""Masks of pictures by a trained segmentation run. Reads them with Pillow: TensorFlow is not needed."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx

from jaxvision.data.picture import MAX_PIXELS, central_window, read_picture, resize_bilinear
from jaxvision.errors import ConfigError, DataError
from jaxvision.nn.mode import call_model
from jaxvision.train.checkpoint import RestoredRun, restore_best
from jaxvision.train.metrics import class_probabilities
from jaxvision.train.predict import picture_paths
from jaxvision.train.tiles import Forward, count_tiles, tiled

Path = str | os.PathLike[str]

OVERLAP = 0.25
MOST_TILES_AT_ONCE = 8
VALUES_AT_ONCE = 2**22  # of probabilities resized in one go: 16 MB


@dataclass(frozen=True, eq=False)
class MaskPrediction:
    """A picture's mask, uint8 (H, W) class numbers, as high and wide as the picture is in its file.

    probabilities: float32 (H, W, K), where they were asked for.
    """

    path: str
    mask: np.ndarray
    class_names: tuple[str, ...]
    probabilities: np.ndarray | None = None

    @property
    def shares(self) -> dict[str, float]:
        """{class: share of the picture's pixels}, of all classes."""
        counts = np.bincount(self.mask.reshape(-1), minlength=len(self.class_names))
        return {name: float(n) / self.mask.size for name, n in zip(self.class_names, counts, strict=True)}


@dataclass(frozen=True)
class Tiling:
    """How a picture meets the model; see `predict_masks`."""

    tile: bool = False
    scale: float = 1.0
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ConfigError(f"scale: a factor larger than 0 (1 is the picture's own size). Received: {self.scale}")
        if not 0 <= self.overlap < 1:
            raise ConfigError(f"overlap: a share of a tile, 0 or more and less than 1. Received: {self.overlap}")
        for name, default in (("scale", 1.0), ("overlap", OVERLAP)):
            if (value := getattr(self, name)) != default and not self.tile:
                raise ConfigError(f"{name}: goes with tiles; without, pictures are resized. Received: {value}")


def predict_masks(
    run_dir: Path,
    paths: Path | Sequence[Path],
    *,
    tile: bool = False,
    scale: float = 1.0,
    overlap: float = OVERLAP,
    probabilities: bool = False,
) -> list[MaskPrediction]:
    """The masks of picture files (one or several) by a segmentation run's best checkpoint.

    A picture is resized as the run's were, and its class probabilities back (bilinear) to the size it has in its file,
    before the likeliest class of each pixel is taken. Nothing is cut off: where the run cut pictures to an aspect
    ratio (data.resize=crop), they get the same scale here and what does not fit is predicted by tiles.

    Args:
      tile: for large pictures: leave them at their own scale, and predict by tiles of the size the run was trained
        with, each pixel the mean of its tiles, weighted by how far they have it from their borders.
      scale: of a tiled picture, where what is to be found is larger or smaller than in the training pictures.
      overlap: least share of a tile, in height and in width, that it has in common with the next.
      probabilities: give them too; they take 4 K bytes a pixel, where the mask takes 1.

    Raises:
      RunFolderError: nothing trained there. DataError: a file that is not a whole picture. ConfigError: the run does
        not predict masks; a scale or overlap out of range; something else than files is given.
    """
    tiling = Tiling(tile, scale, overlap)
    paths = picture_paths(paths)
    return list(masks_of(restore_best(run_dir), paths, tiling, probabilities=probabilities))


def masks_of(
    restored: RestoredRun, paths: Sequence[Path], tiling: Tiling, *, probabilities: bool = False
) -> Iterator[MaskPrediction]:
    """As `predict_masks`, one after the other: no more than one picture is in memory.

    All files are read at once, and a bad one is named, before anything is predicted; and again when their turn comes.
    """
    card = restored.card
    if card.run.task != "segmentation":
        raise ConfigError(
            f"predict_masks: {card.run.name} predicts classes of whole pictures; use predict. Received: a run of"
            f" task={card.run.task!r}"
        )
    sizes = [read_picture(path, channels=card.image_shape[2]).shape[:2] for path in paths]
    inner = [_inner_size(path, size, restored, tiling) for path, size in zip(paths, sizes, strict=True)]
    most = max((count_tiles(size, card.image_shape[:2], tiling.overlap) for size in inner), default=1)
    forward, batch_size = _forward(restored), min(most, MOST_TILES_AT_ONCE)

    def probability_rows(path: Path, size: tuple[int, int], inner_size: tuple[int, int]) -> Iterator[np.ndarray]:
        picture = read_picture(path, channels=card.image_shape[2])
        picture = np.rint(resize_bilinear(picture, inner_size)).astype(np.uint8)
        rows = tiled(picture, forward, tile=card.image_shape[:2], overlap=tiling.overlap, batch_size=batch_size)
        return rows if inner_size == size else _resized(np.concatenate(list(rows)), size)

    return (
        _assembled(path, size, probability_rows(path, size, inner_size), card.class_names, probabilities)
        for path, size, inner_size in zip(paths, sizes, inner, strict=True)
    )


def _assembled(
    path: Path, size: tuple[int, int], rows: Iterator[np.ndarray], class_names: tuple[str, ...], probabilities: bool
) -> MaskPrediction:
    mask, done = np.empty(size, np.uint8), 0
    kept = np.empty((*size, len(class_names)), np.float32) if probabilities else None
    for block in rows:
        mask[done : done + len(block)] = block.argmax(axis=-1)
        if kept is not None:
            kept[done : done + len(block)] = block
        done += len(block)
    return MaskPrediction(os.fspath(path), mask, class_names, kept)


def _inner_size(path: Path, size: tuple[int, int], restored: RestoredRun, tiling: Tiling) -> tuple[int, int]:
    """Height and width that the picture is predicted at."""
    image_size = restored.card.image_shape[:2]
    if not tiling.tile and restored.card.run.data.resize == "stretch":
        return image_size
    if tiling.tile:
        height, width = (max(1, round(tiling.scale * length)) for length in size)
    else:
        window = central_window(*size, image_size)[2:]
        height, width = (
            max(new, round(length * new / cut)) for length, new, cut in zip(size, image_size, window, strict=True)
        )
    if height * width > MAX_PIXELS:
        raise DataError(
            f"{os.fspath(path)}: resized to {height} x {width}, it would have more than {MAX_PIXELS} pixels. Received:"
            f" a picture of {size[0]} x {size[1]}. Give a smaller scale."
        )
    return height, width


def _forward(restored: RestoredRun) -> Forward:
    graph, state = nnx.split(restored.model)

    @jax.jit
    def probabilities(state: nnx.State, images: jax.Array) -> jax.Array:
        return class_probabilities(call_model(nnx.merge(graph, state), images))

    return lambda tiles: np.asarray(probabilities(state, tiles))


def _resized(values: np.ndarray, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """float32 (rows, W, K) from the top, of values float32 (h, w, K) resized as `resize_bilinear` does it.

    A few rows at a time: at the size of the picture, the probabilities of all classes may not fit in memory.
    """
    height, width = size
    position = (np.arange(height, dtype=np.float32) + 0.5) * np.float32(len(values) / height) - 0.5
    upper = np.clip(np.floor(position), 0, None).astype(np.int64)
    lower = np.clip(np.ceil(position), None, len(values) - 1).astype(np.int64)
    weight = position - np.floor(position)
    at_once = max(1, VALUES_AT_ONCE // (width * values.shape[2]))
    for first in range(0, height, at_once):
        rows = slice(first, first + at_once)
        high = values[upper[rows]]
        block = high + (values[lower[rows]] - high) * weight[rows, None, None]
        yield resize_bilinear(block, (len(block), width))
