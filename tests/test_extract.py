"""Features of any folder into one file: what is in it, going on after a kill, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time

import broken_pictures
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from jaxvision.cli import main
from jaxvision.config import Data, Model, Run
from jaxvision.data.every import Everything, every_example
from jaxvision.data.picture import read_picture
from jaxvision.errors import ConfigError, DataError
from jaxvision.models import create_model
from jaxvision.train.checkpoint import BestCheckpoints, ModelCard, Saved, restore_best
from jaxvision.train.extract import extract
from jaxvision.train.partial_npz import PartialNpz
from jaxvision.weights import export_safetensors

SHAPE = (12, 12, 3)

pytestmark = pytest.mark.filterwarnings("ignore:.*hidden or system files")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of weights of a small convnet with a head."""
    path = tmp_path_factory.mktemp("weights") / "convnet.safetensors"
    export_safetensors(create_model("convnet-mnist", (20, 22, 1), 2, seed=5), path)
    return path


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (14 + seed % 3, 15, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def make_run(folder, seed=0):
    """A run folder as training leaves it: a tiny convnet for colour pictures of 12x12, which are cropped to size."""
    run = Run(
        name="tiny",
        data=Data(image_size=SHAPE[:2], resize="crop"),
        model=Model("convnet-mnist", {"features": (4, 6)}),
        seed=seed,
    )
    card = ModelCard(run, ("cat", "dog"), SHAPE, 1)
    with BestCheckpoints(folder, card) as checkpoints:
        checkpoints.save(Saved(phase=0, value=0.5, step=3), nnx.state(card.build()))
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture
def folder(tmp_path):
    """Eleven pictures: some in classes, one deeper, two in none."""
    names = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(4)]
    names += ["dog/more/9.png", "b.png", "a.png"]
    for seed, name in enumerate(names):
        picture(tmp_path / "data" / name, seed)
    (tmp_path / "data" / ".hidden").mkdir()
    (tmp_path / "data" / ".hidden" / "x.png").write_bytes(b"no picture")
    return tmp_path / "data"


def test_the_file_holds_features_of_every_picture_by_name(run_dir, folder, tmp_path):
    done = extract(run_dir, folder, tmp_path / "f.npz", batch_size=4, progress=False)
    assert done.shapes == {"features": (11, 3, 3, 6)}
    assert not (tmp_path / "f.npz.part").exists()
    with np.load(tmp_path / "f.npz") as file:  # without pickles
        arrays = dict(file)
    assert set(arrays) == {"features", "names", "labels", "class_names", "about"}
    expected = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png") if ".hidden" not in p.parts)
    assert sorted(arrays["names"]) == expected
    assert arrays["class_names"].tolist() == ["cat", "dog"]
    said = dict(zip(arrays["names"], arrays["labels"], strict=True))
    assert (said["a.png"], said["b.png"], said["cat/2.png"], said["dog/more/9.png"]) == (-1, -1, 0, 1)
    model = restore_best(run_dir).model
    pixels = [read_picture(folder / name, image_size=(12, 12), channels=3, resize="crop") for name in arrays["names"]]
    level = model.base.names[-1]
    np.testing.assert_allclose(
        arrays["features"], model.features(np.stack(pixels), [level])[level], rtol=1e-4, atol=0.02
    )
    about = json.loads(str(arrays["about"]))
    assert about["levels"] == [level]
    assert about["image_shape"] == [12, 12, 3]
    assert about["versions"]["jax"]


def test_several_levels_averaged_of_an_array_file(run_dir, tmp_path):
    rng = np.random.default_rng(1)
    given = {
        f"{part}_inputs": rng.integers(0, 256, (n, *SHAPE)).astype(np.uint8) for part, n in (("train", 7), ("test", 5))
    }
    given |= {"train_target": np.arange(7) % 2, "test_target": np.arange(5) % 2}
    np.savez(tmp_path / "pictures.npz", **given)
    code = ["extract", str(run_dir), str(tmp_path / "pictures.npz"), "--out", str(tmp_path / "f.npz")]
    assert main([*code, "--level", "pool1", "conv1", "--pool", "average", "--batch-size", "4"]) == 0
    file = np.load(tmp_path / "f.npz")
    assert file["names"].tolist() == [f"train/{i}" for i in range(7)] + [f"test/{i}" for i in range(5)]
    assert file["labels"].tolist() == [*(np.arange(7) % 2), *(np.arange(5) % 2)]
    images = np.concatenate([given["train_inputs"], given["test_inputs"]])
    found = restore_best(run_dir).model.features(images, ["conv1", "pool1"])
    for level, values in found.items():
        assert file[level].dtype == np.float32
        np.testing.assert_allclose(file[level], jnp.mean(values, axis=(1, 2)), rtol=1e-5, atol=1e-5)


SLOW = """
import sys, time
from jaxvision.cli import main
from jaxvision.train.partial_npz import PartialNpz
append = PartialNpz.append
def slowly(self, arrays):
    append(self, arrays)
    time.sleep(0.3)
PartialNpz.append = slowly
sys.exit(main(sys.argv[1:]))
"""


def test_a_killed_command_goes_on_and_ends_with_the_same_bytes(weights, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (11, 20, 22, 1)).astype(np.uint8)
    data = tmp_path / "pictures.npz"
    np.savez(data, train_inputs=pictures, train_target=np.arange(11) % 2)
    command = ["extract", "convnet-mnist", str(data), "--weights", str(weights), "--image-size", "20", "22"]
    command += ["--level", "conv3", "pool1", "--batch-size", "2"]
    assert main([*command, "--out", str(tmp_path / "whole.npz")]) == 0
    out = tmp_path / "killed.npz"
    partial = tmp_path / "killed.npz.part"
    process = subprocess.Popen([sys.executable, "-c", SLOW, *command, "--out", str(out)], stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not (partial / "1.npy").exists() or (partial / "1.npy").stat().st_size < 4 * 9 * 10 * 32 * 4:
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not out.exists()
    with open(partial / "0.npy", "ab") as file:  # as where the kill came in the middle of a row
        file.write(b"part of a row")
    done = extract(
        "convnet-mnist", data, out, levels=["conv3", "pool1"], batch_size=2, weights=weights,
        image_size=(20, 22), progress=False,
    )  # fmt: skip
    assert 4 <= done.resumed < 11
    assert done.resumed % 2 == 0
    assert arrays_of(out) == arrays_of(tmp_path / "whole.npz")
    assert not partial.exists()


def arrays_of(path):
    """The bytes of each array; `about` alone may differ in how it names what was given."""
    with np.load(path) as file:
        return {name: file[name].tobytes() for name in file.files}


@pytest.fixture
def broken_off(run_dir, folder, tmp_path, monkeypatch):
    """A partial folder: the third batch failed to be written."""
    count = 0

    def full_disk(self, arrays):
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(28, "No space left on device")
        append(self, arrays)

    append = PartialNpz.append
    with monkeypatch.context() as patch:
        patch.setattr(PartialNpz, "append", full_disk)
        with pytest.raises(ConfigError, match="No space left"):
            extract(run_dir, folder, tmp_path / "f.npz", batch_size=3, progress=False)
    assert not (tmp_path / "f.npz").exists()
    return tmp_path / "f.npz"


def test_what_was_done_is_not_done_again(run_dir, folder, broken_off, tmp_path, monkeypatch):
    asked = []
    batches = Everything.batches
    monkeypatch.setattr(
        Everything, "batches", lambda self, size, *, start=0: asked.append(start) or batches(self, size, start=start)
    )
    assert extract(run_dir, folder, broken_off, batch_size=3, progress=False).resumed == 6
    assert asked == [6]
    extract(run_dir, folder, tmp_path / "whole.npz", batch_size=3, progress=False)
    assert broken_off.read_bytes() == (tmp_path / "whole.npz").read_bytes()


@pytest.mark.parametrize(
    ("change", "said"), [("batch_size", "batch_size"), ("levels", "levels"), ("picture", "data"), ("run", "weights")]
)
def test_another_command_does_not_go_on(change, said, run_dir, folder, broken_off, tmp_path):
    arguments = {"batch_size": 3}
    if change == "batch_size":
        arguments["batch_size"] = 4
    elif change == "levels":
        arguments["levels"] = ["conv1"]
    elif change == "picture":
        picture(folder / "cat" / "2.png", 77)
    else:
        run_dir = make_run(tmp_path / "other", seed=9)
    before = {file.name: file.read_bytes() for file in (tmp_path / "f.npz.part").iterdir()}
    with pytest.raises(ConfigError, match=rf"begun by another command[\s\S]*{said}"):
        extract(run_dir, folder, broken_off, progress=False, **arguments)
    assert {file.name: file.read_bytes() for file in (tmp_path / "f.npz.part").iterdir()} == before


def test_two_commands_do_not_write_at_once(run_dir, folder, broken_off):
    partial = PartialNpz(broken_off, {"features": (3, 3, 6)}, 11)
    identity = json.loads((partial.folder / "identity.json").read_text())
    with partial.open(identity, lambda done: done), pytest.raises(ConfigError, match="another process"):
        extract(run_dir, folder, broken_off, batch_size=3, progress=False)


def test_bad_pictures_are_all_named_before_anything_is_written(run_dir, folder, tmp_path, capsys):
    (folder / "cat" / "bad.jpg").write_bytes(broken_pictures.encoded("JPEG")[:300])
    (folder / "empty.png").touch()
    assert main(["extract", str(run_dir), str(folder), "--out", str(tmp_path / "f.npz")]) == 2
    error = capsys.readouterr().err
    assert "bad.jpg" in error
    assert "empty.png" in error
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{run}", "{data}", "--out", "f.npz", "--level", "conv7"], ["conv7", "conv1, pool1, conv2"]),
        (["{run}", "{data}", "--out", "f.npy"], ["NAME.npz"]),
        (["{run}", "{data}", "--out", "there.npz"], ["already there"]),
        (["{run}", "nowhere", "--out", "f.npz"], ["nowhere: nothing there"]),
        (["{run}", "empty", "--out", "f.npz"], ["no pictures"]),
        (["{run}", "digits", "--out", "f.npz"], ["(12, 12, 3)"]),
        (["{run}", "{data}", "--out", "f.npz", "--weights", "imagenet"], ["weights", "is a run"]),
        (["convnet-mnist", "{data}", "--out", "f.npz"], ["needs weights"]),
        (["vgg61", "{data}", "--out", "f.npz"], ["vgg61", "neither a run folder"]),
        (["{run}", "{data}", "--out", "f.npz", "--batch-size", "0"], ["batch_size", "Received: 0"]),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_left(arguments, said, run_dir, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.npz").write_bytes(b"mine")
    (tmp_path / "empty").mkdir()
    assert main(["extract", *(text.format(run=run_dir, data=folder) for text in arguments)]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said), error
    assert sorted(os.listdir(tmp_path)) == ["data", "empty", "there.npz"]
    assert (tmp_path / "there.npz").read_bytes() == b"mine"


@pytest.mark.filterwarnings("ignore:.*test is a class here")
@pytest.mark.parametrize(
    ("files", "labels", "class_names"),
    [
        (["x.png", "y.png"], [-1, -1], ()),
        (["test/b/1.png", "train/a/1.png", "train/b/deep/1.png"], [1, 0, 1], ("a", "b")),
        (["train/x.png", "train/y.png"], [-1, -1], ()),
        (["control/1.png", "test/1.png"], [0, 1], ("control", "test")),
    ],
)
def test_where_a_folder_tells_classes(files, labels, class_names, tmp_path):
    for seed, name in enumerate(files):
        picture(tmp_path / name, seed)
    found = every_example(tmp_path, SHAPE)
    assert found.names == tuple(files)
    assert found.labels.tolist() == labels
    assert found.class_names == class_names


def test_masks_are_not_taken_for_pictures(tmp_path):
    picture(tmp_path / "images" / "1.png", 0)
    picture(tmp_path / "masks" / "1.png", 1)
    with pytest.raises(DataError, match="give its folder images"):
        every_example(tmp_path, SHAPE)
    assert every_example(tmp_path / "images", SHAPE).names == ("1.png",)


def test_a_folder_linked_into_itself_is_read_once(tmp_path):
    picture(tmp_path / "a" / "1.png", 0)
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert every_example(tmp_path, SHAPE).names == ("a/1.png",)
