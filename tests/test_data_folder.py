"""Source `folder`: the same pictures, classes and order as Keras, and one clear message for each bad folder."""

import numpy as np
import pytest
from flax import nnx
from PIL import Image

from jaxvision import config
from jaxvision.data import FilePart, open_dataset, open_feed, take
from jaxvision.data.picture import read_picture
from jaxvision.data.tf_picture import decode_file, decode_jpeg_crop
from jaxvision.errors import ConfigError, DataError
from jaxvision.train import predict
from jaxvision.train.checkpoint import ModelCard, RestoredRun
from tests.keras_reference import run

tf = pytest.importorskip("tensorflow")


def picture(path, size=(20, 24), mode="RGB", seed=0):
    """A smooth picture (JPEG keeps it) of (height, width) `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC).convert(mode).save(path)


def two_classes(root, parts=("",), count=3):
    for part in parts:
        for label in ("cat", "dog"):
            for number in range(count):
                picture(root / part / label / f"{label}.{number}.jpg", seed=number + 10 * (label == "dog"))
    return root


def opened(root, **settings):
    settings = {"source": "folder", "path": str(root), "batch_size": 2, "cache": "off"} | settings
    return open_dataset(config.Data(**settings))


def pictures(part, residence="stream", **settings):
    feed = open_feed(part, batch_size=4, seed=None, residence=residence, resident_mb=64)
    batches = list(feed.batches(0, **settings))
    valid = np.concatenate([batch.valid for batch in batches])
    return tuple(np.concatenate([getattr(batch, name) for batch in batches])[valid] for name in ("inputs", "target"))


def assert_like_keras(root, size, mode="rgb", resize="stretch"):
    keras = run("image_folder", root, *size, mode, resize)
    dataset = opened(root, image_size=size, channels={"rgb": 3, "grayscale": 1}[mode], resize=resize)
    assert dataset.class_names == tuple(keras["class_names"])
    assert dataset.train.paths == tuple(keras["paths"])
    inputs, target = pictures(dataset.train)
    assert inputs.dtype == np.uint8
    assert inputs.shape[1:] == dataset.image_shape
    np.testing.assert_array_equal(target, keras["target"])
    assert np.abs(inputs - keras["pictures"]).max() <= 0.5 + 1e-3  # rounded, otherwise equal
    assert keras["pictures"].std() > 10
    return dataset, keras["pictures"]


def slow(*values):
    """Keras again, in a process that takes seconds to begin."""
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.filterwarnings("ignore:.*hidden or system files")
@pytest.mark.parametrize(
    ("mode", "resize"),
    [("rgb", "stretch"), slow("grayscale", "stretch"), slow("rgb", "crop"), ("grayscale", "crop")],
)
def test_every_format_reads_as_keras_reads_it(mode, resize, tmp_path):
    for number, ending in enumerate(("jpg", "jpeg", "png", "bmp", "gif", "JPG")):
        if (ending, mode) != ("gif", "grayscale") and (ending, mode) != (
            "bmp",
            "grayscale",
        ):  # TF cannot turn them gray
            picture(tmp_path / "b" / f"{number}.{ending}", (40 + number, 30), seed=number)
    picture(tmp_path / "b" / "alpha.png", mode="RGBA", seed=7)
    picture(tmp_path / "b" / "palette.png", mode="P", seed=8)
    picture(tmp_path / "B" / "gray.jpg", mode="L", seed=9)
    picture(tmp_path / "a" / "deep" / "gray.png", mode="L", seed=10)
    picture(tmp_path / "a" / "10.jpg", seed=11)
    picture(tmp_path / "a" / "9.jpg", seed=12)
    picture(tmp_path / ".hidden" / "9.jpg")
    dataset, theirs = assert_like_keras(tmp_path, (33, 37), mode, resize)
    for path, expected in zip(dataset.train.paths, theirs, strict=True):
        if mode == "rgb" and not path.lower().endswith(("jpg", "jpeg")):  # what predictions read
            assert np.abs(read_picture(path, image_size=(33, 37), channels=3, resize=resize) - expected).max() <= 0.501


@pytest.mark.parametrize(
    ("size", "resize"), [slow((180, 180), "stretch"), ((180, 180), "crop"), slow((90, 200), "crop")]
)
def test_real_pictures_read_as_keras_reads_them(size, resize, shared_data, tmp_path):
    for label in ("dog", "cat"):
        (tmp_path / label).mkdir()
        for number in range(100, 112):
            (tmp_path / label / f"{number}.jpg").symlink_to(
                shared_data / "dogs-vs-cats" / "train" / f"{label}.{number}.jpg"
            )
    dataset, theirs = assert_like_keras(tmp_path, size, resize=resize)
    for path, expected in zip(dataset.train.paths[::3], theirs[::3], strict=True):
        # Pillow asks for slower, exact arithmetic in decoding JPEGs than TensorFlow.
        assert np.abs(read_picture(path, image_size=size, channels=3, resize=resize) - expected).mean() < 1.5


@pytest.mark.parametrize("channels", [1, 3])
def test_decoding_the_crop_alone_gives_the_same_pixels(channels, tmp_path):
    """For every place of the window within JPEG's blocks, with and without halved colours, turned in every way."""
    random = np.random.default_rng(0)
    for number in range(40):
        shape = (*random.integers(9, 120, 2), 3)
        noise = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
        path = tmp_path / f"{number}.jpg"
        noise.save(path, quality=90, subsampling=number % 3, progressive=number % 2 == 0)
        size = tuple(random.integers(1, 60, 2).tolist())
        mark = tf.constant(1 + number % 8)
        crop = decode_jpeg_crop(str(path), size, channels, mark)
        whole = decode_file(str(path), size, channels, "crop", mark)
        np.testing.assert_array_equal(crop, whole)


def test_resident_and_streamed_files_are_bit_identical_from_any_step(tmp_path):
    part = opened(two_classes(tmp_path, count=5), image_size=(9, 9)).train
    assert isinstance(part, FilePart)
    feeds = [open_feed(part, batch_size=4, seed=3, residence=kind, resident_mb=1) for kind in ("auto", "stream")]
    assert [feed.resident for feed in feeds] == [True, False]
    for start in range(3):
        resident, streamed = ([*feed.batches(2, start)] for feed in feeds)
        assert len(resident) == len(streamed) == 3 - start
        for one, other in zip(resident, streamed, strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        pictures(take(part, np.array([7, 2])))[0], pictures(part)[0][[7, 2]]
    )  # what previews and reports read


def test_parts_in_folders_of_their_own(tmp_path):
    two_classes(tmp_path, ("train", "validation", "test"))
    (tmp_path / "test" / "dog" / "dog.2.jpg").unlink()
    dataset = opened(tmp_path, image_size=(8, 8))
    assert [len(part.target) for part in (dataset.train, dataset.validation, dataset.test)] == [6, 6, 5]
    assert all("/validation/" in path for path in dataset.validation.paths)
    assert dataset.test.target.tolist() == [0, 0, 0, 1, 1]
    aside = opened(two_classes(tmp_path / "flat"), image_size=(8, 8), validation_fraction=0.5)
    assert aside.test is None
    assert not set(aside.train.paths) & set(aside.validation.paths)


def test_without_image_size_all_pictures_must_have_one_size(tmp_path):
    dataset = opened(two_classes(tmp_path))
    assert dataset.image_shape == (20, 24, 3)
    assert pictures(dataset.train)[0].shape == (6, 20, 24, 3)
    picture(tmp_path / "dog" / "odd.jpg", (20, 25))
    with pytest.raises(DataError, match=r"odd.jpg: .*differ.*20 x 25 after 20 x 24.*data.image_size"):
        opened(tmp_path)


def test_fingerprint_follows_names_and_sizes_not_the_place(tmp_path):
    first, moved = (opened(two_classes(tmp_path / name)).fingerprint for name in ("one", "two"))
    assert first == moved
    picture(tmp_path / "two" / "dog" / "new.jpg")
    assert opened(tmp_path / "two").fingerprint != first


def test_files_of_other_endings_are_counted_not_dropped_in_silence(tmp_path):
    two_classes(tmp_path)
    for name in ("cat/notes.txt", "dog/more.txt", "README"):
        (tmp_path / name).write_text("x")
    with pytest.warns(UserWarning, match=r"3 files are not read \(.txt: 2, no ending: 1\), such as .*notes.txt"):
        assert len(opened(tmp_path).train.paths) == 6


@pytest.mark.parametrize("residence", ["device", "stream"])
@pytest.mark.parametrize("damage", ["truncated", "header alone"])
def test_a_picture_that_cannot_be_decoded_is_named(damage, residence, tmp_path):
    two_classes(tmp_path, count=9)
    bad = tmp_path / "dog" / "dog.6.jpg"
    whole = bad.read_bytes()
    content = {"truncated": whole[: len(whole) // 2], "header alone": whole[:20]}[damage]
    bad.write_bytes(content)
    dataset = opened(tmp_path, image_size=(8, 8))
    with pytest.raises(
        DataError, match=rf"^{bad}: the picture cannot be used: .*Received: a file of {len(content)} bytes"
    ):
        pictures(dataset.train, residence)


def refused(root, message, kind=DataError, **settings):
    with pytest.raises(kind, match=message) as caught:
        opened(root, **settings)
    assert "Received: " in str(caught.value)


def test_bad_folders_are_refused(tmp_path):
    refused(tmp_path / "nowhere", "data.path does not exist.*nowhere")
    with pytest.raises(ConfigError, match=r"data.path is needed with data.source=folder"):
        open_dataset(config.Data(source="folder"))

    flat = tmp_path / "flat"
    picture(flat / "cat.0.jpg")
    refused(flat, "no sub-folders.*1 files.*cat.0.jpg.*jaxvision prepare")
    refused(flat / "cat.0.jpg", "must be a folder")
    (tmp_path / "void").mkdir()
    refused(tmp_path / "void", "no sub-folders.*an empty folder")

    lone = two_classes(tmp_path / "lone")
    for path in (lone / "dog").iterdir():
        path.unlink()
    refused(lone, "lone/dog: no pictures of class 'dog'.*an empty folder")
    (lone / "dog").rmdir()
    refused(lone, "at least two classes.*1 .cat.")

    parts = two_classes(tmp_path / "parts", ("train", "test"))
    (parts / "test" / "bird").mkdir()
    refused(parts, "parts/test: its classes are not those of the training part: bird")
    (parts / "test" / "bird").rmdir()
    two_classes(parts, ("val",))
    refused(parts, "beside train there may be.*Received: val")

    trainless = two_classes(tmp_path / "trainless", ("validation",))
    refused(trainless, "trainless: its folders look like parts.*no folder train with a sub-folder for each class")

    broken = two_classes(tmp_path / "broken")
    (broken / "cat" / "cat.1.jpg").write_bytes(b"")
    refused(broken, "cat.1.jpg: not a picture.*0 bytes", image_size=(8, 8))
    (broken / "cat" / "cat.1.jpg").write_bytes(b"text")
    refused(broken, "cat.1.jpg: not a JPEG picture.*Received: text. Replace it or remove it.*jaxvision check")
    (broken / "cat" / "cat.1.jpg").write_bytes(b"<!DOCTYPE html><html>404</html>")
    refused(broken, "cat.1.jpg: not a JPEG picture.*an HTML page", image_size=(8, 8))
    picture(broken / "cat" / "cat.1.png")
    (broken / "cat" / "cat.1.png").rename(broken / "cat" / "cat.1.jpg")
    refused(broken, "cat.1.jpg: not a JPEG picture.*a PNG picture. Rename it", image_size=(8, 8))
    (broken / "cat" / "cat.1.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    refused(broken, "cat.1.jpg: damaged: it starts as a JPEG picture but.*4 bytes")
    (broken / "cat" / "cat.1.jpg").unlink()
    (broken / "cat" / "cat.1.jpg").symlink_to(broken / "gone.jpg")
    refused(broken, "cat.1.jpg: cannot be opened.*link to nowhere")


class Brightness(nnx.Module):
    """Class 1 where all pixels are white."""

    def __call__(self, images, *, train):
        mean = images.astype(np.float32).mean((1, 2, 3))
        return np.array([[0, 1]], np.float32) * (mean[:, None] - 254)


def test_predictions_crop_as_the_run_did(tmp_path, monkeypatch):
    stripes = np.zeros((20, 60, 3), np.uint8)
    stripes[:, 20:40] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    for resize, expected in (("crop", "white"), ("stretch", "other")):
        run = config.Run(data=config.Data(image_size=(8, 8), resize=resize))
        restored = RestoredRun(Brightness(), ModelCard(run, ("other", "white"), (8, 8, 3), 2), step=1, phase=0)
        monkeypatch.setattr(predict, "restore_best", lambda run_dir, restored=restored: restored)
        (prediction,) = predict.predict(tmp_path, tmp_path / "stripes.png")
        assert prediction.classes[0][0] == expected
