"""The derivative of maximum pooling, as two JAX primitives that are each other's transpose.

`chosen` takes the pixel that each window chose, its transpose adds up what windows have at the pixels they chose. The
choice is an operand, so that on a CPU the latter may be a kernel of oneDNN, and any order and mode of differentiation
stays within the two.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxvision.nn import onednn_gradients, onednn_trial
from jaxvision.nn.window import Window, is_ordinary, slices

Rule = Callable[..., jax.Array]
"""`(operand, positions, window=window) -> array`, linear in the operand."""


def chosen(x: jax.Array, which: jax.Array, window: Window) -> jax.Array:
    """The pixels that windows chose: (B, H, W, C), row-wise positions in windows (B, H', W', C) -> (B, H', W', C), in
    the dtype of x."""
    rule = partial(chosen_p.bind, window=window) if is_ordinary(window, x, which) else partial(_chosen, window=window)
    return rule(x, which)


def _chosen(x: jax.Array, which: jax.Array, window: Window) -> jax.Array:
    if window.strides == window.kernel and not window.is_padded:
        return _chosen_of_tiles(x, which, window)
    total = jnp.zeros(which.shape, x.dtype)
    for position, seen in enumerate(slices(x, window, 0.0)):
        total += jnp.where(which == which.dtype.type(position), seen, jnp.zeros_like(seen))
    return total


def _chosen_of_tiles(x: jax.Array, which: jax.Array, window: Window) -> jax.Array:
    # Where windows do not overlap, the transpose is one pass over the picture that asks each pixel whether it was its
    # window's choice. Transposed slices would be as many passes as a window has pixels.
    (batch, height, width, channels), (rows, columns) = which.shape, window.kernel
    tiles = x[:, : height * rows, : width * columns].reshape(batch, height, rows, width, columns, channels)
    position = jnp.arange(rows * columns, dtype=which.dtype).reshape(1, 1, rows, 1, columns, 1)
    is_chosen = which[:, :, None, :, None, :] == jnp.broadcast_to(position, tiles.shape)
    return jnp.sum(jnp.where(is_chosen, tiles, jnp.zeros_like(tiles)), axis=(2, 4))


def _spread(values: jax.Array, which: jax.Array, window: Window) -> jax.Array:
    """Adds up at each pixel what the windows have that chose it: (B, H', W', C) -> (B, H, W, C)."""
    picture = jax.ShapeDtypeStruct((values.shape[0], *window.size, values.shape[3]), values.dtype)
    (total,) = jax.linear_transpose(lambda x: _chosen(x, which, window), picture)(values)
    return total


def _spread_on_cpu(values: jax.Array, which: jax.Array, window: Window) -> jax.Array:
    is_possible = (
        which.dtype == jnp.int8
        and values.size >= onednn_gradients.LEAST
        and onednn_trial.available("package", values.dtype.name)
    )
    return (onednn_gradients.max_pool_gradient if is_possible else _spread)(values, which, window)


def _primitive(name: str, rule: Rule, cpu: Rule) -> Primitive:
    """A primitive that is linear in its first operand, with what JAX must know but its transpose."""
    primitive = Primitive(name)
    alone = jax.jit(rule, static_argnames="window")  # no call of Python in a program of its own: see `python_ffi`
    primitive.def_impl(lambda *operands, window: alone(*operands, window=window))

    def abstract(a: ShapedArray, which: ShapedArray, *, window: Window) -> ShapedArray:
        out = jax.eval_shape(
            partial(rule, window=window), *(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in (a, which))
        )
        return ShapedArray(out.shape, out.dtype)

    def lower_for_cpu(context: mlir.LoweringRuleContext, a, which, *, window: Window):
        # The partitioner cannot split a custom call over devices.
        split = getattr(context.module_context.axis_context, "num_devices", 1) > 1
        lowered = partial(rule if split else cpu, window=window)
        return mlir.lower_fun(lowered, multiple_results=False)(context, a, which)

    def tangent(primals, tangents, *, window: Window):
        (a, which), (change, _) = primals, tangents
        out = primitive.bind(a, which, window=window)
        if type(change) is ad.Zero:
            return out, ad.Zero(jax.typeof(out))
        return out, primitive.bind(change, which, window=window)

    def batched(operands, axes, *, window: Window):
        count = next(v.shape[axis] for v, axis in zip(operands, axes, strict=True) if axis is not None)
        fronts = [batching.bdim_at_front(v, axis, count) for v, axis in zip(operands, axes, strict=True)]
        a, which = (front.reshape(-1, *front.shape[2:]) for front in fronts)
        out = primitive.bind(a, which, window=window)
        return out.reshape(count, fronts[0].shape[1], *out.shape[1:]), 0

    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(rule, multiple_results=False))
    mlir.register_lowering(primitive, lower_for_cpu, platform="cpu")
    ad.primitive_jvps[primitive] = tangent
    batching.primitive_batchers[primitive] = batched
    return primitive


def _transpose_with(other: Primitive) -> Callable:
    def transpose(cotangent, a, which, *, window: Window):
        if type(cotangent) is ad.Zero:
            return ad.Zero(a.aval), None
        return other.bind(cotangent, which, window=window), None

    return transpose


chosen_p = _primitive("jaxvision_chosen", _chosen, _chosen)
spread_p = _primitive("jaxvision_spread", _spread, _spread_on_cpu)
ad.primitive_transposes[chosen_p] = _transpose_with(spread_p)
ad.primitive_transposes[spread_p] = _transpose_with(chosen_p)
