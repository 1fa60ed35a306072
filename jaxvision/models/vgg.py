"""VGG16 and VGG19 (Simonyan & Zisserman 2014, configurations D and E), under Keras' layer names."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Count
from jaxvision.models.classifier import HeadDropout, Hidden, PublishedClassifier, Top
from jaxvision.nn import BgrMinusMean, Chain, Conv, Dense, Flatten, MaxPool

CHANNELS = (64, 128, 256, 512, 512)


def fully_connected_head(shape: tuple[int, ...], num_classes: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> Chain:
    """Two dense layers of 4,096 units with ReLU, and a third: nine tenths of VGG16's parameters."""
    return Chain(
        flatten=Flatten(),
        fc1=Dense(math.prod(shape), 4096, activation=jax.nn.relu, dtype=dtype, rngs=rngs),
        fc2=Dense(4096, 4096, activation=jax.nn.relu, dtype=dtype, rngs=rngs),
        predictions=Dense(4096, num_classes, dtype=dtype, rngs=rngs),
    )


class VGG(PublishedClassifier):
    """Five blocks of 3x3 same convolutions with ReLU, each ended by a max-pool of 2.

    VGG16's base has 14,714,688 parameters in 26 tensors and makes (5, 5, 512) of (180, 180, 3). Layers are called
    block1_conv1, block1_conv2, block1_pool, ...; the published top is flatten, fc1, fc2 (4,096 units, ReLU),
    predictions.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        convs: Annotated[tuple[Count, ...], "Convolutions in each of the five blocks."] = (2, 2, 3, 3, 3),
        top: Top = "published",
        hidden: Hidden = (),
        dropout: HeadDropout = 0.0,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        layers: dict[str, nnx.Module] = {}
        channels = input_shape[-1]
        for block, (count, features) in enumerate(zip(convs, CHANNELS, strict=True), start=1):
            for number in range(1, count + 1):
                layers[f"block{block}_conv{number}"] = Conv(
                    channels, features, padding="SAME", activation=jax.nn.relu, dtype=dtype, rngs=rngs
                )
                channels = features
            layers[f"block{block}_pool"] = MaxPool(2)
        base = Chain(**layers)

        super().__init__(
            input_shape,
            num_classes,
            preprocessing=BgrMinusMean(dtype=dtype),
            base=base,
            published_head=fully_connected_head,
            top=top,
            hidden=hidden,
            dropout=dropout,
            dtype=dtype,
            rngs=rngs,
        )
