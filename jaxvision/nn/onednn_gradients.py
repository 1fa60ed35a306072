"""Gradients by kernels of the oneDNN library (`onednn_library`) that jaxlib's own oneDNN does not offer.

A weight gradient made of matrix products needs patches laid out in memory first, which takes as long as the products,
and an input gradient with strides is one convolution for each class of pixels; these kernels need neither. CPU only,
and only where `onednn_trial.available("package", dtype)`; sizes must be above 0 and pads not below.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.nn.onednn_library import (
    Call,
    Operation,
    as_onednn,
    attributes,
    described,
    engine,
    free,
    pictures,
    sizes,
    strided,
)
from jaxvision.nn.window import Window

# Of dnnl_types.h.
_FORWARD_TRAINING, _DIRECT, _MAX = 64, 1, 0x1FF
_SOURCE, _WEIGHTS, _WORKSPACE, _DIFF_SOURCE, _DIFF_DESTINATION, _DIFF_WEIGHTS = 1, 33, 64, 129, 145, 161

_MANY_CHANNELS = 64
"""From so many on, in and out, a weight gradient with strides is the faster for an order of oneDNN's own."""

LEAST = 16_384
"""Numbers in a cotangent from which on these are used, in programs that do more with it (see `python_ffi`)."""


def weight_gradient(x: jax.Array, cotangent: jax.Array, window: Window) -> jax.Array:
    """Of a convolution: (B, H, W, C), (B, H', W', D) -> (kh, kw, C / groups, D), in the dtype of both."""
    shape = (*window.kernel, x.shape[3] // window.groups, cotangent.shape[3])
    config = _config(x.dtype, x.shape, cotangent.shape, shape, window)
    return _weight_gradient(jax.ShapeDtypeStruct(shape, jnp.float32), x, cotangent, **config).astype(x.dtype)


def input_gradient(cotangent: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Of a convolution: (B, H', W', D), (kh, kw, C / groups, D) -> (B, H, W, C), in the dtype of both."""
    shape = (cotangent.shape[0], *window.size, kernel.shape[2] * window.groups)
    config = _config(cotangent.dtype, shape, cotangent.shape, kernel.shape, window)
    return _input_gradient(jax.ShapeDtypeStruct(shape, cotangent.dtype), cotangent, kernel, **config)


def max_pool_gradient(cotangent: jax.Array, which: jax.Array, window: Window) -> jax.Array:
    """Of maximum pooling: the cotangent (B, H', W', C) at the pixels that were chosen, (B, H, W, C) in its dtype.

    Args:
      which: int8 (B, H', W', C), the row-wise position in its window of each choice.
    """
    batch, _, _, channels = cotangent.shape
    shape = (batch, *window.size, channels)
    config = _config(cotangent.dtype, shape, cotangent.shape, window.kernel, window)
    result = jax.ShapeDtypeStruct(shape, cotangent.dtype)
    return _max_pool_gradient(result, cotangent, which.astype(jnp.uint8), **config)


def _config(
    dtype: jnp.dtype, x: Sequence[int], cotangent: Sequence[int], kernel: Sequence[int], window: Window
) -> dict[str, Any]:
    """The fields of `_Layer`."""
    return {
        "dtype": dtype.name, "x": x, "cotangent": cotangent, "kernel": kernel, "groups": window.groups,
        "strides": window.strides, "padding": window.padding, "dilation": window.dilation,
    }  # fmt: skip


@dataclass(frozen=True)
class _Layer:
    """A convolution (kernel: its four sizes) or pooling (kernel: two)."""

    dtype: str
    x: Sequence[int]
    cotangent: Sequence[int]
    kernel: Sequence[int]
    groups: int
    strides: Sequence[int]
    padding: Sequence[Sequence[int]]
    dilation: Sequence[int]

    @property
    def is_strided(self) -> bool:
        """Whether it leaves out pixels, and does not just see a smaller picture."""
        return max(self.strides) > 1 and max(self.kernel[:2]) > 1

    @property
    def source(self) -> ctypes.c_void_p:
        return pictures(self.dtype, self.x)

    @property
    def destination(self) -> ctypes.c_void_p:
        return pictures(self.dtype, self.cotangent)

    @property
    def steps(self) -> tuple[Any, Any]:
        """Strides and dilation."""
        return sizes(self.strides), sizes([step - 1 for step in self.dilation])

    @property
    def pads(self) -> tuple[Any, Any]:
        """Before and after."""
        low, high = (sizes([pads[side] for pads in self.padding]) for side in (0, 1))
        return low, high

    @property
    def weights_shape(self) -> list[int]:
        """(D, C, kh, kw), with groups (G, D / G, C / G, kh, kw)."""
        kh, kw, channels, features = self.kernel
        shape = [features // self.groups, channels, kh, kw]
        return [self.groups, *shape] if self.groups > 1 else shape

    def weights(self, dtype: str) -> ctypes.c_void_p:
        """A kernel (kh, kw, C / groups, D) as it lies in memory."""
        _, kw, channels, features = self.kernel
        apart = [1, features, kw * channels * features, channels * features]
        if self.groups > 1:
            apart = [features // self.groups, *apart]
        return strided(dtype, self.weights_shape, apart)

    def convolution(self, source: ctypes.c_void_p, destination: ctypes.c_void_p) -> tuple[tuple, ctypes.c_void_p]:
        """What all passes are told, and the forward pass."""
        operands = (source, free(self.dtype, self.weights_shape), None, destination, *self.steps, *self.pads)
        create = "dnnl_convolution_forward_primitive_desc_create"
        return operands, described(create, engine(), _FORWARD_TRAINING, _DIRECT, *operands, attributes())


def _make_weight_gradient(**config: Any) -> Call:
    layer = _Layer(**config)
    source, destination = layer.source, layer.destination
    used = [source, destination]
    if layer.is_strided and layer.groups == 1 and min(layer.x[3], layer.cotangent[3]) >= _MANY_CHANNELS:
        # In half the time, the way there included (106 against 47 ms for 8x200x200x64 to 64 channels).
        used = [free(layer.dtype, as_onednn(shape)) for shape in (layer.x, layer.cotangent)]
    operands, forward = layer.convolution(*used)
    create = "dnnl_convolution_backward_weights_primitive_desc_create"
    backward = described(create, engine(), _DIRECT, *operands, forward, attributes())
    return Call(backward, {_SOURCE: source, _DIFF_DESTINATION: destination}, (_DIFF_WEIGHTS, layer.weights("float32")))


def _make_input_gradient(**config: Any) -> Call:
    layer = _Layer(**config)
    (source, weights, _, destination, *rest), forward = layer.convolution(layer.source, layer.destination)
    create = "dnnl_convolution_backward_data_primitive_desc_create"
    backward = described(create, engine(), _DIRECT, source, weights, destination, *rest, forward, attributes())
    operands = {_DIFF_DESTINATION: destination, _WEIGHTS: layer.weights(layer.dtype)}
    return Call(backward, operands, (_DIFF_SOURCE, source))


def _make_max_pool_gradient(**config: Any) -> Call:
    layer = _Layer(**config)
    steps, distances = layer.steps
    operands = (_MAX, layer.source, layer.destination, steps, sizes(layer.kernel), distances, *layer.pads)
    create = "dnnl_pooling_forward_primitive_desc_create"
    forward = described(create, engine(), _FORWARD_TRAINING, *operands, attributes())
    backward = described("dnnl_pooling_backward_primitive_desc_create", engine(), *operands, forward, attributes())
    which = pictures("uint8", layer.cotangent)
    return Call(backward, {_DIFF_DESTINATION: layer.destination, _WORKSPACE: which}, (_DIFF_SOURCE, layer.source))


_weight_gradient = Operation("jaxvision_onednn_weight_gradient", _make_weight_gradient)
_input_gradient = Operation("jaxvision_onednn_input_gradient", _make_input_gradient)
_max_pool_gradient = Operation("jaxvision_onednn_max_pool_gradient", _make_max_pool_gradient)
