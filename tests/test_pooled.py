"""Convolutions whose bias and ReLU wait until after the pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision.nn import Chain, Conv, MaxPool
from jaxvision.nn.activation import linear
from jaxvision.nn.watch import watch


def chain(activation=jax.nn.relu, size: int = 2, strides: int = 2) -> Chain:
    layers = Chain(
        conv=Conv(3, 8, activation=activation, rngs=nnx.Rngs(0)), pool=MaxPool(size, strides=strides, padding="SAME")
    )
    layers.conv.bias[...] = jnp.linspace(-0.3, 0.3, 8)
    return layers


def picture() -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=(2, 11, 9, 3)).astype(np.float32))


def apart(layers: Chain, x: jax.Array) -> jax.Array:
    return layers.pool(layers.conv(x))


@pytest.fixture
def finished(monkeypatch) -> list[tuple[int, ...]]:
    """Heights and widths of what convolutions add their bias to."""
    shapes, finish = [], Conv.finish

    def noting(self, x):
        shapes.append(x.shape[1:3])
        return finish(self, x)

    monkeypatch.setattr(Conv, "finish", noting)
    return shapes


@pytest.mark.parametrize("activation", [jax.nn.relu, linear])
@pytest.mark.parametrize(("size", "strides"), [(2, 2), (3, 2)])
def test_numbers_are_those_of_one_after_the_other(finished, activation, size, strides):
    layers, x = chain(activation, size, strides), picture()
    graph, state = nnx.split(layers)

    def loss(state, x, run):
        return jnp.sum(jnp.sin(run(nnx.merge(graph, state), x)))

    np.testing.assert_array_equal(layers(x), apart(layers, x))
    assert finished == [(5, 4), (9, 7)]
    ours, theirs = (jax.grad(loss, argnums=(0, 1))(state, x, run) for run in (lambda layers, x: layers(x), apart))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_other_activations_and_what_is_looked_at_are_not_moved(finished):
    x = picture()
    swish = chain(jax.nn.swish)
    np.testing.assert_array_equal(swish(x), apart(swish, x))
    layers = chain()
    expected = layers.conv(x)
    np.testing.assert_array_equal(layers.features(x, ["conv"])["conv"], expected)
    both = layers.features(x, ["conv", "pool"])
    np.testing.assert_array_equal(both["pool"], layers.pool(expected))
    seen = {}
    watch(layers, lambda path, output: seen.setdefault(path, output))
    layers(x)
    np.testing.assert_array_equal(seen["conv",], expected)
    assert set(finished) == {(9, 7)}
