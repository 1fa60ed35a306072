"""Examples that come as a stream: a user's tf.data.Dataset, and TFDS."""

import os
from dataclasses import replace

import numpy as np
import pytest
from batches import assert_same

from jaxvision import config
from jaxvision.data import ArrayPart, SequentialPart, open_dataset, open_feed, pipeline, take, user_dataset
from jaxvision.data.pipeline import decode
from jaxvision.data.targets import labels
from jaxvision.errors import ConfigError, DataError

tf = pytest.importorskip("tensorflow")
COUNT = 40
PICTURES = np.tile(np.arange(COUNT, dtype=np.uint8)[:, None, None, None], (1, 6, 5, 1))
LABELS = np.arange(COUNT) % 3


def slices(pictures=PICTURES, labels=LABELS):
    return tf.data.Dataset.from_tensor_slices((pictures, labels))


def opened(train, **settings):
    given = train if isinstance(train, dict) else {"train": train}
    return open_dataset(config.Data(**{"batch_size": 4, "cache": "off"} | settings), given=given)


def drain(part, residence, *, seed=None, epoch=0, start=0, shuffle=True):
    feed = open_feed(part, batch_size=6, seed=seed, residence=residence, resident_mb=64, shuffle=shuffle)
    return [tuple(np.asarray(leaf) for leaf in batch) for batch in feed.batches(epoch, start)]


def numbers(batches):
    return np.concatenate([inputs[valid][:, 0, 0, 0] for inputs, _, valid in batches]).astype(int).tolist()


@pytest.mark.parametrize("residence", ["auto", "stream"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: slices(),
        lambda: slices().batch(7),
        lambda: slices(PICTURES[..., 0]).batch(7),
        lambda: slices().filter(lambda picture, label: True),  # of unknown length
    ],
)
def test_a_users_dataset_batched_or_not(make, residence):
    dataset = opened({"train": make(), "test": slices()}, residence=residence)
    assert isinstance(dataset.train, ArrayPart if residence == "auto" else SequentialPart)
    assert dataset.image_shape == (6, 5, 1)
    assert dataset.class_names == ("0", "1", "2")
    np.testing.assert_array_equal(dataset.train.target, LABELS)
    evaluation = drain(dataset.train, residence)
    assert numbers(evaluation) == list(range(COUNT))
    assert len(evaluation[-1][1]) == 6
    np.testing.assert_array_equal(np.concatenate([target[valid] for _, target, valid in evaluation]), LABELS)


def test_a_sequential_part_decoded_to_the_device_equals_arrays():
    dataset = opened(slices().batch(7), residence="stream", limit_train=25)
    arrays = opened((PICTURES, LABELS), limit_train=25)
    assert_same(drain(dataset.train, "device", seed=1), drain(arrays.train, "device", seed=1))
    assert_same(drain(dataset.train, "stream"), drain(arrays.train, "stream"))


def test_a_streamed_training_part_is_shuffled_by_seed_and_epoch_and_starts_anywhere():
    part = opened(slices(), residence="stream").train
    first = drain(part, "stream", seed=1)
    order = numbers(first)
    assert sorted(order) == list(range(COUNT))
    assert order != sorted(order)
    assert [len(target) for _, target, _ in first] == [6] * 6 + [4]
    assert_same(drain(part, "stream", seed=1), first)
    assert numbers(drain(part, "stream", seed=1, epoch=1)) != order != numbers(drain(part, "stream", seed=2))
    with pytest.warns(UserWarning, match="no random access: reading past 18 examples to start at step 3"):
        assert_same(drain(part, "stream", seed=1, start=3), first[3:])
    assert numbers(drain(part, "stream", seed=1, shuffle=False)) == list(range(COUNT))


def test_parts_cut_from_a_stream_stay_apart():
    dataset = opened(slices(), residence="stream", validation_fraction=0.25, limit_train=20)
    train, validation = (numbers(drain(part, "stream")) for part in (dataset.train, dataset.validation))
    assert (len(train), len(validation)) == (20, 10)
    assert not set(train) & set(validation)
    same = opened((PICTURES, LABELS), validation_fraction=0.25, limit_train=20)
    assert same.validation.inputs[:, 0, 0, 0].tolist() == validation


@pytest.mark.parametrize("residence", ["auto", "stream"])
def test_a_users_shuffle(residence):
    shuffled = slices().shuffle(COUNT, seed=3)  # in another order at each reading
    dataset = opened(shuffled, residence=residence)
    if residence == "auto":  # read once: pictures and labels belong together
        assert (dataset.train.inputs[:, 0, 0, 0] % 3 == dataset.train.target).all()
        assert dataset.train.target.tolist() != LABELS.tolist()
    else:
        with pytest.raises(DataError, match=r"given train part, example \d+: .*another order.*Remove shuffle"):
            drain(dataset.train, "stream", seed=1)


@pytest.mark.parametrize("residence", ["auto", "stream"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_image_size_and_channels_as_for_arrays(resize, dtype, residence):
    pictures = np.random.default_rng(0).integers(0, 256, (COUNT, 6, 5, 3)).astype(dtype)
    settings = {"image_size": (9, 4), "channels": 1, "resize": resize}
    dataset = opened(slices(pictures), residence=residence, **settings)
    ours = np.concatenate([inputs[valid] for inputs, _, valid in drain(dataset.train, residence)])
    arrays = opened((pictures, LABELS), **settings).train.inputs
    assert ours.dtype == arrays.dtype == dtype
    np.testing.assert_allclose(ours, arrays, atol=1 if dtype == np.uint8 else 1e-3)
    assert dataset.image_shape == (9, 4, 1)


def different_sizes():
    rows = tf.data.Dataset.range(COUNT).map(
        lambda n: (tf.zeros((6 + tf.cast(n == 23, tf.int32), 5, 3), tf.uint8), n % 2)
    )
    return rows


@pytest.mark.parametrize("residence", ["auto", "stream"])
def test_pictures_of_different_sizes(residence):
    with pytest.raises(DataError, match=r"train part, example 23: .*data.image_size.*shape \(7, 5, 3\)"):
        drain(opened(different_sizes(), residence=residence).train, residence)
    assert opened(different_sizes(), residence=residence, image_size=(4, 4)).image_shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("residence", "bad", "message"),
    [
        ("auto", 2, "After The given train part, example 1: the dataset cannot be read on.*my own check"),
        ("auto", 0, "The given train part cannot be read.*my own check"),
        ("stream", 2, "The given train part cannot be read.*my own check"),
    ],
)
def test_an_error_in_the_users_own_pipeline_is_told(residence, bad, message):
    def check(picture, label):
        with tf.control_dependencies(
            [tf.debugging.assert_equal(picture[0, 0, 0] == bad, False, message="my own check")]
        ):
            return tf.identity(picture), label

    with pytest.raises(DataError, match=message):
        opened(slices().map(check), residence=residence)


@pytest.mark.parametrize(
    ("message", "make"),
    [
        (r"\(picture, label\) pairs", lambda: tf.data.Dataset.from_tensor_slices(PICTURES)),
        (r"\(picture, label\) pairs", lambda: slices().map(lambda picture, label: {"image": picture, "label": label})),
        ("never ends.*Remove repeat", lambda: slices().repeat()),
        ("labels must be whole.*float32", lambda: slices(labels=LABELS.astype(np.float32))),
        ("must be 0 or 1 for each.*example 0 has 2.*argmax",
         lambda: slices(labels=2 * np.eye(3, dtype=int)[LABELS]).batch(4)),
        ("labels must be whole.*shape.*argmax", lambda: slices(labels=np.ones((COUNT, 6, 5), np.float32))),
        (r"pictures must be \(H, W, C\)", lambda: slices(PICTURES[:, 0, 0, 0])),
        ("uint8 or float.*int64", lambda: slices(PICTURES.astype(np.int64))),
        ("train part is empty", lambda: slices().take(0)),
        ("example 17: labels must be 0 to 2.*-5", lambda: slices(labels=np.where(np.arange(COUNT) == 17, -5, LABELS))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("residence", ["auto", "stream"])
def test_wrong_datasets_are_refused(message, make, residence):
    with pytest.raises(DataError, match=message) as caught:
        opened(make(), residence=residence)
    assert "Received: " in str(caught.value)


def test_what_does_not_fit_is_streamed_and_may_then_not_change():
    pictures = np.tile(PICTURES[:, :1, :1], (1, 200, 200, 1)) + np.arange(200, dtype=np.uint8)[:, None]  # 1.5 MB
    unknown = slices(pictures).filter(lambda picture, label: True)
    for dataset in (slices(pictures), unknown):
        # Of 40 examples 8 fit; 128 are read of a dataset that may never end.
        assert isinstance(opened(dataset, resident_mb=1).train, SequentialPart)
        assert isinstance(opened(dataset, resident_mb=2).train, ArrayPart)
    left = tf.Variable(COUNT, dtype=tf.int64)  # the user's dataset shrinks after it was opened
    shrinking = slices().enumerate().filter(lambda number, pair: number < left).map(lambda number, pair: pair)
    part = opened(shrinking, residence="stream").train
    left.assign(30)
    with pytest.raises(DataError, match=r"ended early. Received: 30 examples where there were 40"):
        drain(part, "stream")


def test_class_names_come_from_keras_folder_reader():
    dataset = slices()
    dataset.class_names = ["a", "b", "c"]
    assert opened(dataset).class_names == ("a", "b", "c")


def test_tfds_mnist(shared_data):
    pytest.importorskip("tensorflow_datasets")
    data = config.Data(source="tfds:mnist", path=str(shared_data / "tfds"), batch_size=64, cache="off")
    dataset = open_dataset(data)
    assert (len(dataset.train.target), len(dataset.test.target)) == (60000, 10000)
    assert dataset.train.dtype == np.uint8
    assert dataset.validation is None
    assert dataset.class_names == tuple("0123456789")
    assert dataset.image_shape == (28, 28, 1)
    # The counts of each digit that LeCun's files have.
    assert np.bincount(dataset.train.target).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(dataset.test.target).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]

    import tensorflow_datasets as tfds

    split = tfds.load("mnist", split="test[:20]", data_dir=str(shared_data / "tfds"), as_supervised=True)
    pictures, labels = zip(*split.as_numpy_iterator(), strict=True)
    np.testing.assert_array_equal(decode(take(dataset.test, np.arange(20))).inputs, pictures)
    np.testing.assert_array_equal(dataset.test.target[:20], labels)


@pytest.fixture(scope="module")
def tiny():
    """A TFDS dataset with a mask beside picture and label, as Oxford pets has."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class JvTiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        reachable = True

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(names=("ox", "ass")),
                "mask": tfds.features.Image(shape=(None, None, 1)),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            if not self.reachable:
                raise OSError("Name or service not known\nand more")
            counts = {"train": 12, "validation": 5, "extra": 3}
            return {name: self._generate_examples(count) for name, count in counts.items()}

        def _generate_examples(self, count):
            for number in range(count):
                picture = np.full((8, 9, 3), number, np.uint8)
                yield number, {"image": picture, "label": number % 2, "mask": picture[..., :1]}

    return JvTiny


@pytest.mark.parametrize("residence", ["auto", "stream"])
def test_tfds_with_other_splits_and_features(residence, tiny, tmp_path, capfd):
    data = config.Data(source="tfds:jv_tiny", path=str(tmp_path), batch_size=4, residence=residence, cache="off")
    dataset = open_dataset(data)
    assert "downloading and preparing" in capfd.readouterr().err
    assert dataset.class_names == ("ox", "ass")
    assert dataset.image_shape == (8, 9, 3)
    assert dataset.test is None
    assert (len(dataset.train.target), len(dataset.validation.target)) == (12, 5)
    batches = drain(dataset.train, residence)
    assert sorted(numbers(batches)) == list(range(12))
    assert all((inputs[:, 0, 0, 0] % 2 == target).all() for inputs, target, _ in batches)
    assert open_dataset(data).fingerprint == dataset.fingerprint
    with pytest.raises(ConfigError, match=r"data.part_column is for data.source=csv"):
        open_dataset(replace(data, part_column="split"))
    assert "downloading" not in capfd.readouterr().err


def test_tfds_records_are_decoded_once_and_then_read_at_random(tiny, tmp_path, monkeypatch):
    plain = config.Data(source="tfds:jv_tiny", path=str(tmp_path / "tfds"), image_size=(5, 4), cache="off")
    kept = replace(plain, cache=str(tmp_path / "cache"))
    (tmp_path / "tfds").mkdir()
    without, first = open_dataset(plain), open_dataset(kept)
    decoded = drain(without.train, "device", seed=3)
    assert_same(drain(without.train, "stream"), drain(without.train, "device"))
    assert_same(drain(first.train, "stream", seed=3), decoded)  # in the order of random access
    monkeypatch.setattr(pipeline, "decoded_batches", None)
    read = []
    monkeypatch.setattr(
        user_dataset, "array_target", lambda target, where, data: read.append(where) or labels(target, where)
    )
    again = open_dataset(replace(kept, residence="stream", limit_train=7))
    assert read == ["The validation part of tfds:jv_tiny"]  # which no feed has asked for yet
    monkeypatch.undo()
    few = open_dataset(replace(plain, limit_train=7))
    assert again.fingerprint == without.fingerprint
    np.testing.assert_array_equal(again.train.target, few.train.target)
    assert_same(drain(again.train, "stream", seed=3), drain(few.train, "device", seed=3))
    assert_same(drain(again.train, "stream", seed=3, start=1), drain(few.train, "device", seed=3)[1:])
    # Records written anew are other records.
    (file,) = (tmp_path / "tfds").rglob("*train*.tfrecord*")
    os.utime(file, (0, 0))
    drain(open_dataset(kept).train, "stream")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_tfds_that_cannot_be_had_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "reachable", False)

    def refused(source, path, message):
        with pytest.raises(DataError, match=message):
            open_dataset(config.Data(source=source, path=str(path)))

    refused(
        "tfds:jv_tiny", tmp_path, r"jv_tiny.* could not be prepared. Received: OSError: Name or service not known\. "
    )
    refused("tfds:mnst", tmp_path, "TFDS has no dataset 'mnst'. Did you mean 'mnist'.*Received")
    refused("tfds:jv_tiny", tmp_path / "typo", "data.path does not exist")
