"""Opening arrays and archives: what is accepted, how parts are cut, and what each mistake is told."""

import re
import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from jaxvision import config
from jaxvision.data import ArrayPart, Dataset, open_dataset, open_feed
from jaxvision.data.parts import Rows
from jaxvision.data.picture import resize_bilinear
from jaxvision.errors import ConfigError, DataError

COUNT = 60


def numbered(count=COUNT, offset=0):
    """Pictures that hold their own number, and labels 0, 1, 2."""
    numbers = np.arange(offset, offset + count)
    return np.tile(numbers[:, None, None, None].astype(np.uint8), (1, 6, 5, 1)), numbers % 3


def opened(given=None, **settings):
    return open_dataset(config.Data(**{"batch_size": 4} | settings), given=given)


def numbers(part):
    return np.asarray(part.inputs)[:, 0, 0, 0].astype(int)


def refused(message, given=None, kind=DataError, **settings):
    with pytest.raises(kind, match=message) as caught:
        opened(given, **settings)
    assert "Received: " in str(caught.value)


def test_given_arrays_become_uint8_pictures_and_int32_labels():
    inputs, target = numbered()
    dataset = opened({"train": (inputs[..., 0].astype(np.int64), target.tolist()), "test": (inputs, target)})
    assert dataset.train.inputs.dtype == np.uint8
    assert dataset.train.target.dtype == np.int32
    assert dataset.image_shape == (6, 5, 1)
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.validation is None
    np.testing.assert_array_equal(dataset.train.inputs, dataset.test.inputs)
    named = opened({"train": (inputs, target), "class_names": ["a", "b", "c", "d"]})
    assert named.class_names == ("a", "b", "c", "d")


def test_float_pictures_stay_float_and_rescaled_ones_are_warned_of():
    inputs, target = numbered()
    dataset = opened({"train": (inputs.astype(np.float64) + 0.25, target)})
    assert dataset.train.inputs.dtype == np.float32
    assert dataset.train.inputs[0, 0, 0, 0] == 0.25
    with pytest.warns(UserWarning, match="given train part.*255"):
        opened({"train": (inputs / 255, target)})


def test_image_size_and_channels_change_given_arrays():
    pictures = np.random.default_rng(0).integers(0, 256, (300, 6, 5, 3), dtype=np.uint8)
    target = np.arange(300) % 2
    sized = opened({"train": (pictures, target)}, image_size=(9, 4)).train.inputs
    np.testing.assert_array_equal(sized, np.rint(resize_bilinear(pictures, (9, 4))))
    cut = opened({"train": (pictures, target)}, image_size=(9, 4), resize="crop").train.inputs  # to 2 of 5 columns
    np.testing.assert_array_equal(cut, np.rint(resize_bilinear(pictures[:, :, 1:3], (9, 4))))
    gray = opened({"train": (pictures, target)}, channels=1).train.inputs
    assert np.abs(gray[..., 0] - pictures @ np.array([0.2989, 0.5870, 0.1140])).max() <= 0.51
    colour = opened({"train": (gray, target)}, channels=3).train.inputs
    np.testing.assert_array_equal(colour, np.repeat(gray, 3, axis=3))


@pytest.mark.parametrize("keras_names", [False, True])
def test_npz(keras_names, tmp_path):
    inputs, target = numbered()
    names = ("x_train", "y_train", "x_test", "y_test") if keras_names else (
        "train_inputs", "train_target", "test_inputs", "test_target"
    )  # fmt: skip
    np.savez(tmp_path / "a.npz", **dict(zip(names, (inputs, target, inputs[:9], target[:9]), strict=True)))
    dataset = opened(source="npz", path=str(tmp_path / "a.npz"))
    np.testing.assert_array_equal(dataset.train.inputs, inputs)
    np.testing.assert_array_equal(dataset.test.target, target[:9])
    assert dataset.fingerprint == opened({"train": (inputs, target), "test": (inputs[:9], target[:9])}).fingerprint


def test_fingerprint_is_stable_and_feels_every_change():
    inputs, target = numbered()
    first = opened({"train": (inputs, target)}).fingerprint
    assert first == opened({"train": (inputs.copy(), target.astype(np.int8))}, limit_train=9).fingerprint
    assert re.fullmatch("[0-9a-f]{64}", first)
    other, swapped = inputs.copy(), target.copy()
    other[-1, -1, -1, -1] += 1
    swapped[:2] = swapped[1::-1]
    changed = [
        {"train": (other, target)},
        {"train": (inputs, swapped)},
        {"train": (inputs, target), "test": (inputs, target)},
    ]
    assert len({first, *(opened(given).fingerprint for given in changed)}) == 4


def test_validation_is_set_aside_by_split_seed_and_test_is_left_alone():
    given = {"train": numbered(), "test": numbered(20, offset=100)}
    dataset = opened(given, validation_fraction=0.2)
    train, validation = numbers(dataset.train), numbers(dataset.validation)
    assert len(validation) == 12
    assert sorted([*train, *validation]) == list(range(COUNT))
    assert numbers(dataset.test).tolist() == list(range(100, 120))
    assert (np.diff(validation) != 1).any()  # drawn, not the end of the part
    np.testing.assert_array_equal(dataset.train.target, train % 3)
    np.testing.assert_array_equal(dataset.validation.target, validation % 3)
    np.testing.assert_array_equal(numbers(opened(given, validation_fraction=0.2).validation), validation)
    assert numbers(opened(given, validation_fraction=0.2, split_seed=1).validation).tolist() != validation.tolist()


def test_limits_draw_without_replacement_and_keep_the_parts_apart():
    given = {"train": numbered(), "test": numbered(20, offset=100)}
    dataset = opened(given, validation_fraction=0.5, limit_train=10, limit_validation=7, limit_test=5)
    parts = [numbers(part) for part in (dataset.train, dataset.validation, dataset.test)]
    assert [len(part) for part in parts] == [10, 7, 5]
    assert len(set(np.concatenate(parts))) == 22
    assert max(parts[0].max(), parts[1].max()) < 100 <= parts[2].min()
    assert parts[0].max() > 15  # not simply the first ones
    np.testing.assert_array_equal(dataset.train.target, parts[0] % 3)


def test_a_memory_mapped_array_is_not_read_when_parts_are_cut(tmp_path):
    inputs, target = numbered()
    np.save(tmp_path / "inputs.npy", inputs)
    mapped = np.load(tmp_path / "inputs.npy", mmap_mode="r")
    plain = opened({"train": (inputs, target)}, validation_fraction=0.2, limit_train=20)
    lazy = opened({"train": (mapped, target)}, validation_fraction=0.2, limit_train=20)
    assert isinstance(lazy.train.inputs, Rows)
    assert lazy.fingerprint == plain.fingerprint
    for residence in ("device", "stream"):
        feeds = [
            open_feed(part, batch_size=6, seed=1, residence=residence, resident_mb=1)
            for part in (plain.train, lazy.train)
        ]
        for one, other in zip(*(feed.batches(0) for feed in feeds), strict=True):
            np.testing.assert_array_equal(one.inputs, other.inputs)


PICTURES, LABELS = numbered()
INT64, LABELS = PICTURES.astype(np.int64), LABELS.astype(np.int32)


def own_source(data):
    inputs, target = numbered()
    return Dataset(ArrayPart(inputs, target.astype(np.int32)), None, None, ("a", "b", "c"), (6, 5, 1), "own")


def test_a_source_of_ones_own(monkeypatch):
    module = types.ModuleType("my_sources")
    module.mine, module.wrong = own_source, lambda data: "nothing"
    monkeypatch.setitem(sys.modules, "my_sources", module)
    dataset = opened(source="my_sources:mine", limit_train=30)
    assert len(dataset.train.target) == 30
    assert dataset.fingerprint == "own"
    refused("my_sources:wrong must return a Dataset", source="my_sources:wrong")
    refused("cannot be imported.*my_sources:other", source="my_sources:other", kind=ConfigError)


def test_a_module_that_fails_when_imported_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for number, text in enumerate(("1 / 0", "def broken(:")):
        (tmp_path / f"failing_{number}.py").write_text(text)
        refused(f"data.source: cannot be imported: .*Error.*failing_{number}", source=f"failing_{number}:source",
                kind=ConfigError)  # fmt: skip


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("train part: pictures must be uint8 or float32.*int64", {"train": (INT64, LABELS)}),
        (r"validation part: labels must be int32 \(60,\).*int64", {"validation": (PICTURES, LABELS.astype(np.int64))}),
        ("test part is not a part of a dataset.*tuple", {"test": ()}),
    ],
)
def test_a_wrong_source_of_ones_own_is_refused(message, change, monkeypatch):
    parts = {name: ArrayPart(*pair) if pair else pair for name, pair in change.items()}
    module = types.ModuleType("my_sources")
    module.mine = lambda data: replace(own_source(data), **parts)
    monkeypatch.setitem(sys.modules, "my_sources", module)
    refused(message, source="my_sources:mine")


@pytest.mark.parametrize("source", ["digits", "shapes"])
def test_embedded_sources_are_dispatched(source):
    dataset = opened(source=source)
    assert len(dataset.train.target) > 100
    assert dataset.test is not None
    assert dataset.train.inputs.shape[1:] == dataset.image_shape


INPUTS, TARGET = numbered()
LABEL_7 = np.where(np.arange(COUNT) == 17, 7, TARGET)


@pytest.mark.parametrize(
    ("message", "pair"),
    [
        ("given train part: labels must be whole class numbers.*float64.*example 0 is 0.0", (INPUTS, TARGET * 1.0)),
        (r"labels must be whole class numbers.*shape \(60, 1\)", (INPUTS, TARGET[:, None])),
        (r"labels of shape \(N, K\) must be 0 or 1.*shape \(60, 3\), example 0 has 2.*argmax",
         (INPUTS, 2 * np.eye(3)[TARGET])),
        ("train part, example 17: labels must be 0 to 2.*Received: -1", (INPUTS, np.where(LABEL_7 == 7, -1, TARGET))),
        ("as many labels as pictures.*60 pictures, 59 labels", (INPUTS, TARGET[:-1])),
        (r"shape \(N, H, W, C\).*\(60,\)", (np.arange(60), TARGET)),
        (r"all of one size", (np.array([np.zeros((n % 2 + 1, 2)) for n in range(60)], dtype=object), TARGET)),
        ("pixel units 0..255.*from 197 to 256", (INPUTS.astype(int) + 197, TARGET)),
        ("must be uint8 or float.*bool", (INPUTS > 3, TARGET)),
        ("example 5 holds values that are not finite. Received", (np.where(INPUTS == 5, np.nan, INPUTS), TARGET)),
        ("train part is empty", (INPUTS[:0], TARGET[:0])),
        ("at least two classes", (INPUTS, TARGET * 0)),
        ("cannot become 3", (np.zeros((60, 4, 4, 2), np.uint8), TARGET)),
    ],
)  # fmt: skip
def test_wrong_arrays_are_refused(message, pair):
    refused(message, {"train": pair}, **({"channels": 3} if "become" in message else {}))


def test_wrong_parts_are_refused():
    refused("validation part, example 17: labels must be 0 to 2.*Received: 7",
            {"train": (INPUTS, TARGET), "validation": (INPUTS, LABEL_7)})  # fmt: skip
    refused(
        r"test part: pictures must be \(6, 5, 1\).*\(6, 4, 1\)",
        {"train": (INPUTS, TARGET), "test": (INPUTS[:, :, 1:], TARGET)},
    )
    refused("Unknown part 'tests'.*'test'", {"train": (INPUTS, TARGET), "tests": (INPUTS, TARGET)})
    refused("no part 'train'", {"test": (INPUTS, TARGET)})
    refused("pair of arrays.*ndarray", {"train": INPUTS})


def test_a_validation_part_of_its_own_stays_whole():
    given = {"train": (INPUTS, TARGET), "validation": (INPUTS[:7], TARGET[:7])}
    dataset = opened(given, validation_fraction=0.5)
    assert (len(dataset.train.target), len(dataset.validation.target)) == (60, 7)


def test_wrong_settings_are_refused():
    given = {"train": (INPUTS, TARGET), "validation": (INPUTS, TARGET)}
    refused("data.limit_train is larger.*61 with 60", given, limit_train=61)
    refused("data.limit_test: the dataset has no test part", given, limit_test=1)
    refused("leaves one part empty", {"train": (INPUTS, TARGET)}, validation_fraction=0.001)
    refused("no such source.*'digits'.*Received: 'digitz'", source="digitz", kind=ConfigError)
    refused("data.source: cannot be imported.*no_such", source="no_such_module:source", kind=ConfigError)
    refused("cannot be imported.*os.*'nothing'", source="os:nothing", kind=ConfigError)
    refused("package.module:Name", source="os:", kind=ConfigError)
    refused("data.source: a source is a function of one argument.*os:getcwd", source="os:getcwd")
    refused("data.source: a source is a function of one argument.*not a callable", source="os:name")
    refused("handed to fit in Python.*--data.source", source="given")
    assert opened(given, source="given").class_names == ("0", "1", "2")
    refused("data.path is needed", source="npz", kind=ConfigError)


def test_wrong_archives_are_refused(tmp_path):
    def refused_npz(message, **arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        refused(message, source="npz", path=str(tmp_path / "a.npz"))

    refused_npz(
        "unknown array 'train_target1'.*'train_target'.*Expected: train_inputs",
        train_inputs=INPUTS,
        train_target1=TARGET,
    )
    refused_npz("test_inputs and test_target must come together", x_train=INPUTS, y_train=TARGET, test_inputs=INPUTS)
    refused_npz("no array train_inputs.*Expected: train_inputs", x_test=INPUTS, y_test=TARGET)
    refused_npz(
        "test part of .*a.npz: labels must be whole", x_train=INPUTS, y_train=TARGET, x_test=INPUTS, y_test=TARGET / 2
    )
    refused_npz("a NumPy archive.*Python objects in 'x_train'", x_train=np.array([None]), y_train=TARGET)
    refused("data.path does not exist.*b.npz", source="npz", path=str(tmp_path / "b.npz"))
    for content, kind in ((b"", "an empty file"), (b"words", "text"), ((tmp_path / "a.npz").read_bytes()[:900], "zip")):
        (tmp_path / "c.npz").write_bytes(content)
        refused(
            f"c.npz cannot be read as a NumPy archive.*Received: .*{kind}", source="npz", path=str(tmp_path / "c.npz")
        )
    np.save(tmp_path / "d.npy", INPUTS)
    refused(r"d.npy cannot be read .*one array \(.npy\).*savez", source="npz", path=str(tmp_path / "d.npy"))
    refused("cannot be read as a NumPy archive.*directory", source="npz", path=str(tmp_path))
