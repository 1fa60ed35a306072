"""DenseNet121 (Huang et al. 2017), under Keras' layer names."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Count
from jaxvision.models.classifier import HeadDropout, Hidden, PublishedClassifier, Top
from jaxvision.nn import Activation, AveragePool, BatchNorm, Chain, Conv, MaxPool, Rescaling, ZeroPad
from jaxvision.nn.rescaling import IMAGENET_MEAN, IMAGENET_STD

GROWTH = 32
EPSILON = 1.001e-5


class Growth(Chain):
    """`x` with the GROWTH channels that its layers make of it behind: (B, H, W, C) -> (B, H, W, C + GROWTH).

    BatchNorm, ReLU and a 1x1 convolution to 4 * GROWTH channels; BatchNorm, ReLU and a 3x3 convolution.
    """

    def __init__(self, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        super().__init__(
            **{
                "0_bn": BatchNorm(features, epsilon=EPSILON, dtype=dtype),
                "0_relu": Activation(jax.nn.relu),
                "1_conv": Conv(features, 4 * GROWTH, 1, use_bias=False, dtype=dtype, rngs=rngs),
                "1_bn": BatchNorm(4 * GROWTH, epsilon=EPSILON, dtype=dtype),
                "1_relu": Activation(jax.nn.relu),
                "2_conv": Conv(4 * GROWTH, GROWTH, padding="SAME", use_bias=False, dtype=dtype, rngs=rngs),
            }
        )

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        return jnp.concatenate([x, super().__call__(x, train, rngs=rngs)], axis=-1)


def transition(features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> Chain:
    """Half the channels and half the picture: (B, H, W, C) -> (B, H / 2, W / 2, C / 2)."""
    return Chain(
        bn=BatchNorm(features, epsilon=EPSILON, dtype=dtype),
        relu=Activation(jax.nn.relu),
        conv=Conv(features, features // 2, 1, use_bias=False, dtype=dtype, rngs=rngs),
        pool=AveragePool(2),
    )


class DenseNet(PublishedClassifier):
    """Four stages in which each block sees the outputs of all before it: (224, 224, 3) -> (7, 7, 1024).

    Blocks are called conv2_block1, ... conv5_block16, and pool2, pool3, pool4 lie between the stages. DenseNet121's
    base has 7,037,504 parameters, 83,648 of them statistics.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        blocks: Annotated[tuple[Count, Count, Count, Count], "Blocks in each of the four stages."] = (6, 12, 24, 16),
        top: Top = "published",
        hidden: Hidden = (),
        dropout: HeadDropout = 0.0,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        layers: dict[str, nnx.Module] = {
            # Three zeros on each side, where "SAME" would put two before and three after.
            "conv1_conv": Conv(
                input_shape[-1], 64, 7, strides=2, padding=((3, 3), (3, 3)), use_bias=False, dtype=dtype, rngs=rngs
            ),
            "conv1_bn": BatchNorm(64, epsilon=EPSILON, dtype=dtype),
            "conv1_relu": Activation(jax.nn.relu),
            "pool1_pad": ZeroPad(1),
            "pool1": MaxPool(3, strides=2),
        }
        channels = 64
        for stage, count in enumerate(blocks, start=2):
            for number in range(1, count + 1):
                layers[f"conv{stage}_block{number}"] = Growth(channels, dtype=dtype, rngs=rngs)
                channels += GROWTH
            if stage < 5:
                layers[f"pool{stage}"] = transition(channels, dtype=dtype, rngs=rngs)
                channels //= 2
        base = Chain(**layers, bn=BatchNorm(channels, epsilon=EPSILON, dtype=dtype), relu=Activation(jax.nn.relu))
        scale = tuple(1 / 255 / std for std in IMAGENET_STD)
        offset = tuple(-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))
        super().__init__(
            input_shape,
            num_classes,
            preprocessing=Rescaling(scale, offset, dtype=dtype),
            base=base,
            top=top,
            hidden=hidden,
            dropout=dropout,
            dtype=dtype,
            rngs=rngs,
        )
