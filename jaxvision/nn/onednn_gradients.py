"""Gradients by kernels of the oneDNN library (`onednn_library`) that jaxlib's own oneDNN does not offer.

A weight gradient made of matrix products needs patches laid out in memory first, which takes as long as the products.
These kernels read the pictures where they lie. CPU only, and only where `onednn_trial.available("package", dtype)`;
sizes must be above 0 and pads not below.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxvision.nn.onednn_library import (
    TYPES,
    Buffer,
    Operation,
    Primitive,
    attributes,
    byte_size,
    described,
    engine,
    memory,
    pictures,
    place,
    queried,
    sizes,
    strided,
)
from jaxvision.nn.window import Window

# Of dnnl_types.h.
_ANY, _FORWARD_TRAINING, _DIRECT, _MAX = 1, 64, 1, 0x1FF
_SOURCE, _DESTINATION, _WORKSPACE, _DIFF_SOURCE, _DIFF_DESTINATION, _DIFF_WEIGHTS = 1, 17, 64, 129, 145, 161
_QUERY_DIFF_WEIGHTS = 132

LEAST = 16_384
"""Numbers in a cotangent from which on these are used, in programs that do more with it (see `python_ffi`)."""


def weight_gradient(x: jax.Array, cotangent: jax.Array, window: Window) -> jax.Array:
    """Of a convolution: (B, H, W, C), (B, H', W', D) -> (kh, kw, C / groups, D), in the dtype of both."""
    shape = (*window.kernel, x.shape[3] // window.groups, cotangent.shape[3])
    config = {"dtype": x.dtype.name, "x": x.shape, "cotangent": cotangent.shape, "kernel": shape, **_geometry(window)}
    result = jax.ShapeDtypeStruct(shape, jnp.float32)
    return _weight_gradient(result, x, cotangent, groups=window.groups, **config).astype(x.dtype)


def max_pool_gradient(cotangent: jax.Array, which: jax.Array, window: Window) -> jax.Array:
    """Of maximum pooling: the cotangent (B, H', W', C) at the pixels that were chosen, (B, H, W, C) in its dtype.

    Args:
      which: int8 (B, H', W', C), the row-wise position in its window of each choice.
    """
    batch, _, _, channels = cotangent.shape
    shape = (batch, *window.size, channels)
    config = {"dtype": cotangent.dtype.name, "x": shape, "cotangent": cotangent.shape, "kernel": window.kernel}
    result = jax.ShapeDtypeStruct(shape, cotangent.dtype)
    return _max_pool_gradient(result, cotangent, which.astype(jnp.uint8), **config, **_geometry(window))


def _geometry(window: Window) -> dict[str, Any]:
    return {"strides": window.strides, "padding": window.padding, "dilation": window.dilation}


class _WeightGradient:
    def __init__(
        self,
        dtype: str,
        x: Sequence[int],
        cotangent: Sequence[int],
        kernel: Sequence[int],
        groups: int,
        strides: Sequence[int],
        padding: Sequence[Sequence[int]],
        dilation: Sequence[int],
    ):
        kh, kw, channels, features = kernel
        shape = [features // groups, channels, kh, kw]
        apart = [1, features, kw * channels * features, channels * features]
        if groups > 1:
            shape, apart = [groups, *shape], [features // groups, *apart]
        source, diff_destination = pictures(dtype, x), pictures(dtype, cotangent)
        # oneDNN computes in an order of its own, and another primitive brings that into ours.
        free = described("dnnl_memory_desc_create_with_tag", len(shape), sizes(shape), TYPES[dtype], _ANY)
        ours = strided("float32", shape, apart)
        operands = (source, free, None, diff_destination, *_steps(strides, dilation), *_pads(padding))
        forward = described(
            "dnnl_convolution_forward_primitive_desc_create",
            engine(),
            _FORWARD_TRAINING,
            _DIRECT,
            *operands,
            attributes(),
        )
        backward = described(
            "dnnl_convolution_backward_weights_primitive_desc_create",
            engine(),
            _DIRECT,
            *operands,
            forward,
            attributes(),
        )
        found = queried(backward, _QUERY_DIFF_WEIGHTS)
        reorder = described("dnnl_reorder_primitive_desc_create", found, engine(), ours, engine(), attributes())
        self._between = Buffer(byte_size(found))
        between = memory(found, self._between.address)
        self._memories = memory(source), memory(diff_destination), memory(ours)
        x_, cotangent_, gradient = self._memories
        arguments = {_SOURCE: x_, _DIFF_DESTINATION: cotangent_, _DIFF_WEIGHTS: between}
        self._primitives = (
            Primitive(backward, arguments),
            Primitive(reorder, {_SOURCE: between, _DESTINATION: gradient}),
        )

    def __call__(self, *addresses: int) -> None:
        _run(self._memories, addresses, self._primitives)


class _MaxPoolGradient:
    def __init__(
        self,
        dtype: str,
        x: Sequence[int],
        cotangent: Sequence[int],
        kernel: Sequence[int],
        strides: Sequence[int],
        padding: Sequence[Sequence[int]],
        dilation: Sequence[int],
    ):
        source, destination = pictures(dtype, x), pictures(dtype, cotangent)
        steps, distances = _steps(strides, dilation)
        operands = (_MAX, source, destination, steps, sizes(kernel), distances, *_pads(padding))
        forward = described(
            "dnnl_pooling_forward_primitive_desc_create", engine(), _FORWARD_TRAINING, *operands, attributes()
        )
        backward = described("dnnl_pooling_backward_primitive_desc_create", engine(), *operands, forward, attributes())
        self._memories = memory(destination), memory(pictures("uint8", cotangent)), memory(source)
        cotangent_, which, gradient = self._memories
        arguments = {_DIFF_DESTINATION: cotangent_, _WORKSPACE: which, _DIFF_SOURCE: gradient}
        self._primitives = (Primitive(backward, arguments),)

    def __call__(self, *addresses: int) -> None:
        _run(self._memories, addresses, self._primitives)


def _steps(strides: Sequence[int], dilation: Sequence[int]) -> tuple[Any, Any]:
    return sizes(strides), sizes([step - 1 for step in dilation])


def _pads(padding: Sequence[Sequence[int]]) -> tuple[Any, Any]:
    low, high = (sizes([pads[side] for pads in padding]) for side in (0, 1))
    return low, high


def _run(memories: Sequence[ctypes.c_void_p], addresses: Sequence[int], primitives: Sequence[Primitive]) -> None:
    for each, address in zip(memories, addresses, strict=True):
        place(each, address)
    for primitive in primitives:
        primitive()


_weight_gradient = Operation("jaxvision_onednn_weight_gradient", _WeightGradient)
_max_pool_gradient = Operation("jaxvision_onednn_max_pool_gradient", _MaxPoolGradient)
