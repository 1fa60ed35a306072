"""Convolution and its two gradients as JAX primitives that choose their lowering by platform.

All three are faces of one trilinear form <cotangent, conv(x, kernel)>: each is bilinear, and its transposes are the
other two. So every order and mode of differentiation stays within them, and a program lowered for several platforms
holds the right code for each: the compiler's own convolution on GPU and TPU, `conv_cpu` on a CPU.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxvision.nn import conv_cpu
from jaxvision.nn.window import Window, compiler_conv, compiler_input_gradient, compiler_weight_gradient

Rule = Callable[..., jax.Array]
"""`(operand, operand, window=window) -> array`."""


_MOST_ONE_BY_ONE = 16
"""On a CPU, up to so many kernels of a `vmap` are computed in turn, which runs fast; more would compile for long."""


def _primitive(name: str, compiler: Rule, cpu: Rule, *, folds: bool) -> Primitive:
    """A bilinear primitive with what JAX must know but its transposes.

    folds: whether a batch of first arguments is just more examples for the same second argument.
    """
    primitive = Primitive(name)
    bind = jax.jit(primitive.bind, static_argnames="window")

    def alone(a: jax.Array, b: jax.Array, *, window: Window) -> jax.Array:
        with jax.disable_jit(False):  # a primitive's own program is needed where a debugger's user wants no others
            return bind(a, b, window=window)

    primitive.def_impl(alone)

    def abstract(a: ShapedArray, b: ShapedArray, *, window: Window) -> ShapedArray:
        out = jax.eval_shape(
            partial(compiler, window=window), *(jax.ShapeDtypeStruct(v.shape, v.dtype) for v in (a, b))
        )
        return ShapedArray(out.shape, out.dtype)

    def lower_for_cpu(context: mlir.LoweringRuleContext, a: Any, b: Any, *, window: Window):
        # The partitioner cannot split a custom call over devices; the compiler's convolution it can.
        split = getattr(context.module_context.axis_context, "num_devices", 1) > 1
        rule = compiler if split else cpu
        return mlir.lower_fun(partial(rule, window=window), multiple_results=False)(context, a, b)

    def batched(operands, axes, *, window: Window):
        a, b = operands
        if folds and axes[1] is None:
            a = jnp.moveaxis(a, axes[0], 0)
            out = primitive.bind(a.reshape(-1, *a.shape[2:]), b, window=window)
            return out.reshape(*a.shape[:2], *out.shape[1:]), 0

        count = next(v.shape[axis] for v, axis in zip(operands, axes, strict=True) if axis is not None)
        together = jax.vmap(partial(compiler, window=window), in_axes=tuple(axes))
        if not 0 < count <= _MOST_ONE_BY_ONE:
            return together(a, b), 0

        def one_by_one(*operands: jax.Array) -> jax.Array:
            def member(n: int) -> jax.Array:
                picked = (
                    v if axis is None else jax.lax.index_in_dim(v, n, axis, keepdims=False)
                    for v, axis in zip(operands, axes, strict=True)
                )  # fmt: skip
                return primitive.bind(*picked, window=window)

            return jnp.stack([member(n) for n in range(count)])

        return jax.lax.platform_dependent(a, b, cpu=one_by_one, default=together), 0

    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, mlir.lower_fun(compiler, multiple_results=False))
    mlir.register_lowering(primitive, lower_for_cpu, platform="cpu")
    batching.primitive_batchers[primitive] = batched
    return primitive


conv_p = _primitive("jaxvision_conv", compiler_conv, conv_cpu.forward, folds=True)
input_gradient_p = _primitive(
    "jaxvision_conv_input_gradient", compiler_input_gradient, conv_cpu.input_gradient, folds=True
)
weight_gradient_p = _primitive(
    "jaxvision_conv_weight_gradient", compiler_weight_gradient, conv_cpu.weight_gradient, folds=False
)


def _computed_alone(gradient: Primitive, compiler: Rule, cpu: Rule) -> None:
    """Outside of a program a gradient would be one of its own, of nothing but a call of Python (see `python_ffi`)."""
    alone = _primitive(f"{gradient.name}_alone", compiler, partial(cpu, is_alone=True), folds=False)
    gradient.def_impl(alone.impl)


_computed_alone(input_gradient_p, compiler_input_gradient, conv_cpu.input_gradient)
_computed_alone(weight_gradient_p, compiler_weight_gradient, conv_cpu.weight_gradient)

# conv(x, kernel), input_gradient(cotangent, kernel), weight_gradient(x, cotangent): the rules get the cotangent of the
# output first, then the two operands, of which the one that is asked for has no value.
ad.defbilinear(
    conv_p,
    lambda ct, x, kernel, *, window: input_gradient_p.bind(ct, kernel, window=window),
    lambda ct, x, kernel, *, window: weight_gradient_p.bind(x, ct, window=window),
)
ad.defbilinear(
    input_gradient_p,
    lambda ct, cotangent, kernel, *, window: conv_p.bind(ct, kernel, window=window),
    lambda ct, cotangent, kernel, *, window: weight_gradient_p.bind(ct, cotangent, window=window),
)
ad.defbilinear(
    weight_gradient_p,
    lambda ct, x, cotangent, *, window: input_gradient_p.bind(cotangent, ct, window=window),
    lambda ct, x, cotangent, *, window: conv_p.bind(x, ct, window=window),
)
