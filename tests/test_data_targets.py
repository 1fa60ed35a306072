"""Masks and multiple labels from arrays, archives, tf.data and TFDS: what is accepted, and how it arrives."""

import re
from dataclasses import replace

import numpy as np
import pytest
from batches import assert_same
from pets_layout import write_pets

from jaxvision import config
from jaxvision.data import ArrayPart, SequentialPart, open_dataset, open_feed
from jaxvision.data.every import every_example
from jaxvision.data.mask import resize_nearest
from jaxvision.data.prepare import prepare_arrays
from jaxvision.errors import DataError

COUNT = 30
MASKS = np.random.default_rng(0).integers(0, 3, (COUNT, 6, 9), dtype=np.uint8)
PICTURES = (MASKS * 60)[..., None]
MANY = np.random.default_rng(1).integers(0, 2, (COUNT, 4))


def opened(given=None, **settings):
    return open_dataset(config.Data(**{"batch_size": 7} | settings), given=given)


def refused(message, given, **settings):
    with pytest.raises(DataError, match=message) as caught:
        opened(given, **settings)
    assert "Received: " in str(caught.value)


def drain(part, residence="stream", seed=None):
    return list(open_feed(part, batch_size=7, seed=seed, residence=residence, resident_mb=64).batches(0))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_given_multiple_labels(dtype):
    dataset = opened({"train": (PICTURES, MANY.astype(dtype))}, validation_fraction=0.2, class_names=tuple("abcd"))
    assert dataset.class_names == ("a", "b", "c", "d")
    assert dataset.train.target.dtype == np.float32
    numbers = [int(np.flatnonzero((picture == PICTURES).all((1, 2, 3)))[0]) for picture in dataset.train.inputs]
    np.testing.assert_array_equal(dataset.train.target, MANY[numbers])
    assert opened({"train": (PICTURES, MANY)}).class_names == ("0", "1", "2", "3")


def test_given_masks_and_what_they_ignore():
    stored = MASKS.astype(np.int64) + 1
    stored[0, 0, :3] = (9, 255, 1)
    target = opened({"train": (PICTURES, stored[..., None])}, label_offset=1, ignore_label=9).train.target
    assert target.dtype == np.uint8
    assert target[0, 0, :3].tolist() == [255, 255, 0]
    np.testing.assert_array_equal(target[1:], MASKS[1:])
    assert opened({"train": (PICTURES, MASKS)}).class_names == ("0", "1", "2")


@pytest.mark.parametrize(
    ("message", "pair", "settings"),
    [
        (r"shape \(N, K\) must be 0 or 1.*example 0 has 2", (PICTURES, MANY * 2 | 2), {}),
        (r"shape \(N, K\) must be 0 or 1.*example 0 has nan", (PICTURES, MANY * np.nan), {}),
        (r"labels must be \(N, 2\), as there are 2 classes.*\(30, 4\)", (PICTURES, MANY), {"class_names": ("a", "b")}),
        ("labels must be whole.*shape \\(30, 1\\).*take \\[:, 0\\]", (PICTURES, MANY[:, :1]), {}),
        ("masks must hold whole class numbers.*float32", (PICTURES, MASKS.astype(np.float32)), {}),
        (r"masks must be as high and wide.*\(9, 6\), pictures \(6, 9\)", (PICTURES, MASKS.swapaxes(1, 2)), {}),
        ("example 0: a mask must hold 1 to 255.*: 0.*label_offset to 0", (PICTURES, MASKS), {"label_offset": 1}),
        ("example 0: its mask must hold 0 to 1.*Received: 2", (PICTURES, MASKS), {"class_names": ("a", "b")}),
        ("as many labels as pictures", (PICTURES, MASKS[:-1]), {}),
    ],
)  # fmt: skip
def test_wrong_targets_are_refused(message, pair, settings):
    refused(message, {"train": pair}, **settings)


def test_parts_must_be_of_one_kind():
    given = {"train": (PICTURES, MASKS % 2)}
    message = "validation part: labels or masks must be of the same kind"
    refused(message, given | {"validation": (PICTURES, MANY)})
    shown = np.where((np.arange(COUNT) == 4)[:, None, None], 2, MASKS % 2)
    refused("validation part, example 4: its mask must hold 0 to 1", given | {"validation": (PICTURES, shown)})


@pytest.mark.parametrize("kind", ["pets", "many"])
def test_prepared_arrays_train_alike(kind, tmp_path):
    if kind == "pets":
        write_pets(tmp_path / "pets", broken=False)
        data = config.Data(source="pets", path=str(tmp_path / "pets"), image_size=(24, 30), cache="off", ignore_label=3)
    else:
        np.savez(tmp_path / "many.npz", x_train=PICTURES, y_train=MANY, class_names=list("abcd"))
        data = config.Data(source="npz", path=str(tmp_path / "many.npz"), image_size=(3, 3), validation_fraction=0.2)
    report = prepare_arrays(data, tmp_path / "out.npz")
    first, again = open_dataset(data), open_dataset(config.Data(source="npz", path=str(tmp_path / "out.npz")))
    assert again.class_names == first.class_names
    for name in ("train", "validation"):
        one, other = getattr(first, name), getattr(again, name)
        assert_same(drain(other, "device", seed=2), drain(one, "device", seed=2))
        assert_same(drain(other), drain(one))
        shown = np.asarray(one.target) if kind == "many" else (np.asarray(one.target) == 0).any((1, 2))[:, None]
        assert next(iter(report.counts[name].values())) == int(shown[:, 0].sum())
    if kind == "many":
        assert every_example(tmp_path / "out.npz", (3, 3, 1)).labels.shape == (COUNT, 4)
    else:
        assert (every_example(tmp_path / "out.npz", (24, 30, 3)).labels == -1).all()


def slices(pictures=PICTURES, target=MASKS):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((pictures, target))


@pytest.mark.parametrize(
    ("target", "batched"),
    [
        (MASKS, False), (MASKS[..., None].astype(np.int64), False), (MASKS[..., None], True), (MASKS, True),
        (MANY.astype(np.float32), False), (MANY.astype(np.float32), True), (MANY, True), (MANY, False),
    ],
)  # fmt: skip
def test_a_users_dataset(target, batched):
    given = slices(target=target)
    settings = {"image_size": (3, 4), "resize": "crop"}
    part = opened({"train": given.batch(4) if batched else given}, **settings).train
    assert isinstance(part, ArrayPart)
    assert_same(drain(part), drain(opened({"train": (PICTURES, target)}, **settings).train))


def test_multiple_labels_are_streamed_and_masks_are_not():
    part = opened({"train": slices(target=MANY.astype(np.float32))}, residence="stream").train
    assert isinstance(part, SequentialPart)
    assert_same(drain(part), drain(opened({"train": (PICTURES, MANY)}).train))
    refused("masks of a tf.data.Dataset are kept in memory.*residence=stream", {"train": slices()}, residence="stream")


@pytest.fixture(scope="module")
def tiny():
    """A TFDS dataset of pictures and masks of different sizes, the masks numbered from 1, 9 among them."""
    tfds = pytest.importorskip("tensorflow_datasets")

    class JvTinyMasks(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            mask = tfds.features.Image(shape=(None, None, 1), use_colormap=True)
            features = {"image": tfds.features.Image(shape=(None, None, 3)), "mask": mask, "name": tfds.features.Text()}
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

        def _split_generators(self, manager):
            return {"train": self._generate_examples(11), "test": self._generate_examples(5)}

        def _generate_examples(self, count):
            for number in range(count):
                mask = self.stored(number)
                yield number, {"image": np.repeat(mask * 20, 3, 2), "mask": mask, "name": str(number)}

        @staticmethod
        def stored(number):
            mask = np.random.default_rng(number).integers(1, 4, (12 + number, 15, 1), dtype=np.uint8)
            mask[0, 0] = 9
            return mask

    return JvTinyMasks


@pytest.mark.parametrize("residence", ["device", "stream"])
def test_masks_of_tfds(tiny, residence, tmp_path, monkeypatch):
    data = config.Data(
        source="tfds:jv_tiny_masks", path=str(tmp_path), image_size=(8, 8), resize="crop", batch_size=7, cache="off",
        target="mask", class_names=("a", "b", "c"), label_offset=1, ignore_label=9, residence=residence,
    )  # fmt: skip
    dataset = open_dataset(data)
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.train.target.shape == (11, 8, 8)
    numbers = [int(example["name"].numpy()) for example in tiny(data_dir=str(tmp_path)).as_dataset(split="train")]
    expected = np.stack([resize_nearest(tiny.stored(n)[..., 0], (8, 8), "crop") for n in numbers])
    expected = np.where(expected == 9, 255, expected - 1)
    batches = drain(dataset.train, residence)
    np.testing.assert_array_equal(np.concatenate([np.asarray(b.target) for b in batches])[:11], expected)
    np.testing.assert_array_equal(dataset.train.target[[7, 2, 7]], expected[[7, 2, 7]])
    few = open_dataset(replace(data, limit_train=4, validation_fraction=0.3))
    assert len(drain(few.validation, residence)[0].valid) == 7
    kept = replace(data, cache=str(tmp_path / "cache"))
    assert_same(drain(open_dataset(kept).train, residence), batches)
    monkeypatch.setattr("jaxvision.data.pipeline.decoded_batches", None)
    assert_same(drain(open_dataset(kept).train, residence), batches)


def test_wrong_masks_of_tfds(tiny, tmp_path):
    data = config.Data(source="tfds:jv_tiny_masks", path=str(tmp_path), image_size=(8, 8), target="mask", cache="off")

    def refused(message, **changes):
        with pytest.raises(DataError, match=message):
            drain(open_dataset(replace(data, **changes)).train)

    refused("does not say how many classes.*data.class_names")
    refused("no such feature. Did you mean 'mask'.*Received: 'masks'. It has: image, mask, name", target="masks")
    refused("no single picture with a class label or mask.*'name'", target="name")
    refused(r"example \d+: a mask must hold 1 to 3. Received: 9 \(1 pixels", class_names=tuple("abc"), label_offset=1)


def test_masks_change_the_fingerprint():
    first = opened({"train": (PICTURES, MASKS)}).fingerprint
    other = MASKS.copy()
    other[-1, -1, -1] ^= 1
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert first == opened({"train": (PICTURES, MASKS.astype(np.int64))}, limit_train=9).fingerprint
    assert first != opened({"train": (PICTURES, other)}).fingerprint
