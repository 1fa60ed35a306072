"""Blocks of modern convnets: what is in them and when; enlarging. What they compute is held against Keras elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision.nn import BatchNorm, Chain, ConvNormAct, ConvTranspose, Residual, projection, upsample_nearest
from jaxvision.nn.conv import set_lowering


def normal(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize(("padding", "size"), [("SAME", (10, 8)), ("VALID", (11, 9))])
@pytest.mark.parametrize("lowering", ["auto", "lax"])
def test_transposed_layer_is_reached_by_the_choice_of_lowering(padding, size, lowering):
    layer = ConvTranspose(4, 6, strides=2, padding=padding, rngs=nnx.Rngs(0))
    set_lowering(Chain(layer=layer), lowering)
    layer.bias[...] = normal(1, 6)
    x = normal(0, 2, 5, 4, 4)
    assert ("jaxvision_conv_input_gradient" in str(jax.make_jaxpr(layer)(x))) == (lowering == "auto")
    want = jax.lax.conv_transpose(
        x, layer.kernel[...], (2, 2), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), transpose_kernel=True
    )
    out = layer(x)
    assert out.shape == (2, *size, 6)
    np.testing.assert_allclose(out, want + layer.bias[...][None, None, None, :], rtol=1e-4, atol=1e-5)


def test_transposed_kernels_begin_as_keras_draws_them():
    layer = ConvTranspose(96, 32, 5, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    assert layer.kernel.shape == (5, 5, 32, 96)
    limit = np.sqrt(6 / (25 * (96 + 32)))  # glorot counts both ends alike
    assert float(jnp.max(jnp.abs(layer.kernel[...]))) == pytest.approx(limit, rel=0.01)
    assert float(jnp.std(layer.kernel[...])) == pytest.approx(limit / np.sqrt(3), rel=0.03)
    assert layer(normal(0, 1, 3, 3, 96)).dtype == jnp.bfloat16
    assert layer.kernel.dtype == layer.bias.dtype == jnp.float32


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize(
    ("order", "norm", "names", "biased", "normed"),
    [
        ("conv-norm-act", True, ("conv", "bn", "act"), False, 6),
        ("conv-act-norm", True, ("conv", "act", "bn"), True, 6),
        ("norm-act-conv", True, ("bn", "act", "conv"), False, 4),
        ("conv-norm-act", False, ("conv", "act"), True, None),
        ("norm-act-conv", False, ("act", "conv"), True, None),
    ],
)
def test_order_and_bias_of_a_block(separable, order, norm, names, biased, normed):
    block = ConvNormAct(4, 6, order=order, norm=norm, separable=separable, strides=2, rngs=nnx.Rngs(0))
    assert block.names == names
    conv = block.conv.pointwise if separable else block.conv
    assert (conv.bias is not None) == biased
    sizes = [layer.mean.shape[0] for layer in block if isinstance(layer, BatchNorm)]
    assert sizes == ([normed] if normed else [])
    assert block(normal(0, 2, 5, 4, 4)).shape == (2, 3, 2, 6)


def test_a_shortcut_has_weights_only_where_the_shape_changes():
    assert not projection(4, 4, rngs=nnx.Rngs(0)).names
    assert projection(4, 6, rngs=nnx.Rngs(0)).conv.bias is not None
    normed = projection(4, 4, strides=2, norm=True, rngs=nnx.Rngs(0))
    assert normed.names == ("conv", "bn")
    assert normed.conv.bias is None
    x = normal(0, 2, 5, 5, 4)
    assert normed(x).shape == (2, 3, 3, 4)
    np.testing.assert_array_equal(Residual()(x), x + x)


def test_a_frozen_residual_block_keeps_the_statistics_of_both_ways():
    def block():
        body = ConvNormAct(4, 4, strides=2, rngs=nnx.Rngs(0))
        return Residual(body=body, shortcut=projection(4, 4, strides=2, norm=True, rngs=nnx.Rngs(1)))

    trained, frozen, x = block(), Chain(block=block()), normal(0, 2, 5, 5, 4)
    frozen.block.frozen = True
    trained(x, train=True)
    frozen(x, train=True)
    for moved, kept in ((trained.body.bn, frozen.block.body.bn), (trained.shortcut.bn, frozen.block.shortcut.bn)):
        assert not np.allclose(moved.mean[...], kept.mean[...])
        np.testing.assert_array_equal(kept.mean[...], jnp.zeros(4))


@pytest.mark.parametrize("size", [(6, 8), (9, 4), (7, 9), (3, 5), (2, 3)])
def test_enlarging_takes_the_nearest_pixel(size):
    x, weights = normal(0, 2, 3, 4, 5), normal(1, 2, *size, 5)

    def theirs(x):
        return jax.image.resize(x, (2, *size, 5), "nearest")

    np.testing.assert_array_equal(upsample_nearest(x, size), theirs(x))
    np.testing.assert_allclose(
        jax.grad(lambda x: jnp.sum(upsample_nearest(x, size) * weights))(x),
        jax.grad(lambda x: jnp.sum(theirs(x) * weights))(x),
        rtol=1e-5,
        atol=1e-6,
    )
