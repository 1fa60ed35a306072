"""The book's picture of augmentation: nine augmented versions of one picture, 3 by 3."""

import dataclasses

import jax
import numpy as np
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxvision.augment import augment_batch
from jaxvision.config import Augment
from jaxvision.errors import ConfigError
from jaxvision.types import Batch

ROWS = COLUMNS = 3


def draw_preview(picture: np.ndarray, settings: Augment, path: epath.PathLike, *, seed: int, title: str) -> None:
    """Draws nine draws of an augmentation into a PNG.

    Args:
      picture: (H, W, C) in 0..255, C 1 or 3.
      settings: the augmentation; mixup and cutmix are left out, as there is nothing to mix a picture with.
      path: the file to write.
      seed: of the random changes.
      title: stands above.

    Raises:
      ConfigError: the file cannot be written there.
    """
    figure = Figure(figsize=(6, 6.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, version in zip(
        figure.subplots(ROWS, COLUMNS).flat, augmented_versions(picture, settings, seed), strict=True
    ):
        axes.imshow(version, cmap="gray", vmin=0, vmax=255)
        axes.set_axis_off()
    try:
        with epath.Path(path).open("wb") as file:
            figure.savefig(file, format="png")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written. Received: {error.strerror or error}") from error


def augmented_versions(picture: np.ndarray, settings: Augment, seed: int) -> np.ndarray:
    """Nine augmented versions, uint8 (9, H, W, C)."""
    unmixed = dataclasses.replace(settings, mixup=0.0, cutmix=0.0)
    count = ROWS * COLUMNS
    batch = Batch(np.repeat(picture[None], count, axis=0), np.zeros(count, np.int32), np.ones(count, bool))
    images = augment_batch(jax.random.key(seed), batch, unmixed, num_classes=1).inputs
    return np.clip(np.rint(np.asarray(images, np.float32)), 0, 255).astype(np.uint8)
