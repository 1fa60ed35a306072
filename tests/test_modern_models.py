"""Chapter 9's models: options for ablation, sizes that work, and the encoder of a U-Net."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision.config import Data, Model, Phase, Run
from jaxvision.data.given import given_dataset
from jaxvision.errors import ConfigError, DataError
from jaxvision.models import abstract_model, create_model, summarize, unet
from jaxvision.models.classifier import PublishedClassifier
from jaxvision.nn import BatchNorm, Chain, Conv, Dropout, MaxPool, Rescaling, ZeroPad
from jaxvision.train import initial
from jaxvision.train.features import with_features
from jaxvision.train.freeze import select
from jaxvision.weights import export_safetensors, load_keras_weights


def rows(name, shape, outputs, **options):
    return summarize(abstract_model(name, shape, outputs, **options), shape).layers


def count(name, **options):
    """Trained and stored parameters of a small model."""
    summary = summarize(abstract_model(name, (21, 18, 3), 1, features=(4, 8), **options), (21, 18, 3))
    return summary.trainable_params, summary.frozen_params


def test_what_is_switched_off_is_gone():
    whole, statistics = count("residual-convnet", batch_norm=True)
    assert statistics == 2 * (4 + 4 + 8 + 8)
    # Convolutions have a bias each, shortcuts too, and BatchNorm a scale and an offset.
    assert count("residual-convnet") == (whole - 2 * 24 + 24 + 12, 0)
    assert count("residual-convnet", batch_norm=True, residual=False)[0] == whole - (3 * 4 + 4 * 8)
    whole, statistics = count("mini-xception")
    assert statistics == 2 * (4 + 4 + 4 + 8)
    assert count("mini-xception", batch_norm=False) == (whole - 2 * 20 + 4 + (4 + 4 + 8 + 8) + (4 + 8), 0)
    assert count("mini-xception", residual=False)[0] == whole - (4 * 4 + 4 * 8)
    pairs = ((4, 4), (4, 4), (4, 8), (8, 8))
    assert count("mini-xception", separable=False)[0] == whole + sum(9 * i * o - (9 * i + i * o) for i, o in pairs)


@pytest.mark.parametrize("name", ["residual-convnet", "mini-xception"])
@pytest.mark.parametrize("order", ["conv-norm-act", "conv-act-norm", "norm-act-conv"])
def test_the_order_of_a_block_is_an_option(name, order):
    layers = rows(name, (21, 18, 3), 1, features=(4, 8), order=order, batch_norm=True)
    kinds = [row.kind for row in layers if row.path.startswith("base/block1/1/")]
    names = {"Conv": "conv", "depthwise": "", "BatchNorm": "norm", "Activation": "act", "DepthwiseConv": ""}
    assert "-".join(names[kind] for kind in kinds if names[kind]) == order
    assert layers[-1].output_shape == (1,)


def test_no_head_gives_the_base_and_dropout_is_the_books():
    assert rows("mini-xception", (180, 180, 3), None)[-1].output_shape == (6, 6, 512)
    assert rows("residual-convnet", (32, 32, 3), None)[-1].output_shape == (8, 8, 128)
    assert rows("segmenter", (40, 48, 3), None)[-1].output_shape == (40, 48, 64)
    assert abstract_model("mini-xception", (180, 180, 3), 1).head.dropout.rate == 0.5


@pytest.mark.parametrize("downsample", ["stride", "max", "average", "none"])
def test_the_segmenter_gives_pictures_of_their_size_however_it_halves_them(downsample):
    layers = rows("segmenter", (40, 24, 3), 5, features=(4, 8, 16), downsample=downsample)
    assert layers[-1].output_shape == (40, 24, 5)
    smallest = (40, 24) if downsample == "none" else (5, 3)
    assert [row.output_shape for row in layers if row.path.endswith("down3_conv2")] == [(*smallest, 16)]
    assert sum(row.trainable for row in layers) == sum(
        row.trainable for row in rows("segmenter", (40, 24, 3), 5, features=(4, 8, 16))
    )


def test_a_model_of_1x1_convolutions_sees_each_pixel_alone():
    model = create_model("segmenter", (7, 9, 3), 2, features=(4, 8), kernel_size=1, downsample="none")
    images = np.random.default_rng(0).integers(0, 256, (1, 7, 9, 3)).astype(np.uint8)
    changed = images.copy()
    changed[0, 3, 4] ^= 255
    differs = np.any(np.asarray(model(images) != model(changed)), axis=-1)[0]
    assert np.argwhere(differs).tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("name", "shape", "options", "said"),
    [
        ("segmenter", (36, 27, 3), {}, "multiples of 8, such as 40x24. Received: 36x27"),
        ("segmenter", (2, 32, 3), {}, "such as 8x32"),
        ("segmenter", (30, 32, 3), {"features": (4, 8)}, "multiples of 4, such as 32x32"),
        ("mini-xception", (4, 40, 3), {}, "too small"),
        ("unet", (64, 64, 1), {}, "3 channels"),
        ("unet", (20, 64, 3), {}, "too small"),
        ("unet", (64, 64, 3), {"decoder_features": (8, 4)}, "vgg16 needs 5 numbers. Received: \\(8, 4\\)"),
        ("unet", (64, 64, 3), {"encoder": "segmenter"}, "encoder.*vgg16"),
    ],
)
def test_faults_are_named(name, shape, options, said):
    with pytest.raises(ConfigError, match=said):
        abstract_model(name, shape, 3, **options)


SKIPS = {
    "vgg16": ("block1_conv2", "block2_conv2", "block3_conv3", "block4_conv3", "block5_conv3"),
    "vgg19": ("block1_conv2", "block2_conv2", "block3_conv4", "block4_conv4", "block5_conv4"),
    "resnet50": ("conv1_relu", "conv2_block3", "conv3_block4", "conv4_block6"),
    "xception": ("block1_conv2_act", "block2", "block3", "block12"),
    "mobilenetv2": ("expanded_conv", "block_2", "block_5", "block_12"),
    "efficientnetb0": ("block1a", "block2b", "block3b", "block5c"),
    "densenet121": ("conv1_relu", "conv2_block6", "conv3_block12", "conv4_block24"),
}


@pytest.mark.parametrize("encoder", SKIPS)
def test_every_published_base_is_an_encoder_of_pictures_of_any_size(encoder):
    model = abstract_model("unet", (97, 130, 3), 4, encoder=encoder, dtype=jnp.bfloat16)
    assert model.skips == SKIPS[encoder]
    graph, variables = nnx.split(model)
    images = jax.ShapeDtypeStruct((2, 97, 130, 3), jnp.uint8)
    logits = jax.eval_shape(lambda variables, images: nnx.merge(graph, variables)(images), variables, images)
    assert (logits.shape, logits.dtype) == ((2, 97, 130, 4), jnp.bfloat16)


class Small(PublishedClassifier):
    """What encoders have: a valid convolution, zeros around, strides that halve odd sizes, BatchNorm, dropout."""

    def __init__(self, input_shape, num_classes, *, dtype=jnp.float32, rngs):
        base = Chain(
            conv1=Conv(3, 4, activation=jax.nn.relu, dtype=dtype, rngs=rngs),
            drop=Dropout(0.5),
            bn1=BatchNorm(4, momentum=0.5),
            conv2=Conv(4, 6, strides=2, padding="SAME", dtype=dtype, rngs=rngs),
            bn2=BatchNorm(6, momentum=0.5),
            pad=ZeroPad(1),
            pool=MaxPool(2),
        )
        options = dict(top="published", hidden=(), dropout=0.0, dtype=dtype, rngs=rngs)
        super().__init__(input_shape, num_classes, preprocessing=Rescaling(1 / 100), base=base, **options)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(unet.ZOO, "vgg16", Small)
    return create_model("unet", (15, 11, 3), 3, decoder_features=(8, 6, 4))


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 15, 11, 3)).astype(np.uint8)


def test_the_decoder_sees_the_last_layer_of_each_size(small):
    assert small.skips == ("bn1", "bn2")
    names = ("pool", *small.skips)
    bottom, large, middle = small.base.features(small.preprocessing(IMAGES), names).values()
    assert (bottom.shape, middle.shape, large.shape) == ((2, 4, 3, 6), (2, 7, 5, 6), (2, 13, 9, 4))

    def enlarged(x, size):
        return jax.image.resize(x, (2, *size, x.shape[-1]), "nearest")

    head = small.head
    for number in range(3):
        getattr(head, f"norm{number}").mean.set_value(jnp.full_like(getattr(head, f"norm{number}").mean[...], number))
    x = head.up1(jnp.concatenate([enlarged(head.norm0(bottom), (7, 5)), head.norm1(middle)], -1))
    x = head.up2(jnp.concatenate([enlarged(x, (13, 9)), head.norm2(large)], -1))
    want = small.head.logits(small.head.up3(enlarged(x, (15, 11))))
    np.testing.assert_allclose(small(IMAGES), want, rtol=1e-5, atol=1e-6)
    small.head = Chain()
    np.testing.assert_array_equal(small(IMAGES), bottom)
    alone = create_model("unet", (15, 11, 3), None)
    np.testing.assert_array_equal(alone(IMAGES), bottom)


def test_only_the_decoder_trains_and_the_encoder_runs_as_in_evaluation(small):
    def statistics():
        flat = nnx.to_flat_state(nnx.state(small, nnx.BatchStat))
        return {path: np.asarray(variable[...]) for path, variable in flat}

    selection = select(small, Phase(trainable=("head",)))
    assert {path[0] for path in selection.paths} == {"head"}
    # Three stages of two convolutions with BatchNorm, BatchNorm of three levels of the encoder, and the logits.
    assert len(selection.paths) == 3 * 2 * 3 + 3 * 2 + 2
    selection.apply(small)
    before = statistics()
    small(IMAGES, train=True)  # nothing random is asked for
    moved = {path[0] for path, value in statistics().items() if not np.array_equal(value, before[path])}
    assert moved == {"head"}
    assert {path[1] for path in select(small, Phase(trainable=("base[-4:]",))).paths} == {"conv2"}
    select(small, Phase()).apply(small)
    small(IMAGES, train=True, rngs=nnx.Rngs(dropout=0))
    assert not np.array_equal(statistics()["base", "bn1", "mean"], before["base", "bn1", "mean"])


def test_features_of_the_base_alone_are_not_enough_for_the_head(small):
    run = Run(model=Model("unet"), cache_features="all", data=Data(cache="off"))
    dataset = given_dataset({"train": (IMAGES, np.zeros(2, np.int32))}, run.data)
    with pytest.raises(ConfigError, match="more of them"):
        with_features(dataset, small, run, progress=False)


def test_the_encoder_starts_from_its_published_weights(tmp_path, monkeypatch):
    file = tmp_path / "m.safetensors"
    source = create_model("mobilenetv2", (32, 32, 3), None, seed=1)
    export_safetensors(source, file, name="mobilenetv2")
    model = abstract_model("unet", (32, 32, 3), 3, encoder="mobilenetv2")
    with pytest.raises(DataError, match="reinit_head=True"):
        load_keras_weights(model, file)
    asked = []
    monkeypatch.setattr(initial, "published_file", lambda name, top: asked.append((name, top)) or file)
    settings = Model("unet", {"encoder": "mobilenetv2"}, weights="imagenet")
    for outputs in (3, 1000):
        with pytest.raises(ConfigError, match="reinit_head"):
            initial.load_initial_weights(model, Run(model=settings), outputs)
    initial.load_initial_weights(model, Run(model=replace(settings, reinit_head=True)), 3)
    assert asked == [("mobilenetv2", False)]
    for (path, variable), (_, wanted) in zip(
        nnx.to_flat_state(nnx.state(model.base)), nnx.to_flat_state(nnx.state(source.base)), strict=True
    ):
        np.testing.assert_array_equal(variable[...], wanted[...], err_msg=str(path))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(nnx.state(model.head)))


def test_the_published_vgg16_fills_the_encoder(shared_data):
    path = shared_data / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    model, published = abstract_model("unet", (45, 60, 3), 11), abstract_model("vgg16", (45, 60, 3), None)
    load_keras_weights(model, path, reinit_head=True)
    load_keras_weights(published, path)
    for name in published.base.names:
        for ours, theirs in zip(
            jax.tree.leaves(nnx.state(getattr(model.base, name))),
            jax.tree.leaves(nnx.state(getattr(published.base, name))),
            strict=True,
        ):
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
