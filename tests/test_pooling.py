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


@pytest.mark.parametrize(
    ("window", "strides", "padding"), [(2, 2, "VALID"), (2, 2, "SAME"), (3, 2, "SAME"), (3, 1, "VALID"), (2, 3, "SAME")]
)
def test_max_pool_equals_reduce_window_ties_included(library, window, strides, padding):
    # Few distinct values: most windows hold a tie, whose gradient goes to the first maximum.
    x = jnp.asarray(np.random.default_rng(0).integers(0, 3, (8, 29, 27, 32)).astype(np.float32))

    def ours(x):
        return max_pool(x, (window, window), strides=(strides, strides), padding=padding)

    def theirs(x):
        return _reduce_window_max(x, (window, window), (strides, strides), padding)

    @jax.jit
    def outputs(x):
        found = []
        for pool in (ours, theirs):
            out, pullback = jax.vjp(pool, x)
            found.append((out, *pullback(normal(3, *out.shape))))
        return found

    (out, gradient), (expected, expected_gradient) = outputs(x)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-5)  # sums in other orders


def test_overlapping_windows_in_every_mode_of_differentiation(library):
    x = normal(0, 3, 41, 40, 16)  # large enough for oneDNN

    def pool(x):
        return max_pool(x, (3, 2), strides=(2, 1), padding="SAME")

    def plain(x):
        patches = jax.lax.conv_general_dilated_patches(
            x, (3, 2), (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.max(patches.reshape(*patches.shape[:3], x.shape[3], -1), axis=-1)

    def outputs(pool):
        def loss(x):
            return jnp.sum(jnp.tanh(pool(x) * 0.3) ** 2)

        _, tangent = jax.jvp(pool, (x,), (jnp.cos(x),))
        curved = jax.jvp(jax.grad(loss), (x,), (jnp.cos(x),))[1]
        twice = jax.grad(lambda x: jnp.sum(jax.grad(loss)(x) ** 2))(x)
        mapped = jax.vmap(jax.grad(loss), in_axes=1, out_axes=1)(jnp.stack([x, x[::-1]], axis=1))
        return pool(x), tangent, curved, twice, mapped

    x = x + 3.0  # above the zeros that the patches are padded with
    for ours, theirs in zip(*jax.jit(lambda: (outputs(pool), outputs(plain)))(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_overlapping_windows_in_bfloat16(library):
    x = normal(0, 8, 33, 33, 16).astype(jnp.bfloat16)
    gradient = jax.grad(lambda x: jnp.sum(max_pool(x, (3, 3), strides=(2, 2)).astype(jnp.float32)))(x)
    expected = jax.grad(lambda x: jnp.sum(max_pool(x, (3, 3), strides=(2, 2))))(x.astype(jnp.float32))
    assert gradient.dtype == jnp.bfloat16
    np.testing.assert_array_equal(gradient.astype(jnp.float32), expected)


@pytest.mark.usefixtures("package")
def test_a_program_takes_the_gradient_of_the_package():
    jax.clear_caches()
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(max_pool(x, (3, 3), strides=(2, 2)))))
    assert "jaxvision_onednn_max_pool_gradient" in gradient.lower(normal(0, 8, 33, 33, 8)).as_text()


def test_max_pool_passes_nan_on():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan).at[0, 2, 2, 0].set(jnp.nan)
    np.testing.assert_array_equal(np.isnan(max_pool(x))[0, :, :, 0], [[True, False], [False, True]])


def test_average_pool_does_not_count_padding():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    out = average_pool(x, (2, 2), padding="SAME")
    np.testing.assert_allclose(out[0, :, :, 0], [[2.0, 3.5], [6.5, 8.0]])
