"""Convolution and pooling against the compiler's own, their gradients and their gradients' gradients included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.nn import average_pool, conv2d, max_pool


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def close(ours, theirs, rtol=1e-5):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) <= rtol * np.linalg.norm(theirs) + 1e-6


convolutions = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(5, 12), st.integers(5, 12)),
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        # On both sides of the 32 channels up to which the forward pass goes by products.
        "channels": st.sampled_from([1, 3, 32, 33]),
        "features": st.sampled_from([1, 5]),
        "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.sampled_from(["VALID", "SAME"]),
    }
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(convolutions)
def test_conv_equals_lax_in_value_and_gradients(case):
    x = normal(0, 2, *case["size"], case["channels"])
    kernel = normal(1, *case["kernel"], case["channels"], case["features"])

    def outputs(lowering):
        def conv(x, kernel):
            return conv2d(x, kernel, strides=case["strides"], padding=case["padding"], lowering=lowering)

        out, pullback = jax.vjp(conv, x, kernel)
        _, tangent = jax.jvp(conv, (x, kernel), (x + 1.0, kernel - 1.0))
        return out, *pullback(jnp.cos(out)), tangent

    for ours, theirs in zip(outputs("auto"), outputs("lax"), strict=True):
        close(ours, theirs)


def test_conv_has_hessian_vector_products_and_vmap():
    x, kernel = normal(0, 4, 8, 8, 3), normal(1, 3, 3, 3, 5)

    def loss(kernel, x, lowering):
        return jnp.sum(jnp.tanh(conv2d(x, kernel, lowering=lowering)))

    def hessian_vector(lowering):
        return jax.jvp(lambda k: jax.grad(loss)(k, x, lowering), (kernel,), (kernel * 0.5,))[1]

    def per_example(lowering):
        return jax.vmap(lambda one: jax.grad(loss)(kernel, one[None], lowering))(x)

    close(hessian_vector("auto"), hessian_vector("lax"), rtol=1e-4)
    close(per_example("auto"), per_example("lax"), rtol=1e-4)


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
