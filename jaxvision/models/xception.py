"""Xception (Chollet 2017), under Keras' layer names."""

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.models.classifier import HeadDropout, Hidden, PublishedClassifier, Top
from jaxvision.nn import Activation, BatchNorm, Chain, Conv, MaxPool, Rescaling, Residual, SeparableConv, projection

BLOCKS = {
    "block2": (64, 128, 128),
    "block3": (128, 256, 256),
    "block4": (256, 728, 728),
    **{f"block{number}": (728, 728, 728, 728) for number in range(5, 13)},
    "block13": (728, 728, 1024),
}
"""Channels into the first separable convolution of a block, and out of each."""

SHORTCUTS = {
    "block2": ("conv2d", "batch_normalization"),
    "block3": ("conv2d_1", "batch_normalization_1"),
    "block4": ("conv2d_2", "batch_normalization_2"),
    "block13": ("conv2d_3", "batch_normalization_3"),
}
"""The blocks that halve the picture and project their shortcut, and what Keras calls the shortcut's two layers."""


class Xception(PublishedClassifier):
    """Separable 3x3 convolutions with BatchNorm in residual blocks: (299, 299, 3) -> (10, 10, 2048).

    block1 and block14 are convolutions with BatchNorm and ReLU one after the other. In between, blocks of ReLU,
    separable convolution, BatchNorm: 2, 3, 4 and 13 end in a max-pool that halves the picture and have a convolution
    as shortcut; 5 to 12 keep the shape and have none. The base has 20,861,480 parameters, 54,528 of them statistics.
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
        def separable(ins: int, outs: int) -> SeparableConv:
            return SeparableConv(ins, outs, padding="SAME", use_bias=False, dtype=dtype, rngs=rngs)

        def block(name: str) -> Chain:
            layers: dict[str, nnx.Module] = {}
            for number, (ins, outs) in enumerate(pairwise(BLOCKS[name]), start=1):
                if name != "block2" or number > 1:  # block1 ends in a ReLU
                    layers[f"sepconv{number}_act"] = Activation(jax.nn.relu)
                layers[f"sepconv{number}"] = separable(ins, outs)
                layers[f"sepconv{number}_bn"] = BatchNorm(outs, dtype=dtype)
            if name not in SHORTCUTS:
                return Residual(**layers)
            layers["pool"] = MaxPool(3, strides=2, padding="SAME")
            ins, *_, outs = BLOCKS[name]
            shortcut = projection(ins, outs, strides=2, norm=True, dtype=dtype, rngs=rngs)
            # Keras gave these no names, so they bear the ones it makes up (see jaxvision.weights).
            shortcut.keras_names = tuple(zip(shortcut.names, SHORTCUTS[name], strict=True))
            return Residual(shortcut=shortcut, **layers)

        base = Chain(
            block1_conv1=Conv(input_shape[-1], 32, 3, strides=2, use_bias=False, dtype=dtype, rngs=rngs),
            block1_conv1_bn=BatchNorm(32, dtype=dtype),
            block1_conv1_act=Activation(jax.nn.relu),
            block1_conv2=Conv(32, 64, 3, use_bias=False, dtype=dtype, rngs=rngs),
            block1_conv2_bn=BatchNorm(64, dtype=dtype),
            block1_conv2_act=Activation(jax.nn.relu),
            **{name: block(name) for name in BLOCKS},
            block14_sepconv1=separable(1024, 1536),
            block14_sepconv1_bn=BatchNorm(1536, dtype=dtype),
            block14_sepconv1_act=Activation(jax.nn.relu),
            block14_sepconv2=separable(1536, 2048),
            block14_sepconv2_bn=BatchNorm(2048, dtype=dtype),
            block14_sepconv2_act=Activation(jax.nn.relu),
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
