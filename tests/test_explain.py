"""Heat maps, activations and filters: against closed forms, against the book's recipes in Keras, on every model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from keras_reference import run as keras
from test_zoo import keras_weights, random_model, relative_error

from jaxvision.errors import ConfigError
from jaxvision.explain.activations import activations
from jaxvision.explain.filters import BOOK, READABLE, Ascent, filters
from jaxvision.explain.gradcam import gradcam
from jaxvision.explain.heat import share_inside
from jaxvision.explain.occlusion import occlusion
from jaxvision.explain.program import spatial_layer
from jaxvision.explain.saliency import integrated_gradients, saliency
from jaxvision.explain.scorecam import scorecam
from jaxvision.figures.channels import filter_picture
from jaxvision.models import abstract_model, create_model, model_names
from jaxvision.models.registry import BOOK_INPUTS
from jaxvision.nn import Conv


class Relu(nnx.Module):
    """ReLU as a layer of its own, which can be looked at."""

    def __call__(self, x):
        return nnx.relu(x)


class Tiny(nnx.Module):
    """A 1x1 convolution, ReLU, the mean over the picture, a dense layer: Grad-CAM can be written down."""

    def __init__(self, outputs=3, seed=0):
        self.conv = nnx.Conv(2, 4, (1, 1), rngs=nnx.Rngs(seed))
        self.act = Relu()
        self.dense = nnx.Linear(4, outputs, rngs=nnx.Rngs(seed + 1))

    def __call__(self, images, train=False):
        return self.dense(jnp.mean(self.act(self.conv(images / 255)), axis=(1, 2)))


class Linear(nnx.Module):
    """Logits are weighted sums of the pixels."""

    def __init__(self, shape, outputs, seed=0):
        weights = np.random.default_rng(seed).normal(size=(*shape, outputs)).astype(np.float32)
        self.weights = nnx.Param(jnp.asarray(weights))

    def __call__(self, images, train=False):
        return jnp.einsum("bhwc,hwck->bk", images, self.weights[...])


class Pixels(nnx.Module):
    """Segments: a pixel's logits are its own two channels and their sum."""

    def __init__(self):
        self.conv = nnx.Conv(2, 3, (1, 1), use_bias=False, rngs=nnx.Rngs(0))
        self.conv.kernel.set_value(jnp.array([[[[1.0, 0, 1], [0, 1, 1]]]]) / 255)

    def __call__(self, images, train=False):
        return self.conv(images)


def pictures(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def over_largest(maps):
    return maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), 1e-12)


@pytest.mark.parametrize("outputs", [3, 1])
@pytest.mark.parametrize("weighting", ["gradcam", "gradcam++"])
def test_gradcam_has_the_closed_form_of_a_tiny_network(outputs, weighting):
    model, images = Tiny(outputs), pictures((3, 5, 7, 2))
    classes = [0, 1, 1]
    maps = gradcam(model, images, classes, layer="act", weighting=weighting)

    kernel, bias = np.asarray(model.conv.kernel[0, 0]), np.asarray(model.conv.bias)
    output = np.maximum(images / 255 @ kernel + bias, 0)  # (B, h, w, K)
    dense = np.asarray(model.dense.kernel)
    dense = np.concatenate([-dense, dense], axis=1) if outputs == 1 else dense
    gradient = dense[:, classes].T / (5 * 7)  # of a mean: the same everywhere, (B, K)
    if weighting == "gradcam":
        weights = gradient
    else:
        # share g^2 / (2 g^2 + g^3 sum A) at each of the 35 places
        share = 1 / (2 + gradient * output.sum(axis=(1, 2)))
        weights = 35 * share * np.maximum(gradient, 0)
    expected = np.maximum(np.einsum("bhwk,bk->bhw", output, weights), 0)
    np.testing.assert_allclose(maps.coarse, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(maps.values, over_largest(expected), rtol=1e-4, atol=1e-6)
    assert (maps.layer, list(maps.classes)) == ("act", classes)
    assert expected.any()


@pytest.mark.slow
def test_recipes_of_the_book_agree_with_keras_on_the_same_weights():
    model = random_model("xception", (96, 96, 3), 10, seed=3)
    # Logits about as large as a trained network's: a probability of 1 would have no gradient.
    for parameter, scale in ((model.head.predictions.kernel, 3e-6), (model.head.predictions.bias, 0.0)):
        parameter.set_value(parameter[...] * scale)
    images = pictures((2, 96, 96, 3), seed=1)
    layer, channels, steps = "block1_conv2", (0, 5), 5  # deeper, a rounding that flips one ReLU bends the whole way
    book = Ascent(steps=steps, rate=BOOK.rate, start=BOOK.start, border=BOOK.border)
    starts = filters(model, layer, channels, size=(96, 96), ascent=Ascent(steps=0))
    assert starts.min() >= 102
    assert starts.max() <= 153
    theirs = keras(
        "explain",
        images=images,
        starts=starts,
        layer=layer,
        channels=np.array(channels),
        steps=steps,
        **{f"weights/{key}": value for key, value in keras_weights(model).items()},
    )

    maps = gradcam(model, images, of="probability")
    assert (theirs["heat"].max(axis=(1, 2)) == 1).all()
    assert maps.layer == "base/block14_sepconv2_act"
    assert list(maps.classes) == list(theirs["classes"])
    assert relative_error(over_largest(maps.coarse), theirs["heat"]) < 1e-4

    # Blocks bear Keras' names of their layers as paths.
    ours = {
        "block1_conv1": "block1_conv1",
        "block4_pool": "block4/pool",
        "block14_sepconv2_act": "block14_sepconv2_act",
    }
    found = activations(model, images, tuple(ours.values()))
    for name, path in ours.items():
        assert relative_error(found[f"base/{path}"], theirs[f"activations/{name}"]) < 1e-4

    ascended = filters(model, layer, channels, size=(96, 96), ascent=book)
    assert relative_error(ascended - starts, theirs["filters"] - starts) < 1e-4


def test_another_networks_weights_give_another_map():
    images = pictures((4, 40, 40, 3))
    one, other = (create_model("convnet-dogs-vs-cats", (40, 40, 3), 1, seed=s, features=(8, 8, 16)) for s in (0, 1))
    same, after = (gradcam(model, images).values for model in (one, other))
    np.testing.assert_array_equal(gradcam(one, images).values, same)
    assert same.any(axis=(1, 2)).all()
    assert after.any(axis=(1, 2)).all()
    for map, changed in zip(same, after, strict=True):
        assert abs(np.corrcoef(map.ravel(), changed.ravel())[0, 1]) < 0.9


DEEPEST = {
    "convnet-mnist": "base/conv3",
    "convnet-mnist-no-pooling": "base/conv3",
    "convnet-dogs-vs-cats": "base/conv5",
    "residual-convnet": "base/block3",
    "mini-xception": "base/block5",
    "segmenter": "base/up3_conv1",
    "unet": "head/norm0",
    "vgg16": "base/block5_conv3",
    "vgg19": "base/block5_conv4",
    "resnet50": "base/conv5_block3",
    "xception": "base/block14_sepconv2_act",
    "mobilenetv2": "base/out_relu",
    "efficientnetb0": "base/top_activation",
    "densenet121": "base/relu",
}


def test_the_deepest_layer_of_every_model_is_looked_at():
    found = {}
    for name in set(model_names()) - {"dense-mnist"}:
        shape, classes = BOOK_INPUTS[name]
        found[name] = "/".join(spatial_layer(abstract_model(name, shape, classes), shape, None)[0])
    assert found == DEEPEST
    with pytest.raises(ConfigError, match="no layer of the model gives more than one pixel"):
        spatial_layer(abstract_model("dense-mnist", (28, 28, 1), 10), (28, 28, 1), None)


def test_looking_leaves_a_model_as_it_was():
    model = create_model("residual-convnet", (32, 32, 3), 1, features=(4, 8))
    images = pictures((5, 32, 32, 3))
    before, state = model(images), jax.tree.leaves(nnx.state(model))
    found = activations(model, images, batch_size=2)
    np.testing.assert_allclose(gradcam(model, images, batch_size=2).coarse, gradcam(model, images).coarse, atol=1e-6)
    assert {type(layer) for name, layer in nnx.iter_modules(model) if name and name[-1] == "conv"} == {Conv}
    np.testing.assert_array_equal(model(images), before)
    assert all(a is b for a, b in zip(jax.tree.leaves(nnx.state(model)), state, strict=True))
    # In the order they run, and each what the layer gives by itself.
    assert next(iter(found)) == "base/block1/1/conv"
    assert [name for name in found if name.endswith("pool")] == ["base/block1/pool"]
    by_hand = model.base.features(model.preprocessing(images), ("block1",))["block1"]
    np.testing.assert_allclose(activations(model, images, ("block1",), batch_size=2)["base/block1"], by_hand, atol=1e-5)


def test_gradients_of_a_linear_network_are_its_weights():
    model, images = Linear((6, 4, 3), 5), pictures((3, 6, 4, 3))
    classes = np.array([4, 0, 2])
    weights = np.moveaxis(np.asarray(model.weights[...]), -1, 0)[classes]
    for options in ({}, {"samples": 4, "noise": 20.0}):
        maps = saliency(model, images, classes, **options)
        np.testing.assert_allclose(maps.coarse, np.abs(weights).max(axis=-1), rtol=1e-5)
    found = integrated_gradients(model, images, classes, baseline=9.0, steps=3)
    np.testing.assert_allclose(found.values, (images - 9.0) * weights, rtol=1e-4)
    np.testing.assert_allclose(found.heat_maps().coarse, np.maximum(found.values.sum(axis=-1), 0))


def test_integrated_gradients_add_up_to_the_score():
    model, images = create_model("convnet-mnist", (28, 28, 1), 10, seed=2), pictures((2, 28, 28, 1))
    found = integrated_gradients(model, images, steps=128, batch_size=1)
    logits, black = np.asarray(model(images)), np.asarray(model(np.zeros_like(images)))
    score = [row[label] - zero[label] for row, zero, label in zip(logits, black, found.classes, strict=True)]
    assert list(found.classes) == list(logits.argmax(axis=-1))
    np.testing.assert_allclose(found.values.sum(axis=(1, 2, 3)), score, rtol=0.02)


def test_occlusion_is_the_mean_loss_over_the_squares_that_cover_a_pixel():
    model, images = Linear((9, 8, 2), 3), pictures((2, 9, 8, 2)).astype(np.float32)
    classes, size, stride = np.array([1, 2]), 3, 2
    maps = occlusion(model, images, classes, size=size, stride=stride, batch_size=5)
    for image, label, found in zip(images, classes, maps.coarse, strict=True):
        weights = np.asarray(model.weights[..., label])
        effect = ((image - image.mean(axis=(0, 1))) * weights).sum(axis=-1)  # of covering one pixel
        total, count = np.zeros((9, 8)), np.zeros((9, 8))
        for top in range(stride - size, 9, stride):
            for left in range(stride - size, 8, stride):
                square = (slice(max(top, 0), top + size), slice(max(left, 0), left + size))
                total[square] += effect[square].sum()
                count[square] += 1
        np.testing.assert_allclose(found, np.maximum(total / count, 0), rtol=1e-4, atol=0.05)


def test_scorecam_weighs_channels_by_what_showing_their_places_gains():
    model, images = Tiny(), pictures((1, 4, 6, 2))
    (heat,) = scorecam(model, images, 2, layer="act", batch_size=3).coarse

    def probability(image):
        return float(jax.nn.softmax(model(image[None]))[0, 2])

    channels = np.moveaxis(np.asarray(activations(model, images, ("act",))["act"][0]), -1, 0)
    gains = []
    for channel in channels:
        stretched = (channel - channel.min()) / max(np.ptp(channel), 1e-12)
        gains.append(probability(images[0] * stretched[..., None].astype(np.float32)) - probability(0.0 * images[0]))
    expected = np.maximum(np.tensordot(gains, channels, 1), 0)
    np.testing.assert_allclose(heat, expected, rtol=1e-3, atol=1e-6)


def test_a_class_is_explained_over_the_region_that_is_asked_for():
    images = np.zeros((1, 4, 4, 2), np.uint8)
    images[0, :, :2, 0] = 200  # class 2 has both sums, so it is everywhere at least as likely: ties go to the first
    images[0, :, 2:, 1] = 100
    model = Pixels()
    assert list(gradcam(model, images, layer="conv").classes) == [0]
    left = np.zeros((1, 4, 4))
    left[:, :, :2] = 1
    by_default, asked = (saliency(model, images, 1, region=region).coarse[0] for region in (None, left))
    # Pixels predicted as class 1 are the right ones; only pixels of the region have a gradient.
    assert (by_default[:, 2:] > 0).all()
    assert not by_default[:, :2].any()
    assert (asked[:, :2] > 0).all()
    assert not asked[:, 2:].any()
    with pytest.raises(ConfigError, match=r"region: must be \(1, 4, 4\)"):
        saliency(model, images, 1, region=left[:, 1:])


class Areas(nnx.Module):
    """Segments by two convolutions with ReLU between them."""

    def __init__(self):
        self.conv = nnx.Conv(2, 6, (3, 3), rngs=nnx.Rngs(3))
        self.out = nnx.Conv(6, 3, (1, 1), rngs=nnx.Rngs(4))
        self.out.bias.set_value(jnp.array([0.0, 0.0, -9.0]))  # the last class is nowhere

    def __call__(self, images, train=False):
        return self.out(nnx.relu(self.conv(images.astype(jnp.float32) / 255)))


@pytest.mark.parametrize(
    "explain",
    [
        lambda *args, **options: gradcam(*args, layer="conv", **options),
        lambda *args, **options: gradcam(*args, layer="conv", weighting="gradcam++", **options),
        lambda *args, **options: scorecam(*args, layer="conv", of="logit", **options),
        lambda *args, **options: occlusion(*args, size=2, **options),
        lambda *args, **options: integrated_gradients(*args, **options).heat_maps(),
    ],
    ids=["gradcam", "gradcam++", "scorecam", "occlusion", "integrated gradients"],
)
def test_every_method_explains_the_pixels_of_the_class_or_of_the_region(explain):
    model, images = Areas(), pictures((2, 8, 8, 2), seed=2)
    likeliest = np.asarray(jax.jit(model)(images)).argmax(axis=-1)
    there, nowhere = 0, 2
    assert set(likeliest.ravel()) == {0, 1}
    halves = np.zeros((2, 8, 8))
    halves[0, :, :4] = halves[1, :, 4:] = 1  # another region for each picture
    found = {}
    for name, label, region in (
        ("default", there, None), ("predicted", there, likeliest == there), ("halves", there, halves),
        ("nowhere", nowhere, None), ("all", nowhere, np.ones((2, 8, 8))),
    ):  # fmt: skip
        found[name] = explain(model, images, label, region=region).coarse
        assert found[name].any()
    np.testing.assert_allclose(found["default"], found["predicted"], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(found["nowhere"], found["all"], rtol=1e-5, atol=1e-8)
    for default, half in zip(found["default"], found["halves"], strict=True):
        assert not np.allclose(default, half, rtol=0.05)


class Block(nnx.Module):
    """A convolution and ReLU, called as it is, or inside a transformation."""

    def __init__(self, wrap):
        self.conv, self.act, self.wrap = nnx.Conv(4, 4, (3, 3), strides=2, rngs=nnx.Rngs(5)), Relu(), wrap

    def __call__(self, x):
        return self.wrap(lambda self, x: self.act(self.conv(x)), self, x)


class Around(nnx.Module):
    """A stem, a block, a mean and a dense layer."""

    def __init__(self, wrap=lambda f, *args: f(*args), twice=False):
        self.stem = nnx.Conv(2, 4, (3, 3), rngs=nnx.Rngs(0))
        self.block, self.twice = Block(wrap), twice
        self.dense = nnx.Linear(4, 3, rngs=nnx.Rngs(1))

    def __call__(self, images, train=False):
        x = self.block(self.stem(images.astype(jnp.float32) / 255))
        x = self.block(x) if self.twice else x
        return self.dense(jnp.mean(x, axis=(1, 2)))


WRAPS = {
    "nnx.remat": lambda f, module, x: nnx.remat(f)(module, x),
    "nnx.jit": lambda f, module, x: nnx.jit(f)(module, x),
    "jax.checkpoint": lambda f, module, x: jax.checkpoint(lambda x: f(module, x))(x),
    "jax.jit": lambda f, module, x: jax.jit(lambda x: f(module, x))(x),
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_a_model_with_transformations_inside_is_explained_from_outside_them(wrap):
    images = pictures((2, 9, 9, 2))
    plain, wrapped = Around(), Around(WRAPS[wrap])
    for explain in (
        lambda model: saliency(model, images, 1),
        lambda model: gradcam(model, images, 1, layer="stem"),
        lambda model: gradcam(model, images, 1, layer="block"),
        lambda model: scorecam(model, images, 1, layer="block"),
    ):
        np.testing.assert_allclose(explain(wrapped).coarse, explain(plain).coarse, rtol=1e-4, atol=1e-7)
    assert gradcam(plain, images, 1).layer == gradcam(wrapped, images, 1).layer == "block"
    if wrap != "nnx.remat" and wrap != "nnx.jit":  # these hand copies of the layers inside, which nobody looks at
        with pytest.raises(ConfigError, match=r"layer: block/conv gives no array, or runs inside jax.checkpoint"):
            gradcam(wrapped, images, 1, layer="block/conv")


def test_of_a_layer_that_is_called_twice_the_first_call_is_looked_at():
    model, images = Around(twice=True), pictures((2, 20, 20, 2))
    first = activations(model, images, ("block",))["block"]
    assert first.shape == (2, 10, 10, 4)
    for explain in (gradcam, scorecam):
        assert explain(model, images, 1, layer="block").coarse.shape == (2, 10, 10)
    assert gradcam(model, images, 1).coarse.shape[1:] == (10, 10)


def test_filters_raise_the_response_of_their_own_channel():
    model = create_model("convnet-dogs-vs-cats", (64, 64, 3), 1, seed=1, features=(8, 16))
    channels = (0, 1, 2, 4)  # channel 3 does not respond to noise
    made = filters(model, "conv2", channels, size=(60, 60))
    # One channel's picture is the same whatever others are made with it.
    np.testing.assert_allclose(filters(model, "conv2", [2], size=(60, 60))[0], made[2], atol=0.5)
    starts = filters(model, "conv2", channels, size=(60, 60), ascent=Ascent(steps=0))
    response, at_first = (activations_of(model, pictures, channels) for pictures in (made, starts))
    assert (np.diag(response) > 1.4 * np.diag(at_first)).all()
    # Where ReLU gives 0 for noise there is no direction to go, but there is one before it.
    noise, stuck, found = (
        filters(model, "conv2", [3], size=(60, 60), ascent=a) for a in (Ascent(steps=0), BOOK, READABLE)
    )
    np.testing.assert_array_equal(stuck, noise)
    assert np.abs(found - noise).mean() > 20
    # Jitter, blur and decay leave fewer high frequencies than the plain ascent.
    plain = filters(model, "conv2", channels, size=(60, 60), ascent=BOOK)
    assert roughness(made) < 0.7 * roughness(plain)
    shown = filter_picture(made[0], margin=10)
    assert (shown.shape, shown.dtype) == ((40, 40, 3), np.uint8)
    assert abs(shown.mean() - 128) < 8


def activations_of(model, images, channels):
    """Mean response (picture, channel) of the second convolution inside its border."""
    graph, state = nnx.split(model)
    x = model.preprocessing(images)
    output = nnx.merge(graph, state).base.features(x, ("conv2",))["conv2"]
    return np.asarray(output[:, 2:-2, 2:-2].mean(axis=(1, 2)))[:, channels]


def roughness(images):
    """Share of a picture's variance that its nearest neighbours do not share."""
    return float(np.square(np.diff(images, axis=1)).mean() / images.var())


def test_share_inside_a_box_counts_pixels_in_part():
    heat = np.zeros((4, 8), np.float32)
    heat[1, 2:4] = (3.0, 1.0)
    assert share_inside(heat, (0.25, 0.25, 0.375, 0.5)) == (0.75, pytest.approx(1 / 32))
    half = share_inside(heat, (0.25, 0.25, 0.3125, 0.5))  # half of the pixel with 3
    assert half == (pytest.approx(1.5 / 4), pytest.approx(1 / 64))
    assert share_inside(np.ones((4, 8), np.float32), (0.1, 0.2, 0.7, 0.9)) == (pytest.approx(0.42), pytest.approx(0.42))
    assert share_inside(0 * heat, (0.0, 0.0, 1.0, 1.0)) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda m, x: gradcam(m, x, weighting="GradCAM"),
            r"weighting: must be gradcam or gradcam\+\+. Received: 'GradCAM'",
        ),
        (lambda m, x: gradcam(m, x, of="prob"), r"of: must be logit or probability or sigmoid. Received: 'prob'"),
        (lambda m, x: saliency(m, x, batch_size=0), r"batch_size: must be at least 1. Received: 0"),
        (lambda m, x: saliency(m, x[..., :1]), r"images: the model does not take pictures of \(5, 7, 1\)"),
        (lambda m, x: saliency(m, x * np.nan), r"NaN or infinity among them"),
        (lambda m, x: activations(m, x[:0]), r"images: a batch of pictures"),
        (lambda m, x: gradcam(m, x[0]), r"images: a batch of pictures .* Received: an array \(5, 7, 2\)"),
        (lambda m, x: gradcam(m, x, [0, 1]), r"classes: one for all pictures, or one for each of the 3"),
        (lambda m, x: gradcam(m, x, 3), r"classes: whole numbers from 0 to 2"),
        (lambda m, x: gradcam(m, x, layer="dense"), r"layer: dense gives \(3,\), not height, width and channels"),
        (lambda m, x: gradcam(m, x, layer="cnv"), r"no such layer. Did you mean 'conv'\?"),
        (lambda m, x: saliency(m, x, region=np.ones((3, 5, 7))), r"region: is for a model that segments"),
        (lambda m, x: occlusion(m, x, size=2, stride=3), r"stride 1 to size. Received: size 2 and stride 3"),
        (lambda m, x: filters(m, "act", [4], size=(9, 9), picture_channels=2), r"act has the channels 0 to 3"),
        (lambda m, x: filters(m, "act", [0], size=(4, 4), picture_channels=2), r"Give larger pictures"),
    ],
)
def test_what_cannot_be_explained_is_said(call, message):
    with pytest.raises(ConfigError, match=message):
        call(Tiny(), pictures((3, 5, 7, 2)))
