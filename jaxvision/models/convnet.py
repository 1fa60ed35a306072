"""The plain convnets of *Deep Learning with Python*, 2nd edition: chapter 8.1 (MNIST) and 8.2 (dogs-vs-cats)."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Counts, Fraction, Positive
from jaxvision.errors import ConfigError
from jaxvision.models.classifier import Classifier, make_head
from jaxvision.nn import AveragePool, Chain, Conv, MaxPool, Rescaling

Downsample = Literal["max", "average", "stride", "none"]
POOLS = {"max": MaxPool, "average": AveragePool}


class ConvNet(Classifier):
    """3x3 valid convolutions with ReLU, each but the last followed by a halving of the picture; then one dense layer.

    `downsample`: max-pool or average-pool of 2, convolution with stride 2, or not at all.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        features: Annotated[Counts, "Channels of each convolution."] = (32, 64, 128),
        width_multiplier: Annotated[Positive, "Factor on all of these, rounded, at least one channel each."] = 1.0,
        downsample: Annotated[Downsample, "How the picture is halved after each convolution but the last."] = "max",
        dropout: Annotated[Fraction, "Share of the features dropped before the dense layer in training."] = 0.0,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        layers: dict[str, nnx.Module] = {}
        features = tuple(max(1, round(count * width_multiplier)) for count in features)
        height, width, channels = input_shape
        for number, out_features in enumerate(features, start=1):
            halve = downsample != "none" and number < len(features)
            strides = 2 if halve and downsample == "stride" else 1
            layers[f"conv{number}"] = Conv(
                channels, out_features, strides=strides, activation=jax.nn.relu, dtype=dtype, rngs=rngs
            )
            height, width, channels = (height - 3) // strides + 1, (width - 3) // strides + 1, out_features
            if halve and downsample in POOLS:
                layers[f"pool{number}"] = POOLS[downsample](2)
                height, width = height // 2, width // 2
            if height < 1 or width < 1:
                raise ConfigError(
                    f"pictures of {input_shape[0]}x{input_shape[1]} are too small for features={features} with"
                    f" downsample={downsample!r}: nothing is left after conv{number}."
                    " Enlarge data.image_size or take fewer features."
                )
        super().__init__(
            preprocessing=Rescaling(dtype=dtype),
            base=Chain(**layers),
            head=make_head((height, width, channels), num_classes, dropout=dropout, dtype=dtype, rngs=rngs),
        )
