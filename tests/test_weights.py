"""Weights between Keras and us: every format both ways, what does not fit, and the command line."""

import resource
import shutil
from dataclasses import replace

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from keras_reference import run as keras
from safetensors.flax import save_file as save_jax_file
from safetensors.numpy import load_file, save_file
from weight_files import assert_equal, mnist, values, write_legacy, write_ours

import jaxvision as jv
from jaxvision.cli import main
from jaxvision.config import Loss, Model
from jaxvision.errors import ConfigError, DataError
from jaxvision.models import abstract_model, create_model
from jaxvision.nn import BatchNorm
from jaxvision.train.checkpoint import BestCheckpoints, ModelCard, Saved
from jaxvision.train.initial import load_initial_weights
from jaxvision.weights import export_keras, export_safetensors, load_keras_weights
from jaxvision.weights.names import model_layers
from jaxvision.weights.open import open_weights

ZOO = {"resnet50": 64, "xception": 96, "mobilenetv2": 64, "efficientnetb0": 64, "densenet121": 64}


@pytest.fixture(scope="module")
def keras_files(tmp_path_factory):
    """The folder of files that Keras wrote, and the tensors of each model as ours should have them."""
    folder = tmp_path_factory.mktemp("keras")
    arrays = keras("weights", "write", folder)
    models: dict[str, list[np.ndarray]] = {}
    for name, value in arrays.items():
        models.setdefault(name.partition("/")[0], []).append(value)
    expected = {}
    for name, given in models.items():
        layers = [*(f"base/conv{number}" for number in range(1, len(given) // 2)), "head/logits"]
        names = [f"{layer}/{tensor}" for layer in layers for tensor in ("kernel", "bias")]
        expected[name] = dict(zip(names, given, strict=True))
    return folder, expected


@pytest.fixture
def ours(tmp_path):
    """A model of ours, and the folder of its files."""
    return write_ours(tmp_path), tmp_path


@pytest.mark.parametrize(
    "file",
    [
        *(f"{model}{suffix}" for model in ("book", "nested", "named") for suffix in (".weights.h5", ".keras", ".h5")),
        "subclassed.weights.h5",
    ],
)
def test_what_keras_writes_is_loaded_bit_for_bit(keras_files, file):
    folder, expected = keras_files
    model = mnist()
    load_keras_weights(model, folder / file)
    assert_equal(model, expected[file.split(".")[0]])


def four_convs(features=(8,) * 4, seed=5) -> nnx.Module:
    return create_model("convnet-mnist", (12, 12, 1), 10, seed=seed, features=features, downsample="none")


@pytest.mark.parametrize(
    "file",
    [
        "frozen-none.legacy.h5",
        "frozen-first.h5",
        "frozen-middle.h5",
        "frozen-middle.weights.h5",
        "frozen-named.legacy.h5",
        "frozen-other.h5",
        "frozen-widths.legacy.h5",
    ],
)
def test_a_base_with_frozen_layers_is_loaded_bit_for_bit(keras_files, file):
    """A legacy file lists the trainable tensors of a model inside the model before the frozen ones."""
    folder, expected = keras_files
    model = four_convs((4, 6, 8, 10) if "widths" in file else (8,) * 4)
    load_keras_weights(model, folder / file)
    assert_equal(model, expected[file.split(".")[0]])


@pytest.mark.parametrize("file", ["frozen-first.legacy.h5", "frozen-middle.legacy.h5", "frozen-other.legacy.h5"])
def test_layers_that_only_an_uncertain_order_tells_apart_are_refused(keras_files, file):
    folder, _ = keras_files
    before = values(model := four_convs())
    with pytest.raises(DataError, match=r"not certain.*'conv_base'.*NAME\.weights\.h5.*names in Keras: conv2, conv3"):
        load_keras_weights(model, folder / file)
    assert_equal(model, before)


def test_verify_agrees_with_loading(keras_files, tmp_path, capsys):
    folder, _ = keras_files
    options = {"features": (8,) * 4, "downsample": "none"}
    card = ModelCard(jv.Run(model=Model("convnet-mnist", options)), (), (12, 12, 1), 10)
    with BestCheckpoints(tmp_path / "run", card) as checkpoints:
        checkpoints.save(Saved(phase=0, value=0.5, step=3), nnx.state(four_convs()))
    for name, code in (("frozen-first.h5", 0), ("frozen-first.legacy.h5", 2)):
        assert main(["weights", "verify", str(folder / name), "--model", str(tmp_path / "run")]) == code
    assert "not certain" in capsys.readouterr().err


def test_layers_on_branches_and_in_files_without_an_order_are_not_guessed(tmp_path):
    small = abstract_model("resnet50", (64, 64, 3), None, blocks=(1, 1, 1, 1))
    small = nnx.merge(nnx.graphdef(small), jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), nnx.state(small)))
    counts: dict[str, int] = {}
    layers = []
    for layer in model_layers(small):
        number = counts[layer.kind] = counts.get(layer.kind, -1) + 1
        layers.append((f"{layer.kind}_{number}", [tensor.values() for tensor in layer.tensors]))
    write_legacy(tmp_path / "branches.h5", layers)
    with pytest.raises(DataError, match=r"parallel branches.*conv2_block1_0_conv, conv2_block1_3_conv"):
        load_keras_weights(small, tmp_path / "branches.h5")
    with h5py.File(tmp_path / "nameless.weights.h5", "w") as file:
        for name, arrays in layers:
            for number, array in enumerate(arrays):
                file[f"layers/{name.removesuffix('_0')}/vars/{number}"] = array
    with pytest.warns(UserWarning, match=r"no layer names.*conv2_block1_0_conv, conv2_block1_3_conv"):
        load_keras_weights(small, tmp_path / "nameless.weights.h5")
    equal = model_layers(model := four_convs(seed=1))
    for names, known in ((("stem", "body", "neck", "top"), False), (("c1", "c2", "c3", "c10"), True)):
        called = dict(zip(("conv1", "conv2", "conv3", "conv4"), names, strict=True))
        tensors = {f"{called.get(one.name, one.name)}/{t.name}": t.values() for one in equal for t in one.tensors}
        save_file(tensors, tmp_path / "unordered.safetensors")
        fresh = four_convs()
        if known:
            load_keras_weights(fresh, tmp_path / "unordered.safetensors")
            assert_equal(fresh, values(model))
        else:
            with pytest.raises(DataError, match="does not tell their order"):
                load_keras_weights(fresh, tmp_path / "unordered.safetensors")


def test_a_file_whose_model_computes_otherwise_is_not_silent(keras_files):
    """A whole model's file says how its layers compute, which tensors do not show."""
    folder, _ = keras_files
    options = {"features": (8,) * 3}
    with pytest.raises(DataError, match=r"setting: conv1 has strides \(1, 1\)\. Received: \(2, 2\)"):
        load_keras_weights(
            create_model("convnet-mnist", (10, 10, 1), 10, downsample="none", **options), folder / "strided.h5"
        )
    strided = create_model("convnet-mnist", (28, 28, 1), 10, downsample="stride", **options)
    load_keras_weights(strided, folder / "strided.h5")

    class Own(nnx.Module):
        def __init__(self, epsilon):
            self.conv = nnx.Conv(1, 4, (3, 3), rngs=nnx.Rngs(0))
            self.norm = BatchNorm(4, epsilon=epsilon)

    for file in ("epsilon.h5", "epsilon.keras"):
        load_keras_weights(Own(1.001e-5), folder / file)
        with pytest.warns(UserWarning, match=r"epsilon 1e-05, this one with 0\.001"):
            load_keras_weights(Own(1e-3), folder / file)


def test_weights_of_a_network_without_biases_are_warned_of(tmp_path):
    """torchvision's ResNet50 under Keras' names: all shapes fit, its strides are elsewhere."""
    small = abstract_model("resnet50", (64, 64, 3), None, blocks=(1, 1, 1, 1))
    zero_bias = {("conv2d", "bias"): np.zeros}
    tensors = {
        f"{layer.name}/{tensor.name}": zero_bias.get((layer.kind, tensor.name), np.ones)(tensor.shape, np.float32)
        for layer in model_layers(small)
        for tensor in layer.tensors
    }
    save_file(tensors, tmp_path / "renamed.safetensors")
    with pytest.warns(UserWarning, match=r"biases of its 17 convolutions are 0.*torchvision's ResNet"):
        load_keras_weights(small, tmp_path / "renamed.safetensors")
    save_file({name: value for name, value in tensors.items() if value.any()}, tmp_path / "renamed.safetensors")
    with pytest.raises(DataError, match=r"no such biases.*torchvision's ResNet"):
        load_keras_weights(small, tmp_path / "renamed.safetensors")


@pytest.mark.parametrize(("file_outputs", "run_outputs", "two_logits"), [(2, 1, False), (1, 2, True)])
def test_a_head_of_two_outputs_in_a_run_of_one_and_the_reverse(tmp_path, file_outputs, run_outputs, two_logits):
    export_keras(mnist(outputs=file_outputs), tmp_path / "m.weights.h5")
    run = jv.Run(model=Model(weights=str(tmp_path / "m.weights.h5")), loss=Loss(two_logits=two_logits))
    with pytest.raises(DataError, match=f"--loss.two-logits {not two_logits} .*--model.reinit-head True"):
        load_initial_weights(mnist(outputs=run_outputs), run, run_outputs)
    card = ModelCard(run, ("cat", "dog"), (28, 28, 1), file_outputs)
    with BestCheckpoints(tmp_path / "run", card) as checkpoints:
        checkpoints.save(Saved(phase=0, value=0.5, step=3), nnx.state(mnist(outputs=file_outputs)))
    from_run = replace(run, model=Model(init_from=str(tmp_path / "run")))
    with pytest.raises(ConfigError, match=f"--loss.two-logits {not two_logits} .*--model.reinit-head True"):
        load_initial_weights(mnist(outputs=run_outputs), from_run, run_outputs)
    for each in (run, from_run):  # what the message advises
        other = replace(each, loss=Loss(two_logits=not two_logits))
        load_initial_weights(mnist(outputs=file_outputs), other, file_outputs)
    three = mnist(outputs=3)
    with pytest.raises(DataError, match=r"differs\. --model.reinit-head True"):
        load_initial_weights(three, run, 3)


def test_another_head_for_a_model_by_name_has_an_advice_that_works(tmp_path, capsys):
    export_keras(mnist(), tmp_path / "m.weights.h5")
    argv = ["weights", "verify", str(tmp_path / "m.weights.h5"), "--model", "convnet-mnist"]
    assert main([*argv, "--num-classes", "3"]) == 2
    assert "leave out the number of classes (--num-classes)" in capsys.readouterr().err
    assert main(argv) == 0


def test_a_base_of_another_depth_is_no_other_head(tmp_path):
    """reinit_head passes over layers after the base; where the file has no order, over none of the base's kinds."""
    deeper = {f"{one.name}/{t.name}": t.values() for one in model_layers(four_convs()) for t in one.tensors}
    save_file(deeper, tmp_path / "deeper.safetensors")
    shallow = create_model("convnet-mnist", (12, 12, 1), 10, features=(8,) * 3, downsample="none")
    with pytest.raises(DataError, match="extra: conv4/kernel"):
        load_keras_weights(shallow, tmp_path / "deeper.safetensors", reinit_head=True)
    load_keras_weights(four_convs(), tmp_path / "deeper.safetensors", reinit_head=True)


def test_kernels_that_theano_rotated_are_refused(ours):
    _, folder = ours
    with h5py.File(folder / "m.h5", "a") as file:
        file.attrs["backend"] = b"theano"
    with pytest.raises(DataError, match="rotated"):
        load_keras_weights(mnist(), folder / "m.h5")


def test_format_is_told_by_content_not_by_name(keras_files, tmp_path):
    folder, expected = keras_files
    for file in ("book.keras", "book.h5", "book.weights.h5"):
        shutil.copy(folder / file, tmp_path / "weights.bin")
        model = mnist()
        load_keras_weights(model, str(tmp_path / "weights.bin"))
        assert_equal(model, expected["book"])


def test_groups_without_names_are_matched_by_kind_and_number(keras_files, tmp_path):
    folder, expected = keras_files
    path = tmp_path / "older.weights.h5"
    shutil.copy(folder / "book.weights.h5", path)
    with h5py.File(path, "a") as file:
        for layer in file["layers"].values():
            layer["vars"].attrs.clear()
    model = mnist()
    load_keras_weights(model, path)
    assert_equal(model, expected["book"])


def test_keras_to_us_to_keras_is_bit_exact(keras_files, tmp_path):
    folder, expected = keras_files
    book, dogs = mnist(), create_model("convnet-dogs-vs-cats", (180, 180, 3), 1)
    load_keras_weights(book, folder / "book.keras")
    load_keras_weights(dogs, folder / "dogs-vs-cats.weights.h5")
    # By way of our own format, and after being taken apart and merged, as a model from a checkpoint is.
    export_safetensors(dogs, tmp_path / "dogs.safetensors")
    dogs = nnx.merge(*nnx.split(create_model("convnet-dogs-vs-cats", (180, 180, 3), 1)))
    load_keras_weights(dogs, tmp_path / "dogs.safetensors")
    export_keras(book, tmp_path / "book.weights.h5")
    export_keras(dogs, tmp_path / "dogs.weights.h5")
    back = keras("weights", "read", f"book={tmp_path}/book.weights.h5", f"dogs-vs-cats={tmp_path}/dogs.weights.h5")
    for name in ("book", "dogs-vs-cats"):
        got = [value for key, value in back.items() if key.startswith(f"{name}/")]
        for one, other in zip(got, expected[name].values(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_half_precision_is_widened_exactly(keras_files, tmp_path):
    folder, expected = keras_files
    model = mnist()
    load_keras_weights(model, folder / "half.weights.h5")  # bfloat16
    assert_equal(model, expected["half"])
    load_keras_weights(half := mnist(dtype=jnp.bfloat16), folder / "half.weights.h5")
    assert_equal(half, expected["half"])  # parameters are float32 whatever is computed in
    layers = [(layer.name, [t.values() for t in layer.tensors]) for layer in model_layers(mnist(seed=1))]
    tensors = {f"{name}/{i}": jnp.asarray(a, jnp.bfloat16) for name, arrays in layers for i, a in enumerate(arrays)}
    save_jax_file(tensors, tmp_path / "m.safetensors")
    load_keras_weights(model, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(model.base.conv1.kernel[...], layers[0][1][0].astype(jnp.bfloat16).astype("f4"))
    for dtype in (np.float16, np.float64):
        write_legacy(tmp_path / "m.h5", [(name, [a.astype(dtype) for a in arrays]) for name, arrays in layers])
        load_keras_weights(model, tmp_path / "m.h5")
        kernel = layers[0][1][0].astype(dtype).astype(np.float32)
        np.testing.assert_array_equal(model.base.conv1.kernel[...], kernel)


def test_a_model_of_ones_own_by_the_paths_of_its_layers(tmp_path):
    class Own(nnx.Module):
        def __init__(self, rngs):
            self.stem = nnx.Conv(3, 4, (3, 3), rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.blocks = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])
            self.drop = nnx.Dropout(0.5, rngs=rngs)

    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    norm = [draw(4) for _ in range(4)]
    layers = [("stem", [draw(3, 3, 3, 4), draw(4)]), ("norm", norm)]
    layers += [(f"blocks_{i}", [draw(4, 4), draw(4)]) for i in range(2)]
    # Keras names them: then names, not their order, decide.
    names = {"norm": [f"norm/{name}:0" for name in ("moving_variance", "beta", "moving_mean", "gamma")]}
    write_legacy(tmp_path / "own.h5", layers, weight_names=names)
    model = Own(nnx.Rngs(0))
    load_keras_weights(model, tmp_path / "own.h5")
    np.testing.assert_array_equal(model.stem.kernel[...], layers[0][1][0])
    np.testing.assert_array_equal(model.blocks[1].bias[...], layers[3][1][1])
    for variable, value in zip((model.norm.var, model.norm.bias, model.norm.mean, model.norm.scale), norm, strict=True):
        np.testing.assert_array_equal(variable[...], value)


def test_names_of_old_files():
    """Slashes in the published DenseNet, and what Keras 1 made up for Xception's shortcuts; an old name of a head."""
    from jaxvision.weights.contents import FileLayer, FileTensor
    from jaxvision.weights.match import match_layers

    for name, size, rename in (
        (
            "densenet121",
            64,
            lambda n: n.replace("_conv", "/conv").replace("_bn", "/bn").replace("predictions", "fc1000"),
        ),
        (
            "xception",
            96,
            lambda n: n.replace("batch_normalization", "batchnormalization").replace("conv2d", "convolution2d"),
        ),
    ):
        layers = model_layers(abstract_model(name, (size, size, 3), 1000))
        theirs = [
            FileLayer(
                rename(layer.name),
                layer.kind,
                tuple(FileTensor(f"{i}:0", t.shape, np.dtype("f4"), np.zeros) for i, t in enumerate(layer.tensors)),
                (("", number),),
            )
            for number, layer in enumerate(layers)
        ]
        match = match_layers(layers, theirs)
        assert match.whole
        assert [pair.theirs.name for pair in match.pairs] == [layer.name for layer in theirs]


def test_all_that_does_not_fit_is_in_one_error_and_nothing_is_changed(ours):
    _, folder = ours
    with h5py.File(folder / "m.weights.h5", "a") as file:
        del file["layers/conv2d_1/vars/1"]
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = np.zeros((7, 10), np.float32)
        file.create_group("layers/conv2d_3/vars").attrs["name"] = "conv9"
        file["layers/conv2d_3/vars/0"] = np.zeros((1, 1, 2, 2), np.float32)
        del file["layers/conv2d/vars/1"]
        file["layers/conv2d/vars/1"] = np.zeros(32, np.int32)
        del file["layers/conv2d_2"]
    before = values(fresh := mnist(seed=5))
    with pytest.raises(DataError) as error:
        load_keras_weights(fresh, folder / "m.weights.h5")
    message = str(error.value)
    for part in (
        str(folder / "m.weights.h5"),
        "3 missing, 1 extra, 1 of another shape, 1 of another type",
        "missing: conv2/bias (64,)",
        "missing: conv3/kernel (3, 3, 64, 128)",
        "missing: conv3/bias (128,)",
        "extra: conv9/0 (1, 1, 2, 2)",
        "shape: logits/kernel must be (1152, 10). Received: (7, 10)",
        "type: conv1/bias must be floating-point. Received: int32",
    ):
        assert part in message
    assert_equal(fresh, before)


def test_another_class_count_needs_reinit_head(ours):
    model, folder = ours
    for file in ("m.h5", "m.weights.h5", "m.safetensors"):
        fresh = mnist(seed=5, outputs=3)
        before = values(fresh)
        with pytest.raises(DataError, match=r"(?s)reinit_head=True.*logits/kernel must be \(1152, 3\).*\(1152, 10\)"):
            load_keras_weights(fresh, folder / file)
        assert_equal(fresh, before)
        load_keras_weights(fresh, folder / file, reinit_head=True)
        want = values(model) | {name: value for name, value in before.items() if name.startswith("head")}
        assert_equal(fresh, want)


def test_reinit_head_takes_a_headless_file_another_head_and_no_other_base(ours):
    model, folder = ours
    kept = [(layer.name, [t.values() for t in layer.tensors]) for layer in model_layers(model)]
    write_legacy(folder / "base.h5", kept[:3])
    write_legacy(folder / "other.h5", [*kept[:3], ("dense", [np.zeros((1152, 9))]), ("dense_1", [np.ones((9, 2))])])
    write_legacy(folder / "deeper.h5", [*kept[:2], ("conv2b", [np.zeros((3, 3, 64, 64))]), *kept[2:]])
    for file, outputs in (("base.h5", 10), ("other.h5", 10), ("m.h5", None)):
        fresh = mnist(seed=5, outputs=outputs)
        before = values(fresh)
        with pytest.raises(DataError, match="reinit_head=True"):
            load_keras_weights(fresh, folder / file)
        load_keras_weights(fresh, folder / file, reinit_head=True)
        want = {name: values(model)[name] if name.startswith("base") else before[name] for name in before}
        assert_equal(fresh, want)
    with pytest.raises(DataError, match="extra: conv2b"):
        load_keras_weights(mnist(), folder / "deeper.h5", reinit_head=True)


def test_layers_in_an_order_of_another_network_are_refused(ours):
    model, folder = ours
    kept = [(layer.name, [t.values() for t in layer.tensors]) for layer in model_layers(model)]
    write_legacy(folder / "crossed.h5", [kept[1], kept[0], *kept[2:]])
    for outputs, reinit in ((10, False), (3, True)):
        with pytest.raises(DataError, match="conv2 before conv1"):
            load_keras_weights(mnist(outputs=outputs), folder / "crossed.h5", reinit_head=reinit)
    # Branches inside one block may come in any order: Keras has changed how it sorts them.
    small = abstract_model("resnet50", (64, 64, 3), None, blocks=(1, 1, 1, 1))
    zeros = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), nnx.state(small))
    small = nnx.merge(nnx.graphdef(small), zeros)
    layers = [(layer.name, [t.values() for t in layer.tensors]) for layer in model_layers(small)]
    block = [layer for layer in layers if layer[0].startswith("conv2_block1")]
    at = layers.index(block[0])
    layers[at : at + len(block)] = sorted(block, key=lambda layer: layer[0], reverse=True)
    write_legacy(folder / "resnet.h5", layers)
    load_keras_weights(small, folder / "resnet.h5")


def test_numbers_that_are_not_finite_are_refused(ours):
    _, folder = ours
    for bad in (np.nan, np.inf):
        with h5py.File(folder / "m.weights.h5", "a") as file:
            file["layers/conv2d_1/vars/0"][0, 0, 0, :2] = bad
        before = values(fresh := mnist(seed=5))
        with pytest.raises(DataError, match=r"not finite(?s:.)*conv2/kernel: 2 of 18,432"):
            load_keras_weights(fresh, folder / "m.weights.h5")
        assert_equal(fresh, before)


def test_real_published_file_names_the_architecture_it_is_of(shared_data):
    path = shared_data / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    model = abstract_model("vgg19", (32, 32, 3), None)
    with pytest.raises(DataError, match=r"(?s)of 'vgg16'.*block5_conv4/kernel"):
        load_keras_weights(model, path)


def test_activations_of_the_real_vgg16_equal_keras_at_every_block(shared_data):
    from PIL import Image

    path = shared_data / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    folder = shared_data / "dogs-vs-cats" / "train"
    pictures = (Image.open(folder / name) for name in ("cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "dog.1.jpg"))
    images = np.stack([np.asarray(picture.convert("RGB").resize((180, 180))) for picture in pictures])
    model = abstract_model("vgg16", (180, 180, 3), None)  # no time is spent on random weights
    jv.load_keras_weights(model, path)
    blocks = [f"block{number}_pool" for number in range(1, 6)]
    got = model.features(images, blocks)
    want = keras("weights", "blocks", path, images=images)
    for block in blocks:
        error = np.linalg.norm(np.asarray(got[block]) - want[block]) / np.linalg.norm(want[block])
        assert error < 1e-4, (block, error)


@pytest.mark.parametrize(
    ("file", "said"), [("lambda.keras", "Lambda"), ("lambda.h5", "Lambda"), ("custom.keras", "Custom")]
)
def test_code_in_a_model_is_refused(keras_files, file, said):
    folder, _ = keras_files
    with pytest.raises(DataError, match=said) as error:
        load_keras_weights(mnist(), folder / file)
    assert "save" in str(error.value)  # what to do
    with open_weights(folder / "lambda.weights.h5") as contents:  # weights alone run nothing
        assert [layer.kind for layer in contents.layers] == ["dense"]


# The command line.


def test_convert_verify_and_export_by_command(keras_files, tmp_path, capsys):
    folder, expected = keras_files
    out, back = tmp_path / "m.safetensors", tmp_path / "m.weights.h5"
    assert main(["weights", "convert", str(folder / "book.h5"), str(out), "--model", "convnet-mnist"]) == 0
    tensors = load_file(out)
    np.testing.assert_array_equal(tensors["conv2/kernel"], expected["book"]["base/conv2/kernel"])
    assert main(["weights", "verify", str(out), "--model", "convnet-mnist"]) == 0
    said = capsys.readouterr().out
    assert "4 layers, 8 tensors, 104,202 numbers" in said
    assert "those of convnet-mnist" in said
    assert main(["export", "convnet-mnist", "--to", "keras", "--out", str(back), "--weights", str(out)]) == 0
    model = mnist()
    load_keras_weights(model, back)
    assert_equal(model, expected["book"])
    for there in (out, back):
        before = there.read_bytes()
        assert main(["weights", "convert", str(folder / "book.h5"), str(there), "--model", "convnet-mnist"]) == 2
        assert "already there" in capsys.readouterr().err
        assert there.read_bytes() == before


def test_the_options_of_a_run_are_those_of_its_weights(tmp_path, capsys):
    """A file does not say how deep a model is: --model takes what does."""
    options = {"features": (4, 6)}
    card = ModelCard(jv.Run(model=Model("convnet-mnist", options)), ("cat", "dog"), (14, 12, 3), 2)
    with BestCheckpoints(tmp_path / "run", card) as checkpoints:
        checkpoints.save(Saved(phase=0, value=0.5, step=3), nnx.state(card.build()))
    model = create_model("convnet-mnist", (14, 12, 3), 2, seed=1, **options)
    file, out = str(tmp_path / "m.weights.h5"), tmp_path / "m.safetensors"
    export_keras(model, file)
    assert main(["weights", "verify", file, "--model", "convnet-mnist", "--input-shape", "14", "12", "3"]) == 2
    assert main(["weights", "verify", file, "--model", str(tmp_path / "run")]) == 0
    assert main(["weights", "convert", file, str(out), "--model", str(tmp_path / "run")]) == 0
    load_keras_weights(fresh := create_model("convnet-mnist", (14, 12, 3), 2, **options), out)
    assert_equal(fresh, values(model))
    with open_weights(out) as contents:
        assert contents.model == "convnet-mnist"
    export_keras(mnist(outputs=None), tmp_path / "mnist.weights.h5")
    capsys.readouterr()
    assert main(["weights", "verify", str(tmp_path / "mnist.weights.h5"), "--model", "mnist"]) == 0
    assert "those of mnist, without a head" in capsys.readouterr().out  # an experiment


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify", "FILE", "--model", "vgg16"], "not those of the model"),
        (["verify", "FILE", "--model", "vgg61"], "Did you mean"),
        (["convert", "FILE", "out.npz", "--model", "convnet-mnist"], "must be called"),
        (["verify", "FILE", "--model", "no/run"], "no model, experiment or run folder"),
        (["fetch", "convnet-mnist"], "none are published"),
        (["melt"], "say what to do"),
    ],
)
def test_wrong_arguments_are_one_message(ours, arguments, said, capsys):
    _, folder = ours
    given = [str(folder / "m.h5") if argument == "FILE" else argument for argument in arguments]
    assert main(["weights", *given]) == 2
    assert said in capsys.readouterr().err


def test_files_to_write_have_their_suffix(ours):
    model, folder = ours
    with pytest.raises(ConfigError, match=r"NAME\.weights\.h5"):
        export_keras(model, folder / "m.h5")
    assert not list(folder.glob("*.part"))


@pytest.mark.parametrize(("export", "suffix"), [(export_keras, ".weights.h5"), (export_safetensors, ".safetensors")])
def test_a_full_disk_is_one_message_and_leaves_what_was_there(export, suffix, tmp_path):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(b"before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ConfigError, match="cannot be written"):
            export(mnist(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [(path.name, b"before")]
    mode = path.stat().st_mode
    export(mnist(), path)
    assert path.stat().st_mode == mode  # as any new file's


def test_safetensors_of_others_match_by_name(ours):
    model, folder = ours
    tensors = {
        f"{layer.name}.{tensor.name}": tensor.values() for layer in model_layers(model) for tensor in layer.tensors
    }
    save_file(tensors, folder / "dots.safetensors", {"format": "pt", "layers": "12"})
    fresh = mnist(seed=5)
    load_keras_weights(fresh, folder / "dots.safetensors")
    assert_equal(fresh, values(model))


# The published architectures, both ways, against Keras itself.


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg16", *ZOO])
def test_zoo_to_us_to_keras_is_bit_exact(name, tmp_path):
    size, outputs = ZOO.get(name, 32), 1000 if name in ZOO else None
    want = keras("weights", "zoo", name, tmp_path)
    nameless = tmp_path / "nameless.weights.h5"
    shutil.copy(tmp_path / f"{name}.weights.h5", nameless)
    with h5py.File(nameless, "a") as file:
        for layer in file["layers"].values():
            layer["vars"].attrs.clear()
    model = create_model(name, (size, size, 3), outputs)
    initial = nnx.state(model)
    for file in (tmp_path / f"{name}.h5", tmp_path / f"{name}.weights.h5", nameless):
        nnx.update(model, initial)
        load_keras_weights(model, file)
        got = {
            f"{layer.name}/{number}": tensor.values()
            for layer in model_layers(model)
            for number, tensor in enumerate(layer.tensors)
        }
        assert got.keys() == want.keys()
        for key, value in got.items():
            np.testing.assert_array_equal(value, want[key], err_msg=f"{file.name} {key}")
    merged = nnx.merge(*nnx.split(model))  # as from a checkpoint
    export_keras(merged, tmp_path / "ours.weights.h5")
    back = keras("weights", "read", f"{name}={tmp_path}/ours.weights.h5")
    for key, value in want.items():
        np.testing.assert_array_equal(back[f"{name}/{key}"], value, err_msg=key)
