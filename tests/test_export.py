"""A run for other programs: each format is read by what it is for and gives the same numbers."""

import json
import os
import re

import jax
import jax.export
import keras_reference
import numpy as np
import pytest
from flax import nnx

from jaxvision.cli import main
from jaxvision.config import Data, Model, Run
from jaxvision.errors import ConfigError
from jaxvision.export import export
from jaxvision.models import create_model
from jaxvision.train.checkpoint import BestCheckpoints, ModelCard, Saved, restore_best
from jaxvision.train.metrics import class_probabilities
from jaxvision.weights import export_safetensors, load_keras_weights
from jaxvision.weights.open import open_weights

SHAPE = (14, 12, 3)
CLASSES = ("cat", "dog", "eel")
PICTURES = np.random.default_rng(0).integers(0, 256, (5, *SHAPE)).astype(np.uint8)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run folder as training leaves it, of a tiny convnet."""
    return make_run(tmp_path_factory.mktemp("runs") / "tiny", CLASSES, 3)


@pytest.fixture(scope="module")
def logits(run_dir):
    """Of `PICTURES`."""
    graph, state = nnx.split(restore_best(run_dir).model)
    return jax.jit(lambda state, images: nnx.merge(graph, state)(images))(state, PICTURES)


def make_run(folder, classes, outputs, model=Model("convnet-mnist", {"features": (4, 6)})):  # noqa: B008
    run = Run(name="tiny", data=Data(resize="crop"), model=model)
    card = ModelCard(run, classes, SHAPE, outputs)
    with BestCheckpoints(folder, card) as checkpoints:
        checkpoints.save(Saved(phase=0, value=0.5, step=3), nnx.state(card.build()))
    return folder


def test_stablehlo_is_the_model_for_any_batch_on_any_platform(run_dir, logits, tmp_path):
    out = tmp_path / "model.stablehlo"
    assert main(["export", str(run_dir), "--to", "stablehlo", "--out", str(out)]) == 0
    exported = jax.export.deserialize(bytearray(out.read_bytes()))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 5):
        found = exported.call(PICTURES[:count])
        np.testing.assert_allclose(found["logits"], logits[:count], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["probabilities"], class_probabilities(logits)[:count], rtol=1e-4, atol=1e-6)
    # Nothing that only this machine's library could run.
    assert set(re.findall(r"custom_call @(\w+)", exported.mlir_module())) == {"shape_assertion"}
    card = json.loads((tmp_path / "model.stablehlo.json").read_text())
    assert card["class_names"] == list(CLASSES)
    assert card["input"] == {"name": "images", "dtype": "uint8", "shape": ["batch", *SHAPE]}
    assert card["outputs"] == {"logits": ["batch", 3], "probabilities": ["batch", 3]}
    assert "aspect ratio" in card["resize"]
    assert card["versions"]["jax"] == jax.__version__


@pytest.mark.parametrize(("name", "size"), [("vgg16", 32), ("resnet50", 32), ("efficientnetb0", 32), ("xception", 71)])
@pytest.mark.slow
def test_stablehlo_of_the_zoo(name, size, tmp_path):
    model = create_model(name, (size, size, 3), None, seed=1)
    export_safetensors(model, tmp_path / "w.safetensors")
    export(name, "stablehlo", tmp_path / "m", weights=tmp_path / "w.safetensors", image_size=(size, size), top=False)
    exported = jax.export.deserialize(bytearray((tmp_path / "m").read_bytes()))
    pictures = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    expected = np.asarray(model(pictures))
    np.testing.assert_allclose(
        exported.call(pictures)["features"], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()
    )


def test_one_logit_becomes_two_probabilities(tmp_path):
    run_dir = make_run(tmp_path / "run", ("cat", "dog"), 1)
    export(run_dir, "stablehlo", tmp_path / "m")
    found = jax.export.deserialize(bytearray((tmp_path / "m").read_bytes())).call(PICTURES[:4])
    assert (found["logits"].shape, found["probabilities"].shape) == ((4, 1), (4, 2))
    np.testing.assert_allclose(found["probabilities"][:, 1], jax.nn.sigmoid(found["logits"][:, 0]), rtol=1e-5)


def test_savedmodel_is_served_by_tensorflow(run_dir, logits, tmp_path):
    tf = pytest.importorskip("tensorflow")
    out = tmp_path / "saved"
    assert main(["export", str(run_dir), "--to", "savedmodel", "--out", str(out)]) == 0
    assert os.listdir(tmp_path) == ["saved"]
    serve = tf.saved_model.load(str(out)).signatures["serving_default"]
    for count in (1, 5):
        found = serve(images=tf.constant(PICTURES[:count]))
        np.testing.assert_allclose(found["logits"], logits[:count], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(tf.reduce_sum(found["probabilities"], 1), np.ones(count), rtol=1e-5)
    card = json.loads((out / "assets.extra" / "jaxvision.json").read_text())
    assert card["class_names"] == list(CLASSES)


def test_safetensors_fill_a_fresh_model(run_dir, tmp_path):
    out = tmp_path / "w.safetensors"
    assert main(["export", str(run_dir), "--to", "safetensors", "--out", str(out)]) == 0
    fresh = create_model("convnet-mnist", SHAPE, 3, seed=8, features=(4, 6))
    load_keras_weights(fresh, out)
    filled, expected = nnx.state(fresh), nnx.state(restore_best(run_dir).model)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), filled, expected))


def test_keras_weights_are_loaded_by_keras(run_dir, logits, tmp_path):
    out = tmp_path / "m.weights.h5"
    assert main(["export", str(run_dir), "--to", "keras", "--out", str(out)]) == 0
    found = keras_reference.run("load_weights", out, images=PICTURES)["logits"]
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)


def test_a_model_by_name_with_a_file_of_weights(tmp_path, monkeypatch):
    model = create_model("dense-mnist", (28, 28, 1), 7, seed=2)
    export_safetensors(model, tmp_path / "w.safetensors")
    monkeypatch.delattr("jaxvision.train.ready.create_model")  # no random weights are drawn to be replaced
    export("dense-mnist", "stablehlo", tmp_path / "m", weights=tmp_path / "w.safetensors")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1)).astype(np.uint8)
    found = jax.export.deserialize(bytearray((tmp_path / "m").read_bytes())).call(pictures)["logits"]
    np.testing.assert_allclose(found, model(pictures), rtol=1e-4, atol=1e-5)


class Own(nnx.Module):
    """A model of one's own: no base, and a dropout with random state of its own, which no file has."""

    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.dense = nnx.Linear(input_shape[-1], num_classes, rngs=rngs)

    def __call__(self, images, train=False, *, rngs=None):
        pixels = jax.numpy.asarray(images, jax.numpy.float32).mean((1, 2)) / 255.0
        return self.dense(self.drop(pixels, deterministic=not train))


def test_a_model_of_ones_own_with_random_state(tmp_path):
    name = f"{__name__}:Own"
    model = create_model(name, SHAPE, 3, seed=2)
    export_safetensors(model, tmp_path / "w.safetensors")
    export(name, "stablehlo", tmp_path / "m", weights=tmp_path / "w.safetensors", image_size=SHAPE[:2])
    found = jax.export.deserialize(bytearray((tmp_path / "m").read_bytes())).call(PICTURES)["logits"]
    np.testing.assert_allclose(found, model(PICTURES), rtol=1e-4, atol=1e-5)
    own = make_run(tmp_path / "run", CLASSES, 3, Model(name))
    with pytest.raises(ConfigError, match="no base and head"):
        export(own, "stablehlo", tmp_path / "top", top=False)


def test_no_top_of_a_run_is_its_base_alone(run_dir, tmp_path):
    assert main(["export", str(run_dir), "--to", "stablehlo", "--out", str(tmp_path / "m"), "--no-top"]) == 0
    found = jax.export.deserialize(bytearray((tmp_path / "m").read_bytes())).call(PICTURES)
    (expected,) = restore_best(run_dir).model.features(PICTURES).values()
    assert found.keys() == {"features"}
    np.testing.assert_allclose(found["features"], expected, rtol=1e-4, atol=1e-5)
    export(run_dir, "safetensors", tmp_path / "w.safetensors", top=False)
    with open_weights(tmp_path / "w.safetensors") as file:
        assert [layer.name for layer in file.layers] == ["conv1", "conv2"]


def test_what_savedmodel_cannot_write_is_one_message(run_dir, capsys):
    pytest.importorskip("tensorflow")
    assert main(["export", str(run_dir), "--to", "savedmodel", "--out", "/proc/m"]) == 2
    assert "error: /proc/m: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}", "--to", "stablehlo", "--out", "there"], ["already there"]),
        (["{run}", "--to", "savedmodel", "--out", "there"], ["already there"]),
        (["{run}", "--to", "stablehlo", "--out", "other"], ["other.json", "already there"]),
        (
            ["{run}", "--to", "safetensors", "--out", "/proc/m.safetensors"],
            ["/proc/m.safetensors", "cannot be written"],
        ),
        (["{run}", "--to", "keras", "--out", "/proc/m.weights.h5"], ["/proc/m.weights.h5", "cannot be written"]),
        (["{run}", "--to", "keras", "--out", "m.h5"], ["NAME.weights.h5", "m.h5"]),
        (["{run}", "--to", "safetensor", "--out", "m"], ["Did you mean 'safetensors'", "Received: 'safetensor'"]),
        (["{run}", "--to", "onnx", "--out", "m.onnx"], ["environment of its own", "jax2onnx"]),
        (["no/run", "--to", "stablehlo", "--out", "m"], ["no/run", "neither a run folder"]),
        (["{run}", "--to", "stablehlo", "--out", "there/m"], ["there/m", "cannot be written"]),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(arguments, said, run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").write_bytes(b"mine")
    (tmp_path / "other.json").write_bytes(b"mine")
    assert main(["export", *(text.format(run=run_dir) for text in arguments)]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said), error
    assert sorted(os.listdir(tmp_path)) == ["other.json", "there"]
    assert (tmp_path / "there").read_bytes() == b"mine"
