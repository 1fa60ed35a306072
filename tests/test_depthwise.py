"""Depthwise and separable convolution: each channel by itself, Keras' layout of kernels, Keras' first values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision.nn import DepthwiseConv, SeparableConv, conv2d
from jaxvision.nn.conv import set_lowering


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize(
    ("multiplier", "strides", "padding", "dilation"),
    [(1, 1, "SAME", 1), (2, 2, "SAME", 1), (3, 1, "VALID", 2), (1, 2, ((2, 1), (0, 3)), 1)],
)
@pytest.mark.parametrize("lowering", ["auto", "lax"])
def test_each_channel_is_convolved_with_its_own_kernels(multiplier, strides, padding, dilation, lowering):
    x = normal(0, 2, 9, 8, 4)
    options = dict(strides=strides, padding=padding, dilation=dilation)
    layer = DepthwiseConv(4, 3, multiplier=multiplier, rngs=nnx.Rngs(0), **options)
    layer.bias[...] = normal(1, 4 * multiplier)
    set_lowering(layer, lowering)
    keras_kernel = layer.kernel[...].reshape(3, 3, 4, multiplier)
    options = dict(strides=(strides, strides), padding=padding, dilation=(dilation, dilation), lowering="lax")
    channels = [conv2d(x[..., c : c + 1], keras_kernel[:, :, c : c + 1], **options) for c in range(4)]
    want = jnp.concatenate(channels, axis=-1) + layer.bias[...][None, None, None, :]
    np.testing.assert_allclose(layer(x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_kernels_begin_as_keras_draws_them(multiplier):
    kernel = DepthwiseConv(96, 5, multiplier=multiplier, rngs=nnx.Rngs(0)).kernel[...]
    assert kernel.shape == (5, 5, 1, 96 * multiplier)
    limit = np.sqrt(6 / (25 * (96 + multiplier)))  # fans of (5, 5, 96, multiplier)
    assert float(jnp.max(jnp.abs(kernel))) == pytest.approx(limit, rel=0.01)
    assert float(jnp.std(kernel)) == pytest.approx(limit / np.sqrt(3), rel=0.03)


def test_separable_is_depthwise_then_pointwise_with_one_bias():
    x = normal(0, 2, 9, 8, 4)
    layer = SeparableConv(4, 6, multiplier=2, strides=2, padding="SAME", activation=jax.nn.relu, rngs=nnx.Rngs(0))
    layer.pointwise.bias[...] = normal(1, 6)
    shapes = {"/".join(path): variable.shape for path, variable in nnx.to_flat_state(nnx.state(layer))}
    assert shapes == {
        "depthwise/kernel": (3, 3, 1, 8),
        "pointwise/kernel": (1, 1, 8, 6),
        "pointwise/bias": (6,),
    }
    inner = conv2d(x, layer.depthwise.kernel[...], strides=(2, 2), padding="SAME", groups=4, lowering="lax")
    products = jnp.einsum("bhwc,cd->bhwd", inner, layer.pointwise.kernel[...][0, 0])
    want = jax.nn.relu(products + layer.pointwise.bias[...][None, None, None, :])
    np.testing.assert_allclose(layer(x), want, rtol=1e-4, atol=1e-5)


def test_half_precision_is_computed_and_float32_kept():
    layer = SeparableConv(4, 6, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert layer(normal(0, 1, 5, 5, 4)).dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(layer))} == {jnp.dtype("float32")}
