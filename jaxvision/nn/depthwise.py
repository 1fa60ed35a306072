"""Convolutions that see each channel by itself, and with a 1x1 convolution after that."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn.activation import ActivationFunction, linear
from jaxvision.nn.conv import Conv, Padding
from jaxvision.nn.initializers import GLOROT_UNIFORM, Initializer
from jaxvision.nn.window import Pads


class DepthwiseConv(Conv):
    """Each channel convolved with `multiplier` kernels of its own: (B, H, W, C) -> (B, H', W', C * multiplier).

    y[h, w, c * M + m] = sum_ij x[h + i, w + j, c] k[i, j, 0, c * M + m], M the multiplier (Sifre 2014), and the bias.
    Output channel `c * multiplier + m` is the m-th of input channel c. The kernel is (kh, kw, 1, C * multiplier), a
    reshape of Keras' (kh, kw, C, multiplier), and drawn in that shape: an initializer then counts kh * kw * C inputs,
    kh * kw * multiplier outputs. Options as in `Conv`.
    """

    def __init__(
        self,
        features: int,
        kernel_size: int = 3,
        *,
        multiplier: int = 1,
        strides: int = 1,
        padding: Padding | Pads = "VALID",
        dilation: int = 1,
        use_bias: bool = True,
        activation: ActivationFunction = linear,
        kernel_init: Initializer = GLOROT_UNIFORM,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        def as_keras(key, shape, dtype):
            return kernel_init(key, (*shape[:2], features, multiplier), dtype).reshape(shape)

        super().__init__(
            features,
            features * multiplier,
            kernel_size,
            strides=strides,
            padding=padding,
            dilation=dilation,
            groups=features,
            use_bias=use_bias,
            activation=activation,
            kernel_init=as_keras,
            dtype=dtype,
            rngs=rngs,
        )


class SeparableConv(nnx.Module):
    """`activation(pointwise(depthwise(x)) + bias)`: (B, H, W, in) -> (B, H', W', out), as Keras' SeparableConv2D.

    A depthwise convolution without bias looks across the picture, a 1x1 convolution across the channels (Chollet 2017).
    Options as in `DepthwiseConv`; the bias is the pointwise convolution's.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        *,
        multiplier: int = 1,
        strides: int = 1,
        padding: Padding | Pads = "VALID",
        dilation: int = 1,
        use_bias: bool = True,
        activation: ActivationFunction = linear,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        self.depthwise = DepthwiseConv(
            in_features,
            kernel_size,
            multiplier=multiplier,
            strides=strides,
            padding=padding,
            dilation=dilation,
            use_bias=False,
            dtype=dtype,
            rngs=rngs,
        )
        self.pointwise = Conv(
            in_features * multiplier, out_features, 1, use_bias=use_bias, activation=activation, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.pointwise(self.depthwise(x))
