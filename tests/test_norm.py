"""BatchNorm and Normalization: the formula, what is stored, and what freezing means."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision.nn import BatchNorm, Normalization


def pictures(seed: int = 0, channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(4, 5, 6, channels)) * rng.uniform(1, 9, channels) + 20).astype(np.float32)


def filled(**options) -> BatchNorm:
    norm = BatchNorm(3, **options)
    for variable, values in ((norm.scale, (1.5, 0.5, -2.0)), (norm.bias, (0.3, 0.0, 1.0))):
        if variable is not None:
            variable[...] = jnp.asarray(values)
    norm.mean[...], norm.var[...] = jnp.asarray((19.0, 21.0, 20.0)), jnp.asarray((4.0, 9.0, 0.5))
    return norm


def expected(x, mean, var, epsilon, scale=(1.5, 0.5, -2.0), bias=(0.3, 0.0, 1.0)):
    x = x.astype(np.float64)
    return (x - mean) / np.sqrt(np.asarray(var) + epsilon) * np.asarray(scale) + np.asarray(bias)


@pytest.mark.parametrize("frozen", [False, True])
def test_stored_statistics_are_used_and_kept_in_evaluation_and_when_frozen(frozen):
    norm, x = filled(), pictures()
    norm.frozen = frozen
    before = jax.tree.map(np.asarray, nnx.state(norm))
    out = norm(x, train=frozen)
    np.testing.assert_allclose(out, expected(x, (19, 21, 20), (4, 9, 0.5), 1e-3), rtol=1e-5, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(norm))


def test_training_normalizes_by_the_batch_and_moves_the_statistics():
    norm, x = filled(momentum=0.9, epsilon=0.1), pictures()
    out = norm(x, train=True)
    mean, var = x.astype(np.float64).mean((0, 1, 2)), x.astype(np.float64).var((0, 1, 2))
    np.testing.assert_allclose(out, expected(x, mean, var, 0.1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(norm.mean[...], 0.9 * np.asarray((19, 21, 20)) + 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], 0.9 * np.asarray((4, 9, 0.5)) + 0.1 * var, rtol=1e-5)


def test_keras_numbers_are_the_defaults_and_scale_and_bias_can_be_left_out():
    norm, x = filled(use_scale=False, use_bias=False), pictures()
    assert (norm.momentum, norm.epsilon) == (0.99, 1e-3)
    assert norm.scale is None
    assert norm.bias is None
    out = norm(x)
    np.testing.assert_allclose(out, expected(x, (19, 21, 20), (4, 9, 0.5), 1e-3, 1.0, 0.0), rtol=1e-5, atol=1e-5)


def test_statistics_of_bfloat16_pictures_are_taken_in_float32():
    norm, x = filled(momentum=0.0, dtype=jnp.bfloat16), jnp.asarray(pictures(), jnp.bfloat16)
    assert norm(x, train=True).dtype == jnp.bfloat16
    # A mean of 120 numbers near 20 taken in bfloat16 is off by 0.1.
    np.testing.assert_allclose(norm.mean[...], np.asarray(x, np.float64).mean((0, 1, 2)), rtol=1e-6)
    assert norm.mean[...].dtype == norm.var[...].dtype == jnp.float32


def test_statistics_come_out_of_a_jitted_gradient_unless_frozen():
    x = pictures()

    def step(norm):
        graph, params, stats = nnx.split(norm, nnx.Param, ...)

        def loss(params, stats):
            norm = nnx.merge(graph, params, jax.tree.map(lambda leaf: leaf, stats))
            out = norm(x, train=True)
            return jnp.mean(out**3), nnx.split(norm, nnx.Param, ...)[2]

        return jax.jit(jax.grad(loss, has_aux=True))(params, stats)

    norm, twin, frozen = filled(), filled(), filled()
    frozen.frozen = True
    twin(x, train=True)
    (gradients, stats), (_, kept) = step(norm), step(frozen)
    np.testing.assert_allclose(stats["mean"][...], twin.mean[...], rtol=1e-6)
    np.testing.assert_array_equal(kept["mean"][...], frozen.mean[...])
    normed = expected(x, x.mean((0, 1, 2)), x.var((0, 1, 2)), 1e-3, 1.0, 0.0)
    out = normed * np.asarray((1.5, 0.5, -2.0)) + np.asarray((0.3, 0.0, 1.0))
    np.testing.assert_allclose(
        gradients["scale"][...], np.sum(out**2 * normed, axis=(0, 1, 2)) / (out.size / 3), rtol=1e-3
    )


def test_normalization_uses_numbers_known_beforehand():
    x = pictures()
    norm = Normalization((19.0, 21.0, 20.0), (4.0, 9.0, 0.25))
    np.testing.assert_allclose(norm(x), (x - np.asarray((19, 21, 20))) / np.asarray((2, 3, 0.5)), rtol=1e-5, atol=1e-5)
