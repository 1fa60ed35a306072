"""First values of kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.nn.initializers import variance_scaling


@pytest.mark.parametrize(
    ("numbers", "shape"),
    [((1.0, "fan_avg", "uniform"), (3, 3, 3, 32)), ((2.0, "fan_out", "truncated_normal"), (5, 5, 40, 24))],
)
def test_numbers_are_those_of_jax_under_a_trace_too(numbers, shape):
    key = jax.random.key(3)
    init = variance_scaling(*numbers)
    want = jax.nn.initializers.variance_scaling(*numbers)(key, shape, jnp.float32)
    np.testing.assert_array_equal(init(key, shape, jnp.float32), want)
    np.testing.assert_allclose(jax.jit(lambda key: init(key, shape, jnp.float32))(key), want, rtol=1e-5)
