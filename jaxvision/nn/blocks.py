"""What modern convnets are built of: convolution with BatchNorm and activation, and residual blocks."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn.activation import Activation, ActivationFunction
from jaxvision.nn.chain import Chain, apply
from jaxvision.nn.conv import Conv, Padding
from jaxvision.nn.depthwise import SeparableConv
from jaxvision.nn.norm import BatchNorm

Order = Literal["conv-norm-act", "conv-act-norm", "norm-act-conv"]


class ConvNormAct(Chain):
    """A convolution, BatchNorm and an activation: (B, H, W, in) -> (B, H', W', out); layers `conv`, `bn`, `act`.

    order: "conv-norm-act", `act(bn(conv(x)))` (Ioffe & Szegedy 2015, recommended: it is the input of a ReLU that is
      centred); "conv-act-norm", `bn(act(conv(x)))`; "norm-act-conv", `conv(act(bn(x)))`, pre-activation (He et al.
      2016, identity mappings).
    norm: False leaves BatchNorm out; convolution and activation keep their order.
    separable: a depthwise-separable convolution (Chollet 2017) in place of a plain one.

    The convolution has no bias where BatchNorm takes it off again: the block's own in "conv-norm-act", the next
    block's in "norm-act-conv". strides, padding and dilation as in `Conv`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        *,
        order: Order = "conv-norm-act",
        norm: bool = True,
        separable: bool = False,
        strides: int = 1,
        padding: Padding = "SAME",
        dilation: int = 1,
        activation: ActivationFunction = jax.nn.relu,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        layers: dict[str, nnx.Module] = {}
        for part in order.split("-"):
            if part == "conv":
                layers["conv"] = (SeparableConv if separable else Conv)(
                    in_features,
                    out_features,
                    kernel_size,
                    strides=strides,
                    padding=padding,
                    dilation=dilation,
                    use_bias=not norm or order == "conv-act-norm",
                    dtype=dtype,
                    rngs=rngs,
                )
            elif part == "act":
                layers["act"] = Activation(activation)
            elif norm:
                layers["bn"] = BatchNorm(in_features if order == "norm-act-conv" else out_features, dtype=dtype)
        super().__init__(**layers)


class Residual(Chain):
    """What its layers make of `x`, plus `shortcut(x)` (He et al. 2015): (B, H, W, in) -> (B, H', W', out).

    shortcut: a layer that gives the layers' shape, such as `projection` makes; None: `x` itself.
    """

    def __init__(self, *, shortcut: nnx.Module | None = None, **layers: nnx.Module):
        super().__init__(**layers)
        self.shortcut = Chain() if shortcut is None else shortcut

    @property
    def keras_order(self) -> tuple[str, ...]:
        """The shortcut comes after the layers (see jaxvision.weights)."""
        return (*self.names, "shortcut")

    keras_side = ("shortcut",)

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        return super().__call__(x, train, rngs=rngs) + apply(self.shortcut, x, train, rngs)


def projection(
    in_features: int,
    out_features: int,
    *,
    strides: int = 1,
    use_bias: bool = True,
    norm: bool = False,
    dtype: jnp.dtype = jnp.float32,
    rngs: nnx.Rngs,
) -> Chain:
    """A shortcut to another shape, (B, H, W, in) -> (B, ceil(H / strides), ceil(W / strides), out): a 1x1 convolution
    without activation, `conv`, and with `norm` BatchNorm, `bn` (He et al. 2015, option B).

    An empty chain, `x` itself, where the shape stays.
    """
    if strides == 1 and in_features == out_features:
        return Chain()
    conv = Conv(
        in_features, out_features, 1, strides=strides, padding="SAME", use_bias=use_bias and not norm, dtype=dtype,
        rngs=rngs,
    )  # fmt: skip
    return Chain(conv=conv, bn=BatchNorm(out_features, dtype=dtype)) if norm else Chain(conv=conv)
