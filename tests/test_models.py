"""Models by name: the book's tables, options, and what goes wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision.errors import ConfigError
from jaxvision.models import abstract_model, create_model, model_options, summarize

BOOK = {
    "convnet-mnist": ((28, 28, 1), 10, 104_202),
    "convnet-mnist-no-pooling": ((28, 28, 1), 10, 712_202),
    "dense-mnist": ((28, 28, 1), 10, 407_050),
    "convnet-dogs-vs-cats": ((180, 180, 3), 1, 991_041),
    "residual-convnet": ((32, 32, 3), 1, 297_697),
    "mini-xception": ((180, 180, 3), 1, 721_857),
    "segmenter": ((200, 200, 3), 3, 2_880_643),
}


@pytest.mark.parametrize("name", BOOK)
def test_parameter_totals_are_the_books(name):
    input_shape, outputs, total = BOOK[name]
    assert summarize(abstract_model(name, input_shape, outputs), input_shape).total_params == total


def test_summary_lists_the_books_layers_in_order_without_allocating():
    model = abstract_model("convnet-dogs-vs-cats", (180, 180, 3), 1, dropout=0.5)
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(nnx.state(model)))
    summary = summarize(model, (180, 180, 3))
    rows = [(row.path.split("/")[-1], row.output_shape, row.trainable) for row in summary.layers]
    assert rows == [
        ("preprocessing", (180, 180, 3), 0),
        ("conv1", (178, 178, 32), 896),
        ("pool1", (89, 89, 32), 0),
        ("conv2", (87, 87, 64), 18_496),
        ("pool2", (43, 43, 64), 0),
        ("conv3", (41, 41, 128), 73_856),
        ("pool3", (20, 20, 128), 0),
        ("conv4", (18, 18, 256), 295_168),
        ("pool4", (9, 9, 256), 0),
        ("conv5", (7, 7, 256), 590_080),
        ("flatten", (12_544,), 0),
        ("dropout", (12_544,), 0),
        ("logits", (1,), 12_545),
    ]
    assert "991,041" in str(summary)


@pytest.mark.parametrize(("downsample", "size"), [("max", 3), ("average", 3), ("stride", 4), ("none", 22)])
def test_downsampling_is_an_option(downsample, size):
    summary = summarize(abstract_model("convnet-mnist", (28, 28, 1), 10, downsample=downsample), (28, 28, 1))
    last_map = [row.output_shape for row in summary.layers if len(row.output_shape) == 3][-1]
    assert last_map == (size, size, 128)


def test_dropout_acts_in_training_only():
    model = create_model("convnet-mnist", (28, 28, 1), 10, dropout=0.5)
    images = np.full((2, 28, 28, 1), 100, np.uint8)
    np.testing.assert_array_equal(model(images), model(images))
    one, other = (model(images, train=True, rngs=nnx.Rngs(dropout=key)) for key in (0, 1))
    assert not np.allclose(one, other)


def test_seed_decides_the_weights_and_precision_the_activations():
    images = np.full((2, 28, 28, 1), 100, np.uint8)
    one, same, other = (create_model("convnet-mnist", (28, 28, 1), 10, seed=s)(images) for s in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    half = create_model("convnet-mnist", (28, 28, 1), 10, seed=0, dtype=jnp.bfloat16)
    assert half(images).dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(half, nnx.Param))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(np.asarray(half(images), np.float32), one, atol=0.02)


def test_preset_options_show_as_defaults():
    assert model_options("convnet-mnist-no-pooling")["downsample"] == "none"
    assert model_options("convnet-dogs-vs-cats")["features"] == (32, 64, 128, 256, 256)


@pytest.mark.parametrize(
    ("name", "shape", "options", "expected"),
    [
        ("convnet-mnst", (28, 28, 1), {}, "Did you mean 'convnet-mnist'"),
        ("convnet-mnist", (28, 28, 1), {"dropuot": 0.5}, "Did you mean 'dropout'"),
        ("convnet-mnist", (28, 28, 1), {"downsample": "mx"}, "Received: 'mx'"),
        ("convnet-mnist", (28, 28, 1), {"dropout": 1.5}, "less than 1"),
        ("convnet-mnist", (28, 28, 1), {"features": (4, 0)}, "greater than or equal to 1"),
        ("convnet-mnist", (28, 28, 1), {"features": 8}, "tuple"),
        ("flax.nnx:Dropout", (28, 28, 1), {}, "takes no keyword"),
        ("convnet-dogs-vs-cats", (60, 60, 3), {}, "too small"),
        ("no.such.module:Net", (28, 28, 1), {}, "cannot be imported"),
    ],
)
def test_faults_are_named(name, shape, options, expected):
    with pytest.raises(ConfigError, match=expected):
        create_model(name, shape, 1, **options)
