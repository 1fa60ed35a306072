"""MobileNetV2 (Sandler et al. 2018) of width 1, under Keras' layer names."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.models.classifier import HeadDropout, Hidden, PublishedClassifier, Top
from jaxvision.nn import Activation, BatchNorm, Chain, Conv, DepthwiseConv, Rescaling

STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""Channels, number of blocks, and stride of the first of them."""
EXPANSION = 6
MOMENTUM = 0.999


class InvertedResidual(Chain):
    """Expands the channels by 1x1, convolves each in 3x3, projects by 1x1: (B, H, W, in) -> (B, H', W', out).

    BatchNorm after each, ReLU6 after all but the last; plus `x` where the shape stays. Without `expansion` there is no
    first convolution.
    """

    def __init__(self, ins: int, outs: int, *, strides: int, expansion: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        def norm(features: int) -> BatchNorm:
            return BatchNorm(features, momentum=MOMENTUM, dtype=dtype)

        layers: dict[str, nnx.Module] = {}
        inner = ins * expansion
        if expansion > 1:
            layers |= {
                "expand": Conv(ins, inner, 1, use_bias=False, dtype=dtype, rngs=rngs),
                "expand_BN": norm(inner),
                "expand_relu": Activation(jax.nn.relu6),
            }
        # Keras pads by numbers before a stride of 2; they are those of "SAME".
        layers |= {
            "depthwise": DepthwiseConv(inner, strides=strides, padding="SAME", use_bias=False, dtype=dtype, rngs=rngs),
            "depthwise_BN": norm(inner),
            "depthwise_relu": Activation(jax.nn.relu6),
            "project": Conv(inner, outs, 1, use_bias=False, dtype=dtype, rngs=rngs),
            "project_BN": norm(outs),
        }
        super().__init__(**layers)
        self.keeps_shape = strides == 1 and ins == outs

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        y = super().__call__(x, train, rngs=rngs)
        return x + y if self.keeps_shape else y


class MobileNetV2(PublishedClassifier):
    """A 3x3 convolution of stride 2, 17 inverted residual blocks, a 1x1 convolution: (224, 224, 3) -> (7, 7, 1280).

    Blocks are called expanded_conv, block_1, ... block_16. The base has 2,257,984 parameters, 34,112 of them
    statistics.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        top: Top = "published",
        hidden: Hidden = (),
        dropout: HeadDropout = 0.0,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        blocks: dict[str, nnx.Module] = {}
        channels = 32
        for features, count, first_strides in STAGES:
            for strides in (first_strides, *(1,) * (count - 1)):
                blocks[f"block_{len(blocks)}" if blocks else "expanded_conv"] = InvertedResidual(
                    channels,
                    features,
                    strides=strides,
                    expansion=EXPANSION if blocks else 1,
                    dtype=dtype,
                    rngs=rngs,
                )
                channels = features
        base = Chain(
            Conv1=Conv(input_shape[-1], 32, strides=2, padding="SAME", use_bias=False, dtype=dtype, rngs=rngs),
            bn_Conv1=BatchNorm(32, momentum=MOMENTUM, dtype=dtype),
            Conv1_relu=Activation(jax.nn.relu6),
            **blocks,
            Conv_1=Conv(channels, 1280, 1, use_bias=False, dtype=dtype, rngs=rngs),
            Conv_1_bn=BatchNorm(1280, momentum=MOMENTUM, dtype=dtype),
            out_relu=Activation(jax.nn.relu6),
        )
        super().__init__(
            input_shape,
            num_classes,
            preprocessing=Rescaling(1 / 127.5, -1.0, dtype=dtype),
            base=base,
            top=top,
            hidden=hidden,
            dropout=dropout,
            dtype=dtype,
            rngs=rngs,
        )
