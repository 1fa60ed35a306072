"""Pooling against the compiler's own, gradients and ties included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.nn import average_pool, max_pool


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def _reduce_window_max(x, window, strides, padding):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, *window, 1), (1, *strides, 1), padding)


@pytest.mark.parametrize(("window", "strides", "padding"), [(2, 2, "VALID"), (3, 2, "SAME"), (3, 1, "VALID")])
def test_max_pool_equals_reduce_window_ties_included(window, strides, padding):
    # Few distinct values: most windows hold a tie, whose gradient goes to the first maximum.
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (2, 9, 7, 4)).astype(np.float32))

    def ours(x):
        return max_pool(x, (window, window), strides=(strides, strides), padding=padding)

    def theirs(x):
        return _reduce_window_max(x, (window, window), (strides, strides), padding)

    weights = normal(3, *theirs(x).shape)
    np.testing.assert_array_equal(ours(x), theirs(x))
    np.testing.assert_allclose(
        jax.grad(lambda x: jnp.sum(ours(x) * weights))(x),
        jax.grad(lambda x: jnp.sum(theirs(x) * weights))(x),
        rtol=1e-6,
    )


def test_max_pool_passes_nan_on():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan).at[0, 2, 2, 0].set(jnp.nan)
    np.testing.assert_array_equal(np.isnan(max_pool(x))[0, :, :, 0], [[True, False], [False, True]])


def test_average_pool_does_not_count_padding():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    out = average_pool(x, (2, 2), padding="SAME")
    np.testing.assert_allclose(out[0, :, :, 0], [[2.0, 3.5], [6.5, 8.0]])
