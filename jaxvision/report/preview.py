"""The book's picture of augmentation: nine augmented versions of one picture, 3 by 3, and of its mask if it has one."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from jaxvision.augment import augment_batch
from jaxvision.config import Augment
from jaxvision.figures.masks import overlay
from jaxvision.figures.panels import figure_png, legend_of, plot_panels
from jaxvision.outputs import write_output
from jaxvision.types import Batch

ROWS = COLUMNS = 3
SIDE = 2.0


def draw_preview(
    picture: np.ndarray,
    settings: Augment,
    path: str | os.PathLike[str],
    *,
    seed: int,
    title: str,
    mask: np.ndarray | None = None,
    class_names: Sequence[str] = (),
) -> None:
    """Draws nine draws of an augmentation into a PNG; a mask in its colours over each, moved as the picture is.

    Args:
      picture: (H, W, C) in 0..255, C 1 or 3.
      settings: the augmentation; mixup and cutmix are left out, as there is nothing to mix a picture with.
      path: the file to write.
      seed: of the random changes.
      title: stands above.
      mask: uint8 (H, W), class numbers, 255 for pixels that count nowhere.
      class_names: of the mask's classes.

    Raises:
      ConfigError: the file cannot be written there.
    """
    versions, masks = augmented_versions(picture, settings, seed, mask=mask)
    legend = None
    if masks is not None:
        versions = np.stack([overlay(*pair) for pair in zip(versions, masks, strict=True)])
        legend = legend_of(masks, class_names)
    figure = plot_panels(list(versions), columns=COLUMNS, side=SIDE, heading=title, legend=legend)
    write_output(Path(path), figure_png(figure))


def augmented_versions(
    picture: np.ndarray, settings: Augment, seed: int, *, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Nine augmented versions, uint8 (9, H, W, C), and of the mask, uint8 (9, H, W)."""
    unmixed = dataclasses.replace(settings, mixup=0.0, cutmix=0.0)
    count = ROWS * COLUMNS
    target = np.zeros(count, np.int32) if mask is None else np.repeat(mask[None], count, axis=0)
    batch = Batch(np.repeat(picture[None], count, axis=0), target, np.ones(count, bool))
    augmented = augment_batch(jax.random.key(seed), batch, unmixed, num_classes=1)
    images = np.clip(np.rint(np.asarray(augmented.inputs, np.float32)), 0, 255).astype(np.uint8)
    return images, None if mask is None else np.asarray(augmented.target)
