"""Convolution, with a lowering that suits the backend."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.custom_derivatives import SymbolicZero

from jaxvision.nn.activation import Activation, linear
from jaxvision.nn.dtypes import in_dtype

Padding = Literal["VALID", "SAME"]
Size = tuple[int, int]

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_FEW_CHANNELS = 8
"""Below this many input channels the row products are the faster forward pass on a CPU."""


def conv2d(
    x: jax.Array, kernel: jax.Array, *, strides: Size = (1, 1), padding: Padding = "VALID", lowering: str = "auto"
) -> jax.Array:
    """Cross-correlation: (B, H, W, C), (kh, kw, C, D) -> (B, H', W', D), in the dtype of `x` and `kernel`.

    `lowering="lax"` is the compiler's own convolution as it stands, everywhere. With "auto" a CPU takes what measured
    best (2 cores, jax 0.10.2): the weight gradient, and the forward pass of few channels, as one matrix product per
    kernel row; the forward pass of many channels as the compiler's convolution with a column of padding. Equal to
    rounding. Forward mode, `jvp` of `grad` and `vmap` work with either.
    """
    # One position needs no patches, and then the compiler's convolution already is a matrix product.
    if lowering == "lax" or jax.default_backend() != "cpu" or kernel.shape[:2] == (1, 1):
        return _compilers_conv(x, kernel, strides, padding)
    return _conv_on_cpu(x, kernel, strides, padding)


def _compilers_conv(x: jax.Array, kernel: jax.Array, strides: Size, padding: Padding) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_LAYOUT)


def _row_products(x: jax.Array, kernel: jax.Array, strides: Size, padding: Padding) -> jax.Array:
    """The same convolution as kh products (B*H'*W', kw*C) @ (kw*C, D): patches are laid out along the width only."""
    kh, kw, channels, features = kernel.shape
    pads = jax.lax.padtype_to_pads(x.shape[1:3], (kh, kw), strides, padding)
    if any(low or high for low, high in pads):
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    height = (x.shape[1] - kh) // strides[0] + 1
    width = (x.shape[2] - kw) // strides[1] + 1
    shifted = [x[:, :, j : j + (width - 1) * strides[1] + 1 : strides[1]] for j in range(kw)]
    patches = jnp.concatenate(shifted, axis=-1)
    total = jnp.zeros((x.shape[0] * height * width, features), x.dtype)
    for i in range(kh):
        row = patches[:, i : i + (height - 1) * strides[0] + 1 : strides[0]]
        total = total + row.reshape(-1, kw * channels) @ kernel[i].reshape(kw * channels, features)
    return total.reshape(x.shape[0], height, width, features)


# A custom *jvp*: reverse mode transposes the tangent rule, so the weight gradient becomes the transposed products,
# while forward mode and higher derivatives keep working (a custom vjp has no forward mode).
@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def _conv_on_cpu(x: jax.Array, kernel: jax.Array, strides: Size, padding: Padding) -> jax.Array:
    if kernel.shape[2] < _FEW_CHANNELS:
        return _row_products(x, kernel, strides, padding)
    if padding == "VALID" and strides == (1, 1):
        # XLA computes a convolution with any padding 3 times as fast as one without (36 against 112 ms for 16 pictures
        # of 89x89x32 to 64 channels), so a column of padding is added and its outputs are cut off again.
        return jax.lax.conv_general_dilated(x, kernel, strides, ((0, 0), (0, 1)), dimension_numbers=_LAYOUT)[:, :, :-1]
    return _compilers_conv(x, kernel, strides, padding)


def _conv_on_cpu_jvp(strides: Size, padding: Padding, primals, tangents):
    x, kernel = primals
    x_tangent, kernel_tangent = tangents
    out = _conv_on_cpu(x, kernel, strides, padding)
    tangent = jnp.zeros_like(out)
    # Pictures are not differentiated, and a zero tangent of theirs must not cost a convolution.
    if not isinstance(x_tangent, SymbolicZero):
        tangent = tangent + _compilers_conv(x_tangent, kernel, strides, padding)
    if not isinstance(kernel_tangent, SymbolicZero):
        tangent = tangent + _row_products(x, kernel_tangent, strides, padding)
    return out, tangent


_conv_on_cpu.defjvp(_conv_on_cpu_jvp, symbolic_zeros=True)


class Conv(nnx.Module):
    """2-D convolution with bias and activation: `activation(conv2d(x, kernel) + bias)`.

    Kernel (kh, kw, in, out) glorot-uniform, bias (out,) zero, both float32, as Keras' Conv2D. `dtype` is the type of
    the computation and of the output.
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
        activation: Activation = linear,
        lowering: str = "auto",
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shape = (kernel_size, kernel_size, in_features, out_features)
        self.kernel = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32)) if use_bias else None
        self.strides, self.padding, self.activation = (strides, strides), padding, activation
        self.lowering, self.dtype = lowering, dtype

    def __call__(self, x: jax.Array) -> jax.Array:
        x, kernel = in_dtype(self.dtype, x, self.kernel)
        x = conv2d(x, kernel, strides=self.strides, padding=self.padding, lowering=self.lowering)
        if self.bias is not None:
            x = x + in_dtype(self.dtype, self.bias)[None, None, None, :]
        return self.activation(x)
