"""Published architectures against keras.applications: sizes, names, and what they compute with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from keras_reference import run as keras

from jaxvision.models import abstract_model, create_model, efficientnet, summarize
from jaxvision.weights.names import model_layers

TOTALS = {
    "vgg16": (224, 138_357_544, 0),
    "vgg19": (224, 143_667_240, 0),
    "resnet50": (224, 25_583_592, 53_120),
    "xception": (299, 22_855_952, 54_528),
    "mobilenetv2": (224, 3_504_872, 34_112),
    "efficientnetb0": (224, 5_288_548, 42_023),
    "densenet121": (224, 7_978_856, 83_648),
}
"""As `keras.applications` says: size of the pictures, trainable and other parameters for 1000 classes."""

CASES = {
    "vgg16": ((32, 32), 10, {}),
    "vgg19": ((32, 32), 10, {}),
    "resnet50": ((64, 49), 10, {}),
    "xception": ((75, 72), 10, {}),
    "mobilenetv2": ((64, 49), 10, {}),
    # Keras makes the graph of the published weights for 1000 classes only.
    "efficientnetb0": ((64, 49), 1000, {"drop_connect": 0.0, "top_dropout": 0.0}),
    "densenet121": ((64, 49), 10, {}),
}
"""Sizes of pictures other than the published, odd ones among them; classes; options."""

KINDS = {
    "Conv2D": "conv2d",
    "DepthwiseConv2D": "depthwise_conv2d",
    "SeparableConv2D": "separable_conv2d",
    "Dense": "dense",
    "BatchNormalization": "batch_normalization",
    "Normalization": "normalization",
}
"""Keras' classes, and what files of weights call them."""


def keras_weights(model) -> dict[str, np.ndarray]:
    return {f"{layer.name}/{tensor.name}": tensor.values() for layer in model_layers(model) for tensor in layer.tensors}


def random_model(name: str, input_shape: tuple[int, int, int], classes: int, seed: int, **options) -> nnx.Module:
    """Every number random, in sizes that keep the signal about as large from layer to layer."""
    rng = np.random.default_rng(seed)
    # Fresh parameters would take much longer: each shape of them is compiled.
    graph, state = nnx.split(abstract_model(name, input_shape, classes, **options))
    filled = []
    for path, variable in nnx.to_flat_state(state):
        shape = variable.shape
        if path[-1] == "kernel":
            value = rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape)
        elif path[-1] in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, shape)
        elif path[-1] in ("bias", "mean"):
            value = rng.normal(0, 0.1, shape)
        elif path[-1] == "variance":
            value = rng.uniform(0.2, 0.3, shape)
        else:
            value = np.zeros(shape)
        filled.append((path, variable.replace(jnp.asarray(value, variable.dtype))))
    return nnx.merge(graph, nnx.from_flat_state(filled))


def relative_error(ours, theirs) -> float:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def both_modes(model, images):
    """Logits in inference and in training, and the model as the training pass leaves it."""
    graph, variables = nnx.split(model)

    @jax.jit
    def both(variables, images):
        model = nnx.merge(graph, variables)
        inference = model(images)
        training = model(images, train=True)
        return inference, training, nnx.state(model)

    inference, training, variables = both(variables, images)
    return inference, training, nnx.merge(graph, variables)


@pytest.mark.parametrize("name", TOTALS)
def test_totals_are_those_of_keras_applications(name):
    size, trainable, others = TOTALS[name]
    summary = summarize(abstract_model(name, (size, size, 3), 1000), (size, size, 3))
    assert (summary.trainable_params, summary.frozen_params) == (trainable, others)


@pytest.mark.parametrize(
    "names",
    [
        ("mobilenetv2",),
        pytest.param(
            ("xception", "vgg16", "vgg19", "resnet50", "efficientnetb0", "densenet121"), marks=pytest.mark.slow
        ),
    ],
    ids="-".join,
)
def test_names_logits_and_statistics_equal_keras_applications(names):
    models, given = {}, {}
    for seed, name in enumerate(names):
        (height, width), classes, options = CASES[name]
        models[name] = random_model(name, (height, width, 3), classes, seed, **options)
        images = np.random.default_rng(seed).integers(0, 256, (4, height, width, 3)).astype(np.uint8)
        given |= {f"{name}/images": images}
        given |= {f"{name}/weights/{key}": value for key, value in keras_weights(models[name]).items()}
    theirs = keras("applications", *names, **given)

    for name, model in models.items():
        images = given[f"{name}/images"]
        layers = [(layer.kind, layer.name) for layer in model_layers(model)]
        listed = [
            (KINDS[kind], layer)
            for kind, layer in zip(theirs[f"{name}/classes"], theirs[f"{name}/layers"], strict=True)
        ]
        for keras_class in {keras_class for keras_class, _ in listed}:
            # Files that keep a layer's class and number only are read in this order.
            ours = [layer for kind, layer in layers if kind == keras_class]
            assert ours == [layer for kind, layer in listed if kind == keras_class]
        assert len(layers) == len(listed)

        inference, training, after = both_modes(model, images)
        for mode, ours in (("inference", inference), ("training", training)):
            expected = theirs[f"{name}/{mode}"]
            assert relative_error(ours, expected) < 1e-4, (name, mode)
            assert np.std(expected, axis=0).mean() > 0.01 * np.std(expected), "pictures hardly matter here"
        weights = keras_weights(after)
        for key in [key.removeprefix(f"{name}/after/") for key in theirs if key.startswith(f"{name}/after/")]:
            before, expected = given[f"{name}/weights/{key}"], theirs[f"{name}/after/{key}"]
            if "moving" in key:
                # What is added, which the old values would hide. With a momentum of 0.999 it is a thousandth of them.
                assert relative_error(weights[key] - before, expected - before) < 1e-3, (name, key)
            np.testing.assert_allclose(weights[key], expected, rtol=1e-4, atol=1e-6, err_msg=f"{name} {key}")


@pytest.mark.parametrize(
    ("name", "rows", "columns"),
    [
        ("resnet50", 4, 5),
        ("xception", 3, 4),
        ("mobilenetv2", 4, 5),
        ("efficientnetb0", 4, 5),
        pytest.param("densenet121", 3, 4, marks=pytest.mark.slow),
    ],
)
def test_other_sizes_half_precision_and_no_top(name, rows, columns):
    graph, variables = nnx.split(abstract_model(name, (97, 130, 3), None, dtype=jnp.bfloat16))

    def forward(variables, images):
        model = nnx.merge(graph, variables)
        (features,) = model.features(images).values()
        return features, model(images, train=True, rngs=nnx.Rngs(0)), nnx.state(model)

    pictures = jax.ShapeDtypeStruct((2, 97, 130, 3), jnp.uint8)
    *outputs, after = jax.eval_shape(forward, variables, pictures)
    for output in outputs:
        assert (output.shape[:3], output.dtype) == ((2, rows, columns), jnp.bfloat16)
    assert [leaf.dtype for leaf in jax.tree.leaves(after)] == [leaf.dtype for leaf in jax.tree.leaves(variables)]


def test_efficientnet_normalizes_pictures_as_published(monkeypatch):
    monkeypatch.setattr(efficientnet, "STAGES", efficientnet.STAGES[:1])  # the others are not looked at
    base = create_model("efficientnetb0", (32, 32, 3), None).base
    x = np.random.default_rng(0).uniform(0, 1, (1, 2, 2, 3)).astype(np.float32)
    want = (x - np.asarray((0.485, 0.456, 0.406))) / np.asarray((0.229, 0.224, 0.225))
    np.testing.assert_allclose(base.rescaling_1(base.normalization(x)), want, rtol=1e-5, atol=1e-6)


def test_stochastic_depth_takes_whole_examples_past_a_block():
    block = efficientnet.MBConv(4, 4, 3, strides=1, expansion=2, drop=0.75, dtype=jnp.float32, rngs=nnx.Rngs(0))
    block.bn.frozen = block.expand_bn.frozen = block.project_bn.frozen = True
    x = jnp.asarray(np.random.default_rng(0).normal(size=(400, 4, 4, 4)).astype(np.float32))
    both = jax.jit(lambda x: (block(x), block(x, train=True, rngs=nnx.Rngs(dropout=1))))
    inside, added = (np.asarray(out - x) for out in both(x))
    past = np.all(added == 0, axis=(1, 2, 3))
    assert 0.65 < past.mean() < 0.85
    np.testing.assert_allclose(added[~past], 4 * inside[~past], rtol=1e-3, atol=1e-4)
