"""Finished runs with models of known answers, without training."""

from pathlib import Path

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Data, Model, Run
from jaxvision.nn import Activation
from jaxvision.train.checkpoint import BestCheckpoints, ModelCard, Saved
from jaxvision.train.folder import write_config

NAMES = ("dark", "middle", "bright")
IMAGE_SIZE = (12, 18)


class Levels(nnx.Module):
    """Which of K levels of brightness, evenly spread over 0..255, comes nearest: of each pixel, or of the picture.

    size: of a window of pixels whose mean is taken, zeros beyond the border, as a convolution does it.
    """

    def __init__(self, input_shape, num_classes, *, dtype, rngs, size: int = 1, pixels: bool = True):
        self.kernel = nnx.Param(jnp.full((size, size, input_shape[2], 1), 1 / (size * size * input_shape[2])))
        self.levels = nnx.Param(jnp.linspace(0.0, 1.0, num_classes))
        self.pixels = pixels

    def __call__(self, images, *, train=False):
        images = images.astype(jnp.float32) / 255
        mean = jax.lax.conv_general_dilated(
            images, self.kernel[...], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        if not self.pixels:
            mean = mean.mean(axis=(1, 2))
        return 5 - 40 * (mean - self.levels[...].reshape((1,) * (mean.ndim - 1) + (-1,))) ** 2


class Spots(nnx.Module):
    """How much red, green and blue there is, beyond the mean of the three: of each pixel, or of the picture."""

    def __init__(self, input_shape, num_classes, *, dtype, rngs, pixels: bool = False):
        self.conv = nnx.Conv(3, 3, (1, 1), use_bias=False, rngs=rngs)
        self.conv.kernel.set_value(((jnp.eye(3) - 1 / 3) / 255)[None, None])
        self.act, self.unused = Activation(jax.nn.relu), Activation(jax.nn.relu)
        self.pixels = pixels

    def __call__(self, images, *, train=False):
        spots = self.act(self.conv(images.astype(jnp.float32)))
        return 9 * (spots if self.pixels else spots.mean(axis=(1, 2)))


def finished_run(
    folder: Path, task: str, *, channels: int = 3, size: int = 1, names=NAMES, model=None, image_size=IMAGE_SIZE, **data
) -> Path:
    """A run folder with the best checkpoint of `Levels`, or of another model of this file by its name."""
    pixels = task == "segmentation"
    options = {"pixels": pixels} if model else {"pixels": pixels, "size": size}
    run = Run(
        name=folder.name,
        task=task,
        data=Data(**{"source": "given", "image_size": image_size, **data}),
        model=Model(f"{__name__}:{model or 'Levels'}", options),
    )
    card = ModelCard(run, names, (*image_size, channels), len(names))
    with BestCheckpoints(folder, card) as checkpoints:
        checkpoints.save(Saved(phase=0, value=1.0, step=1), nnx.state(card.build()))
    write_config(folder, run)
    return folder
