"""Arrays and streams that cannot be the images they are taken for; streams that never end."""

import re
import warnings

import numpy as np
import pytest
from PIL import Image

from jaxvision import config
from jaxvision.data import open_dataset, open_feed, user_dataset
from jaxvision.data.check import check_data
from jaxvision.data.parts import ArrayPart, Dataset
from jaxvision.data.plausible import require_images
from jaxvision.errors import DataError

COUNT = 40
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 12, 12, 3), dtype=np.uint8)
FLOATS = IMAGES.astype(np.float32)
LABELS = np.arange(COUNT) % 2


def warned(images, *, validation=None, **settings):
    """What is said of given images when they are opened and looked at as before training."""
    given = {"train": (images, LABELS)} if isinstance(images, np.ndarray) else {"train": images}
    if validation is not None:
        given["validation"] = (validation, LABELS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        require_images(open_dataset(config.Data(batch_size=4, **settings), given=given))
    return [str(warning.message) for warning in caught]


def stream(images, labels=LABELS):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((images, labels))


ODD = [
    ("no pixel is above 1, .*Multiply the images by 255", FLOATS / 255),
    ("from -1 to 1, .*127.5", FLOATS / 127.5 - 1),
    ("as after normalization", (FLOATS - 127) / 60),
    ("as after subtracting a mean", FLOATS - np.float32([123.68, 116.78, 103.94])),
    ("from 0 to 4080, .*Scale", FLOATS * 16),
    ("no pixel is above 15.9375", FLOATS / 16),
]


@pytest.mark.parametrize(("message", "images"), ODD)
def test_floats_of_another_range_are_a_warning_in_each_part(message, images):
    (told,) = warned(images)
    assert told.startswith("The given train part: ")
    assert re.search(message, told)
    (told,) = warned(IMAGES, validation=images)
    assert told.startswith("The given validation part: ")


@pytest.mark.parametrize("residence", ["auto", "stream"])
def test_floats_of_a_stream_are_looked_at_beyond_the_first(residence):
    odd = (FLOATS - 127) / 60
    odd[0] = 0
    (told,) = warned(stream(odd), residence=residence)
    assert "as after normalization" in told
    assert warned(stream(FLOATS), residence=residence) == []
    broken = FLOATS.copy()
    broken[30, 2, 2, 1] = np.nan

    def read():
        part = open_dataset(config.Data(residence=residence), given={"train": stream(broken)}).train
        return list(open_feed(part, batch_size=8, seed=None, residence=residence, resident_mb=9).batches(0))

    with pytest.raises(DataError, match="example 30 holds values that are not finite"):
        read()


def test_images_of_a_custom_source_are_looked_at(tmp_path, monkeypatch):
    arrays = {"odd": FLOATS / 255, "broken": np.where(FLOATS == 3, np.nan, FLOATS).astype(np.float32)}

    def source(data):
        part = ArrayPart(arrays[data.path], LABELS.astype(np.int32))
        return Dataset(part, None, None, ("a", "b"), (12, 12, 3), "x")

    monkeypatch.setattr("jaxvision.data.open.import_attribute", lambda target, field: source)
    with pytest.warns(UserWarning, match="The train part: no pixel is above 1"):
        open_dataset(config.Data("my.module:source", "odd"))
    with pytest.raises(DataError, match="train part: example 0 holds values that are not finite"):
        open_dataset(config.Data("my.module:source", "broken"))


def test_integers_of_another_range_are_a_warning():
    (told,) = warned(IMAGES // 16)
    assert told.startswith("The train part, 40 images looked at: no pixel is above 15, ")
    (told,) = warned(IMAGES // 200)
    assert "Multiply the images by 255" in told


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 12, 12), (4, 16, 20)])
def test_channels_first_is_refused(shape):
    images = np.resize(IMAGES, (COUNT, *shape))
    for given in ((images, LABELS), stream(images)):
        for settings in ({}, {"image_size": (8, 8)}):
            with pytest.raises(
                DataError, match=r"channels last. Received: images of .*transpose\(images, \(0, 2, 3, 1"
            ):
                open_dataset(config.Data(**settings), given={"train": given})


def test_images_that_are_all_the_same_are_refused(tmp_path):
    for images in (IMAGES * 0, FLOATS * 0, np.repeat(IMAGES[:1], COUNT, 0), stream(IMAGES * 0)):
        with pytest.raises(DataError, match=r"train part: all 40 images are the same\. Received: "):
            warned(images)
    with pytest.raises(DataError, match="train part: all 40 images are the same"):
        warned(stream(IMAGES * 0), residence="stream")
    (told,) = warned(IMAGES, validation=IMAGES * 0)
    assert told.startswith("The validation part: all 40 images are the same. Received: 0 in every pixel")
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(6):
            Image.fromarray(IMAGES[0] * 0).save(tmp_path / name / f"{number}.png")
    with pytest.raises(DataError, match="all 12 images are the same"):
        require_images(open_dataset(config.Data("folder", str(tmp_path), cache="off")))
    np.savez(tmp_path / "a.npz", x_train=IMAGES * 0, y_train=LABELS)
    assert any("all 40 images are the same" in problem for problem in check_data(tmp_path / "a.npz").problems)


def test_images_of_one_colour_are_a_warning():
    black = np.where((np.arange(COUNT) % 2 == 0)[:, None, None, None], 0, IMAGES)
    (told,) = warned(black.astype(np.uint8))
    assert told.startswith("The train part: 20 of the 40 images looked at are of one colour each")


def test_what_can_be_images_is_not_warned_of():
    assert warned(IMAGES) == warned(FLOATS) == warned(FLOATS.astype(np.float64)) == []
    assert warned(FLOATS * 1.1 - 10) == []  # beyond 0..255 as splines go
    assert warned(IMAGES[..., 0]) == warned(np.repeat(IMAGES, 5, 3)[..., :13]) == []
    some = np.where((np.arange(COUNT) % 4 == 0)[:, None, None, None], 0, IMAGES)
    assert warned(some.astype(np.uint8)) == []
    assert warned(stream(IMAGES).batch(7), residence="stream") == []


def endless(batch=None):
    tf = pytest.importorskip("tensorflow")

    def generate():
        number = 0
        while True:
            number += 1
            yield IMAGES[number % COUNT], number % 2

    spec = (tf.TensorSpec((12, 12, 3), tf.uint8), tf.TensorSpec((), tf.int32))
    examples = tf.data.Dataset.from_generator(generate, output_signature=spec)
    return examples if batch is None else examples.batch(batch)


@pytest.mark.parametrize("residence", ["auto", "stream"])
@pytest.mark.parametrize("batch", [None, 8])
def test_a_stream_that_never_ends_is_refused_after_a_line(batch, residence, monkeypatch, capsys):
    tf = pytest.importorskip("tensorflow")
    monkeypatch.setattr(user_dataset, "MOST", 1500)
    monkeypatch.setattr(user_dataset, "QUIET", 0.0)
    with pytest.raises(DataError, match=r"may never end. Received: [\d,]+ examples and more.*assert_cardinality"):
        open_dataset(config.Data(residence=residence), given={"train": endless(batch)})
    assert "examples read; the dataset does not say how many it has" in capsys.readouterr().err
    with pytest.raises(DataError, match="infinite cardinality"):
        open_dataset(config.Data(), given={"train": endless(batch).repeat()})
    # Both ways that the message names.
    some = endless().take(2000).apply(tf.data.experimental.assert_cardinality(2000))
    for taken, count in ((some, 2000), (endless().take(60), 60)):
        dataset = open_dataset(config.Data(residence=residence), given={"train": taken})
        assert len(dataset.train.target) == count
