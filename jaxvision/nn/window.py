"""The geometry of a convolution or pooling, and the compiler's convolution with its two gradients in those terms."""

import dataclasses
import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

Size = tuple[int, int]
Pads = tuple[tuple[int, int], tuple[int, int]]

_LAYOUT = ("NHWC", "HWIO", "NHWC")


@dataclass(frozen=True)
class Window:
    """How a kernel moves over a picture; all pairs are (height, width)."""

    size: Size
    """Of the picture."""
    kernel: Size
    strides: Size
    padding: Pads
    """Zeros before and after each axis."""
    dilation: Size
    """Distance between the pixels that neighbouring taps of the kernel see."""
    groups: int

    @property
    def out_size(self) -> Size:
        """Of the output."""
        height, width = (
            (self.size[axis] + sum(self.padding[axis]) - self.dilation[axis] * (self.kernel[axis] - 1) - 1)
            // self.strides[axis]
            + 1
            for axis in (0, 1)
        )
        return height, width

    @property
    def is_padded(self) -> bool:
        return self.padding != ((0, 0), (0, 0))

    def replace(self, **changes) -> "Window":
        return dataclasses.replace(self, **changes)


def compiler_conv(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """(B, H, W, C), (kh, kw, C / groups, D) -> (B, H', W', D)."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window.strides,
        window.padding,
        rhs_dilation=window.dilation,
        dimension_numbers=_LAYOUT,
        feature_group_count=window.groups,
    )


def compiler_input_gradient(cotangent: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """(B, H', W', D), (kh, kw, C / groups, D) -> (B, H, W, C)."""
    shape = (cotangent.shape[0], *window.size, kernel.shape[2] * window.groups)
    x = jax.ShapeDtypeStruct(shape, cotangent.dtype)
    return jax.linear_transpose(lambda x: compiler_conv(x, kernel, window), x)(cotangent)[0]


def compiler_weight_gradient(x: jax.Array, cotangent: jax.Array, window: Window) -> jax.Array:
    """(B, H, W, C), (B, H', W', D) -> (kh, kw, C / groups, D)."""
    kernel = jax.ShapeDtypeStruct((*window.kernel, x.shape[3] // window.groups, cotangent.shape[3]), x.dtype)
    return jax.linear_transpose(lambda kernel: compiler_conv(x, kernel, window), kernel)(cotangent)[0]


def is_ordinary(window: Window, *arrays: jax.Array) -> bool:
    """Whether shapes are numbers above 0, pads not negative, and all arrays whole or split by the compiler alone."""
    sizes = itertools.chain(window.kernel, window.out_size, *(array.shape for array in arrays))
    if not all(isinstance(size, int) and size > 0 for size in sizes) or min(map(min, window.padding)) < 0:
        return False
    meshes = (jax.typeof(array).sharding.mesh for array in arrays)
    return not any(mesh.manual_axes or mesh.explicit_axes for mesh in meshes)


def slices(x: jax.Array, window: Window, fill: float) -> list[jax.Array]:
    """The values at each of the window's positions, row by row: strided slices of shape (B, H', W', C)."""
    if window.is_padded:
        x = jnp.pad(x, ((0, 0), *window.padding, (0, 0)), constant_values=fill)
    (height, width), (down, across) = window.out_size, window.strides
    return [
        x[:, i : i + (height - 1) * down + 1 : down, j : j + (width - 1) * across + 1 : across]
        for i in range(window.kernel[0])
        for j in range(window.kernel[1])
    ]
