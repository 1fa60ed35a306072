"""The Oxford-IIIT Pets in their own layout: the book's split, what is broken in them, and pictures with their masks."""

import os
import random

import numpy as np
import pytest
from batches import assert_same
from pets_layout import EMPTY, GIF, drawn, write_pets

from jaxvision import config
from jaxvision.data import open_dataset, open_feed, take
from jaxvision.data.check import check_data
from jaxvision.data.mask import resize_nearest
from jaxvision.data.pets import pets, split_pets
from jaxvision.errors import ConfigError, DataError

SETTINGS = {"source": "pets", "image_size": (32, 36), "batch_size": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pets") / "unpacked"
    write_pets(folder)
    return folder


def opened(root, **settings):
    with pytest.warns(UserWarning, match=rf"1 pictures are left out:\n.*{EMPTY}.jpg: empty: zero bytes"):
        return open_dataset(config.Data(path=str(root), **SETTINGS | settings))


def stems(part):
    return [path.rsplit("/", 1)[1].removesuffix(".jpg") for path in part.paths]


def test_the_split_is_the_books(root):
    dataset = opened(root, cache="off")
    # The book's own lines, with a seventh for its 1,000.
    pictures = sorted(str(path) for path in (root / "images").iterdir() if path.name.endswith(".jpg"))
    pictures = [path for path in pictures if "/._" not in path]
    random.Random(1337).shuffle(pictures)
    names = [path.rsplit("/", 1)[1].removesuffix(".jpg") for path in pictures]
    assert stems(dataset.train) == [name for name in names[:-3] if name != EMPTY]
    assert stems(dataset.validation) == [name for name in names[-3:] if name != EMPTY]
    assert len(dataset.train.target) + len(dataset.validation.target) == 20
    assert GIF in stems(dataset.train) + stems(dataset.validation)
    assert dataset.class_names == ("animal", "background", "contour")
    assert dataset.image_shape == (32, 36, 3)
    whole = split_pets([(str(number), "") for number in range(7390)])
    assert len(whole["validation"]) == 1000


@pytest.mark.parametrize("residence", ["device", "stream"])
@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_masks_come_with_their_pictures(root, tmp_path, resize, residence):
    """Every way to a batch, the decoded cache on its first and second run too, gives the masks that were drawn."""
    part = opened(root, resize=resize, cache="off").train
    assert GIF in stems(part)
    expected = []
    for name in stems(part):
        trimap = drawn(19 if name == GIF else int(name.split("_")[1]) - 1)[1]
        expected.append(resize_nearest(trimap, (32, 36), resize) - 1)
    read = []
    for cache in ("off", str(tmp_path / "cache"), str(tmp_path / "cache")):
        part = opened(root, resize=resize, cache=cache).train
        (batch,) = open_feed(part, batch_size=20, seed=None, residence=residence, resident_mb=9).batches(0)
        assert batch.valid.tolist() == [True] * len(expected) + [False] * (20 - len(expected))
        assert batch.target.dtype == np.uint8
        np.testing.assert_array_equal(batch.target[: len(expected)], expected)
        np.testing.assert_array_equal(batch.target[-1], expected[-1])
        read.append([batch])
    assert_same(read[1], read[0])
    assert_same(read[2], read[0])


def test_a_kept_part_reads_masks_from_its_entry_only(root, tmp_path, monkeypatch):
    def drain():
        part = opened(root, cache=str(tmp_path), limit_train=9).train
        return list(open_feed(part, batch_size=4, seed=3, residence="stream", resident_mb=9).batches(1))

    first = drain()
    monkeypatch.setattr("jaxvision.data.lazy_masks.read_mask", None)
    assert_same(drain(), first)
    monkeypatch.undo()
    (kept,) = tmp_path.iterdir()
    content = bytearray((kept / "masks.npy").read_bytes())
    content[len(content) // 2] ^= 1
    (kept / "masks.npy").write_bytes(content)
    with pytest.warns(UserWarning, match="this cache entry is damaged"):
        assert_same(drain(), first)
    ignoring = opened(root, cache=str(tmp_path), ignore_label=3, limit_train=9).train
    (batch, *_) = open_feed(ignoring, batch_size=9, seed=3, residence="stream", resident_mb=9).batches(1)
    assert set(np.unique(batch.target)) == {0, 1, 255}  # not the entry in which contours count
    assert len(list(tmp_path.iterdir())) == 2
    os.utime(root / "annotations/trimaps/Abyssinian_4.png", (0, 0))  # a mask made anew
    drain()
    assert len(list(tmp_path.iterdir())) == 3


def test_opening_decodes_no_mask(root, monkeypatch):
    monkeypatch.setattr("jaxvision.data.lazy_masks.read_mask", None)
    part = take(opened(root).train, np.array([3, 1]))
    assert part.target.shape == (2, 32, 36)
    monkeypatch.undo()
    assert part.target[[1, 0]].shape == (2, 32, 36)
    assert part.target[0].shape == (32, 36)


def test_what_is_missing_is_told(root, tmp_path):
    def refused(message, kind=DataError, path=tmp_path, **settings):
        with pytest.raises(kind, match=message):
            open_dataset(config.Data(path=str(path), **SETTINGS | settings))

    refused("images: there is no such folder.*annotations.tar.gz.*an empty folder")
    write_pets(tmp_path / "half", 9, broken=False)
    (tmp_path / "half/annotations/trimaps/Abyssinian_3.png").unlink()
    (tmp_path / "half/images/Abyssinian_5.jpg").unlink()
    refused(
        "2 pictures and trimaps have no partner.*\n.*images/Abyssinian_3.jpg: no mask .*trimaps/Abyssinian_3.png\n"
        ".*trimaps/Abyssinian_5.png: no picture .*images/Abyssinian_5.jpg",
        path=tmp_path / "half",
    )
    refused("the first class of the trimaps is known", ConfigError, root, label_offset=2)


def test_contours_that_count_nowhere_are_no_class(tmp_path):
    """Neither for training nor for `check`."""
    write_pets(tmp_path, 8, broken=False)
    assert pets(config.Data(path=str(tmp_path), image_size=(8, 8), ignore_label=3)).class_names == (
        "animal",
        "background",
    )
    report = check_data(tmp_path, ignore_label=3)
    assert report.ok
    assert list(report.pixels["train"]) == ["animal", "background", "(ignored)"]
    assert report.pixels["train"]["(ignored)"] > 0
