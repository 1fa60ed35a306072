"""The segmentation model of *Deep Learning with Python*, 2nd edition, chapter 9.2."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Count, Counts
from jaxvision.errors import ConfigError
from jaxvision.models.classifier import Classifier
from jaxvision.models.convnet import POOLS, Downsample
from jaxvision.nn import Chain, Conv, ConvTranspose, Rescaling


class Segmenter(Classifier):
    """A class for each pixel: raw pixels (B, H, W, C), 0..255, in; logits (B, H, W, num_classes) out.

    Down: for each of `features` two 3x3 same convolutions with ReLU, the first of which halves the picture. Up: for
    each in the other order two transposed convolutions with ReLU, the second of which doubles it. A convolution of the
    same size makes the logits. Positions are kept, which is why it strides and does not pool. 2,880,643 parameters for
    3 classes.

    Raises: ConfigError: height or width cannot be halved so often without a remainder.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        features: Annotated[Counts, "Channels at each size of the picture."] = (64, 128, 256),
        kernel_size: Annotated[
            Count, "Of all convolutions. With 1, and downsample none, a pixel's class depends on that pixel alone."
        ] = 3,
        downsample: Annotated[
            Downsample, "How the picture is halved: by the first convolution's stride, by a pool after it, or not."
        ] = "stride",
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        height, width, channels = input_shape
        factor = 1 if downsample == "none" else 2 ** len(features)
        if height % factor or width % factor:
            raise ConfigError(
                f"data.image_size: with features={features} height and width must be multiples of {factor}, such as"
                f" {_nearest(height, factor)}x{_nearest(width, factor)}. Received: {height}x{width}"
            )
        layers: dict[str, nnx.Module] = {}

        def add(kind: type[Conv] | type[ConvTranspose], name: str, outs: int, strides: int) -> None:
            nonlocal channels
            layers[name] = kind(
                channels, outs, kernel_size, strides=strides, padding="SAME", activation=jax.nn.relu, dtype=dtype,
                rngs=rngs,
            )  # fmt: skip
            channels = outs

        for number, outs in enumerate(features, start=1):
            add(Conv, f"down{number}_conv1", outs, 2 if downsample == "stride" else 1)
            if downsample in POOLS:
                layers[f"down{number}_pool"] = POOLS[downsample](2)
            add(Conv, f"down{number}_conv2", outs, 1)
        for number, outs in reversed(list(enumerate(features, start=1))):
            add(ConvTranspose, f"up{number}_conv1", outs, 1)
            add(ConvTranspose, f"up{number}_conv2", outs, 1 if downsample == "none" else 2)
        head = Chain()
        if num_classes is not None:
            logits = Conv(channels, num_classes, kernel_size, padding="SAME", dtype=dtype, rngs=rngs)
            head = Chain(logits=logits)
        super().__init__(preprocessing=Rescaling(dtype=dtype), base=Chain(**layers), head=head)


def _nearest(size: int, factor: int) -> int:
    return max(1, math.floor(size / factor + 0.5)) * factor
