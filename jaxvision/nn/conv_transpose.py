"""Transposed convolution as a layer."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn.activation import ActivationFunction, linear
from jaxvision.nn.conv import DEFAULT_LOWERING, Padding, conv_transpose2d
from jaxvision.nn.dtypes import in_dtype
from jaxvision.nn.initializers import GLOROT_UNIFORM, Initializer


class ConvTranspose(nnx.Module):
    """`activation(conv_transpose2d(x, kernel) + bias)`: (B, h, w, in) -> (B, H, W, out), as Keras' Conv2DTranspose.

    The transpose of the convolution that goes from `out` to `in` channels (Zeiler et al. 2010): each pixel of `x` adds
    its multiple of the kernel to the output, `strides` apart. "SAME" gives H = h * strides, "VALID"
    h * strides + max(kernel_size - strides, 0). Kernel (kh, kw, out, in) glorot-uniform, bias (out,) zero, both
    float32. `dtype` is the type of the computation and of the output; `set_lowering` reaches it as it does `Conv`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        *,
        strides: int = 1,
        padding: Padding = "VALID",
        use_bias: bool = True,
        activation: ActivationFunction = linear,
        kernel_init: Initializer = GLOROT_UNIFORM,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shape = (kernel_size, kernel_size, out_features, in_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32)) if use_bias else None
        self.strides, self.padding = (strides, strides), padding
        self.activation, self.dtype, self.lowering = activation, dtype, DEFAULT_LOWERING

    def __call__(self, x: jax.Array) -> jax.Array:
        x, kernel = in_dtype(self.dtype, x, self.kernel)
        x = conv_transpose2d(x, kernel, strides=self.strides, padding=self.padding, lowering=self.lowering)
        if self.bias is not None:
            x = x + in_dtype(self.dtype, self.bias)[None, None, None, :]
        return self.activation(x)
