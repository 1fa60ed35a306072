"""Convolution and transposed convolution of pictures."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn.activation import ActivationFunction, linear
from jaxvision.nn.conv_primitive import conv_p, input_gradient_p
from jaxvision.nn.dtypes import in_dtype
from jaxvision.nn.initializers import GLOROT_UNIFORM, Initializer
from jaxvision.nn.window import Pads, Size, Window, compiler_conv, compiler_input_gradient, is_ordinary

Padding = Literal["VALID", "SAME"]
Lowering = Literal["auto", "lax"]
DEFAULT_LOWERING: Lowering = "auto"


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Size = (1, 1),
    padding: Padding | Pads = "VALID",
    dilation: Size = (1, 1),
    groups: int = 1,
    lowering: Lowering = "auto",
) -> jax.Array:
    """Cross-correlation: (B, H, W, C), (kh, kw, C / groups, D) -> (B, H', W', D), in the dtype of `x` and `kernel`.

    Args:
      padding: "VALID" (none), "SAME" (zeros such that H' = ceil(H / stride), more of them at the end), or the numbers
        ((top, bottom), (left, right)).
      dilation: distance between the pixels that neighbouring taps of the kernel see (Yu & Koltun 2016).
      groups: inputs and outputs in so many groups of channels, each seeing only its own; C is a depthwise convolution.
      lowering: "lax" is the compiler's own convolution as it stands, on every platform. "auto" is the same on GPU and
        TPU; a CPU takes what measured best (`jaxvision.nn.conv_cpu`), equal to rounding. Both have every derivative
        and `vmap`. Split over devices (jit on a mesh, `shard_map`, explicit sharding) "auto" is "lax". `jax.export`
        for a CPU needs "lax".

    Raises:
      ValueError: shapes that do not fit together, or a padding or stride that does not exist.
    """
    channels, features = kernel.shape[2] * groups, kernel.shape[3]
    if x.shape[3] != channels or features % groups:
        raise ValueError(
            f"conv2d: kernel (kh, kw, C / groups, D) must fit the {x.shape[3]} channels of x, and groups divide D."
            f" Received: x {x.shape}, kernel {kernel.shape}, groups={groups}"
        )
    window = _window(_size(x.shape[1:3]), _size(kernel.shape[:2]), strides, padding, dilation, groups)
    if lowering == "lax" or not is_ordinary(window, x, kernel):
        return compiler_conv(x, kernel, window)
    return conv_p.bind(x, kernel, window=window)


def conv_transpose2d(
    x: jax.Array,
    kernel: jax.Array,
    *,
    strides: Size = (1, 1),
    padding: Padding = "VALID",
    lowering: Lowering = "auto",
) -> jax.Array:
    """The transpose of `conv2d`, as Keras' Conv2DTranspose: (B, h, w, D), (kh, kw, C, D) -> (B, H, W, C).

    "SAME" gives H = h * stride, "VALID" H = h * stride + max(kh - stride, 0). `lowering` as in `conv2d`.
    """
    if x.shape[3] != kernel.shape[3]:
        raise ValueError(
            f"conv_transpose2d: kernel (kh, kw, C, D) must end with the {x.shape[3]} channels of x."
            f" Received: x {x.shape}, kernel {kernel.shape}"
        )
    more = [max(k - s, 0) if padding == "VALID" else 0 for k, s in zip(kernel.shape, strides, strict=False)]
    height, width = (x.shape[1 + axis] * strides[axis] + more[axis] for axis in (0, 1))
    window = _window((height, width), _size(kernel.shape[:2]), strides, padding, (1, 1), 1)
    if lowering == "lax" or not is_ordinary(window, x, kernel):
        return compiler_input_gradient(x, kernel, window)
    return input_gradient_p.bind(x, kernel, window=window)


def _size(shape: tuple[int, ...]) -> Size:
    height, width = shape
    return height, width


def _window(x_size: Size, kernel: Size, strides: Size, padding: Padding | Pads, dilation: Size, groups: int) -> Window:
    if min(*strides, *dilation, groups) < 1 or (isinstance(padding, str) and padding not in get_args(Padding)):
        raise ValueError(
            "convolution: strides, dilation and groups are at least 1, padding is SAME, VALID or numbers."
            f" Received: strides={strides}, dilation={dilation}, groups={groups}, padding={padding!r}"
        )
    if isinstance(padding, str):
        extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
        (top, bottom), (left, right) = jax.lax.padtype_to_pads(x_size, extent, strides, padding)
        padding = ((int(top), int(bottom)), (int(left), int(right)))
    (rows_apart, columns_apart), (down, across) = strides, dilation
    return Window(x_size, kernel, (rows_apart, columns_apart), padding, (down, across), groups)


class Conv(nnx.Module):
    """2-D convolution with bias and activation: `activation(conv2d(x, kernel) + bias)`.

    Kernel (kh, kw, in / groups, out) glorot-uniform, bias (out,) zero, both float32, as Keras' Conv2D. padding,
    dilation and groups as in `conv2d`. `dtype` is the type of the computation and of the output. `set_lowering`
    chooses how a whole model convolves.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        kernel_size: int = 3,
        *,
        strides: int = 1,
        padding: Padding | Pads = "VALID",
        dilation: int = 1,
        groups: int = 1,
        use_bias: bool = True,
        activation: ActivationFunction = linear,
        kernel_init: Initializer = GLOROT_UNIFORM,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        shape = (kernel_size, kernel_size, in_features // groups, out_features)
        self.kernel = nnx.Param(kernel_init(rngs.params(), shape, jnp.float32))
        self.bias = nnx.Param(jnp.zeros((out_features,), jnp.float32)) if use_bias else None
        self.strides, self.padding, self.dilation, self.groups = (
            (strides, strides),
            padding,
            (dilation, dilation),
            groups,
        )
        self.activation, self.dtype, self.lowering = activation, dtype, DEFAULT_LOWERING

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.finish(self.convolve(x))

    def convolve(self, x: jax.Array) -> jax.Array:
        """The convolution alone."""
        x, kernel = in_dtype(self.dtype, x, self.kernel)
        return conv2d(
            x,
            kernel,
            strides=self.strides,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            lowering=self.lowering,
        )

    def finish(self, x: jax.Array) -> jax.Array:
        """Bias and activation of what was convolved."""
        if self.bias is not None:
            x = x + in_dtype(self.dtype, self.bias)[None, None, None, :]
        return self.activation(x)


def set_lowering(model: nnx.Module, lowering: Lowering) -> None:
    """Makes every convolution in `model` use that lowering (see `conv2d`)."""
    for _, module in nnx.iter_modules(model):
        if hasattr(module, "lowering"):
            module.lowering = lowering
