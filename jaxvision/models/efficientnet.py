"""EfficientNetB0 (Tan & Le 2019), under Keras' layer names."""

from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Fraction
from jaxvision.models.classifier import HeadDropout, Hidden, PublishedClassifier, Top
from jaxvision.nn import (
    Activation,
    BatchNorm,
    Chain,
    Conv,
    Dense,
    DepthwiseConv,
    Dropout,
    GlobalAveragePool,
    Normalization,
    Rescaling,
)
from jaxvision.nn.initializers import variance_scaling
from jaxvision.nn.rescaling import IMAGENET_MEAN, IMAGENET_STD

STAGES = (
    (3, 16, 1, 1, 1),
    (3, 24, 2, 2, 6),
    (5, 40, 2, 2, 6),
    (3, 80, 3, 2, 6),
    (5, 112, 3, 1, 6),
    (5, 192, 4, 2, 6),
    (3, 320, 1, 1, 6),
)
"""Kernel size, channels, number of blocks, stride of the first of them, and expansion."""
CONV_INIT = variance_scaling(2.0, "fan_out", "truncated_normal")
DENSE_INIT = variance_scaling(1 / 3, "fan_out", "uniform")


class SqueezeExcite(nnx.Module):
    """`x * sigmoid(expand(swish(reduce(mean of x over the picture)))`: (B, H, W, C) -> the same (Hu et al. 2018)."""

    keras_order = ("squeeze", "reduce", "expand")

    def __init__(self, features: int, squeezed: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        options: dict[str, Any] = dict(kernel_init=CONV_INIT, dtype=dtype, rngs=rngs)
        self.squeeze = GlobalAveragePool()
        self.reduce = Conv(features, squeezed, 1, activation=jax.nn.swish, **options)
        self.expand = Conv(squeezed, features, 1, activation=jax.nn.sigmoid, **options)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.expand(self.reduce(self.squeeze(x)[:, None, None, :]))


class MBConv(Chain):
    """Expands the channels by 1x1, convolves each by itself, weighs them, projects by 1x1; plus `x` where the shape
    stays: (B, H, W, in) -> (B, H', W', out).

    BatchNorm after each convolution, swish after all but the last. In training a share `drop` of the examples go past
    the block (stochastic depth, Huang et al. 2016).
    """

    def __init__(
        self,
        ins: int,
        outs: int,
        kernel_size: int,
        *,
        strides: int,
        expansion: int,
        drop: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = dict(padding="SAME", use_bias=False, kernel_init=CONV_INIT, dtype=dtype, rngs=rngs)
        layers: dict[str, nnx.Module] = {}
        inner = ins * expansion
        if expansion > 1:
            layers |= {
                "expand_conv": Conv(ins, inner, 1, **options),
                "expand_bn": BatchNorm(inner, dtype=dtype),
                "expand_activation": Activation(jax.nn.swish),
            }
        # Keras pads by numbers before a stride of 2; they are those of "SAME".
        layers |= {
            "dwconv": DepthwiseConv(inner, kernel_size, strides=strides, **options),
            "bn": BatchNorm(inner, dtype=dtype),
            "activation": Activation(jax.nn.swish),
            "se": SqueezeExcite(inner, ins // 4, dtype=dtype, rngs=rngs),
            "project_conv": Conv(inner, outs, 1, **options),
            "project_bn": BatchNorm(outs, dtype=dtype),
        }
        self.keeps_shape = strides == 1 and ins == outs
        if self.keeps_shape and drop:
            layers["drop"] = Dropout(drop, broadcast_dims=(1, 2, 3))
        super().__init__(**layers)

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        y = super().__call__(x, train, rngs=rngs)
        return y + x if self.keeps_shape else y


def _head(shape: tuple[int, ...], num_classes: int, *, drop: float, dtype: jnp.dtype, rngs: nnx.Rngs) -> Chain:
    logits = Dense(shape[-1], num_classes, kernel_init=DENSE_INIT, dtype=dtype, rngs=rngs)
    return Chain(avg_pool=GlobalAveragePool(), top_dropout=Dropout(drop), predictions=logits)


class EfficientNet(PublishedClassifier):
    """A 3x3 convolution of stride 2, 16 MBConv blocks, a 1x1 convolution: (224, 224, 3) -> (7, 7, 1280).

    Blocks are called block1a, block2a, block2b, ... block7a; the published top has a dropout. The base has 4,049,571
    parameters; 42,016 of them are statistics of BatchNorm and 7 the statistics of ImageNet's pictures: Keras keeps
    them as weights of a layer, with the standard deviation as `variance`, and a further layer divides by its root
    again. Keras leaves that layer out, and the statistics at 0 and 1, where it makes a model without its weights; here
    pictures are always normalized.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        drop_connect: Annotated[
            Fraction, "Share of examples that go past a block in training; of the last block."
        ] = 0.2,
        top: Top = "published",
        top_dropout: Annotated[
            Fraction, "With top published: share of the features dropped before the last layer."
        ] = 0.2,
        hidden: Hidden = (),
        dropout: HeadDropout = 0.0,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        options: dict[str, Any] = dict(use_bias=False, kernel_init=CONV_INIT, dtype=dtype, rngs=rngs)
        number_of_blocks = sum(count for _, _, count, _, _ in STAGES)
        blocks: dict[str, nnx.Module] = {}
        channels = 32
        for stage, (kernel_size, features, count, first_strides, expansion) in enumerate(STAGES, start=1):
            for letter, strides in zip("abcd", (first_strides, *(1,) * (count - 1)), strict=False):
                blocks[f"block{stage}{letter}"] = MBConv(
                    channels,
                    features,
                    kernel_size,
                    strides=strides,
                    expansion=expansion,
                    drop=drop_connect * len(blocks) / number_of_blocks,
                    dtype=dtype,
                    rngs=rngs,
                )
                channels = features
        base = Chain(
            normalization=Normalization(IMAGENET_MEAN, IMAGENET_STD),
            rescaling_1=Rescaling(tuple(std**-0.5 for std in IMAGENET_STD), dtype=dtype),
            stem_conv=Conv(input_shape[-1], 32, strides=2, padding="SAME", **options),
            stem_bn=BatchNorm(32, dtype=dtype),
            stem_activation=Activation(jax.nn.swish),
            **blocks,
            top_conv=Conv(channels, 1280, 1, **options),
            top_bn=BatchNorm(1280, dtype=dtype),
            top_activation=Activation(jax.nn.swish),
        )

        super().__init__(
            input_shape,
            num_classes,
            preprocessing=Rescaling(),
            base=base,
            published_head=partial(_head, drop=top_dropout),
            top=top,
            hidden=hidden,
            dropout=dropout,
            dtype=dtype,
            rngs=rngs,
        )
