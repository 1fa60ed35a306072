"""Rematerialization: less memory for more computation."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


def recomputed(function: Callable[..., jax.Array], layers: Any, x: Any, rngs: nnx.Rngs | None) -> jax.Array:
    """`function(layers, x, rngs)`, for whose backward pass only `x` is kept: it computes the rest again (Chen et al.
    2016).

    layers: a pytree of modules. x: a pytree of arrays, (B, ...) as the result is. What the function does to statistics
    and random numbers is done once. No forward-mode derivatives.

    As `jax.checkpoint`, but that nothing of the forward pass can be taken for what is computed again: the compiler for
    CPUs removes the barriers of `jax.checkpoint` first and then one of two equal computations, so that all is kept.
    """
    graph, params, rest = nnx.split((layers, rngs), nnx.Param, ...)  # type: ignore[misc]

    def pure(params: nnx.State, x: Any, rest: nnx.State) -> tuple[jax.Array, nnx.State]:
        layers, rngs = nnx.merge(graph, params, rest, copy=True)
        y = function(layers, x, rngs)
        return y, nnx.state((layers, rngs), nnx.Not(nnx.Param))

    def forward(params: nnx.State, x: Any, rest: nnx.State):
        return pure(params, x, rest), (params, x, rest)

    def backward(kept: tuple[nnx.State, Any, nnx.State], cotangents: tuple[jax.Array, Any]):
        params, x, rest = kept
        cotangent = cotangents[0]  # that of the statistics and random numbers is nothing
        x = jax.tree.map(lambda leaf: _after(leaf, cotangent), x)
        _, pull_back = jax.vjp(lambda params, x: pure(params, x, rest)[0], params, x)
        return *pull_back(cotangent), None

    run = jax.custom_vjp(pure)
    run.defvjp(forward, backward)
    y, rest = run(params, x, rest)
    nnx.update((layers, rngs), rest)
    return y


def _after(x: jax.Array, other: jax.Array) -> jax.Array:
    """`x`, for the compiler something that only `other` decides: NaN in examples where `other` begins with it.

    By example, so that devices which share a batch need not talk.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x
    first = other[(slice(None), *(0,) * (other.ndim - 1))]
    lost = jnp.isnan(first).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.where(lost, jnp.asarray(jnp.nan, x.dtype), x)
