"""Folders as people have them: parts under other names, clutter of systems, names that look the same."""

import itertools
import unicodedata
from pathlib import Path

import broken_pictures as broken
import numpy as np
import pytest
from faults import fault
from PIL import Image

from jaxvision import config
from jaxvision.data import open_dataset
from jaxvision.data.check import check_data
from jaxvision.data.every import every_example
from jaxvision.data.names import check_look_alikes
from jaxvision.data.prepare import prepare_dogs_vs_cats
from jaxvision.errors import DataError

COMPOSED = "caf\u00e9"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
SEEDS = itertools.count()


def images(root: Path, *folders: str) -> Path:
    """Two images in each folder, all different."""
    for folder in folders:
        for number in range(2):
            broken.good(root / folder / f"{number}.jpg", seed=next(SEEDS), size=(9, 9))
    return root


def in_parts(root: Path, *parts: str) -> Path:
    return images(root, *(f"{part}/{name}" for part in parts for name in ("cat", "dog")))


def opened(root, source="folder", **settings):
    return open_dataset(config.Data(source=source, path=str(root), cache="off", **settings))


def refused(root, *expected: str, source="folder") -> str:
    """The message of the source, which must also be among the problems that `check` finds."""
    with pytest.raises(DataError) as caught:
        opened(root, source)
    message = str(caught.value)
    assert all(text in message for text in (*expected, "Received: ")), message
    assert message in check_data(root).problems
    return message


@fault("parts under other names: Training and Testing, train_set, val", happens="refused: names what to rename")
@pytest.mark.parametrize(
    ("parts", "advice"),
    [
        (("Training", "Testing"), "Training -> train, Testing -> test."),
        (("training_set", "test_set"), "training_set -> train, test_set -> test."),
        (("Train", "Valid", "Test"), "Train -> train, Valid -> validation, Test -> test."),
        (("TRAIN", "VAL"), "TRAIN -> train, VAL -> validation."),
        (("train2017", "val2017"), "train2017 -> train, val2017 -> validation."),
        (("train", "val"), "val -> validation."),
        (("train", "dev", "test"), "dev -> validation."),
        (("Training",), "Training -> train."),
        (("augmented", "test"), "move away augmented"),
        (("validation", "test"), "There is no folder train with a sub-folder for each class."),
        (("seg_train/seg_train", "seg_test/seg_test"), "seg_train/seg_train -> train, seg_test/seg_test -> test."),
    ],
)
def test_parts_under_other_names_are_not_classes(parts, advice, tmp_path):
    refused(in_parts(tmp_path, *parts), advice)


def test_parts_without_classes_and_parts_within_classes_are_refused(tmp_path):
    refused(images(tmp_path / "flat", "train", "test", "unlabelled"), "Make a sub-folder for each class")
    refused(images(tmp_path / "within", "cat/train", "cat/test", "dog/train"), "train/cat, not cat/train")
    unlabelled = images(in_parts(tmp_path / "unlabelled", "train"), "test")
    with pytest.raises(DataError, match="Images without a class cannot be used: move them away"):
        opened(unlabelled)


def test_advice_on_parts_works(tmp_path):
    root = in_parts(tmp_path / "data", "Training", "Testing")
    (tmp_path / "links").mkdir()
    for name, part in (("Training", "train"), ("Testing", "test")):
        (tmp_path / "links" / part).symlink_to(root / name)
    dataset = opened(tmp_path / "links")
    assert (dataset.class_names, len(dataset.train.target), len(dataset.test.target)) == (("cat", "dog"), 4, 4)
    assert check_data(tmp_path / "links").ok
    (tmp_path / "classes").mkdir()
    root.rename(tmp_path / "classes" / "train")
    assert opened(tmp_path / "classes").class_names == ("Testing", "Training")


def test_a_folder_around_the_dataset_is_named(tmp_path):
    images(tmp_path, "archive/dataset/cat", "archive/dataset/dog")
    message = refused(tmp_path)
    inner = message.partition("Set data.path to ")[2].partition(". Received")[0]
    assert opened(inner).class_names == ("cat", "dog")
    refused(in_parts(tmp_path / "twice", "train/train"), "Move what is in", "twice/train/train up into")


@pytest.mark.parametrize("names", [("train", "bus", "car"), ("a", "A", "b"), ("trainer", "contest"), ("day", "night")])
def test_classes_may_have_such_names(names, tmp_path):
    """Without a warning: warnings are errors here."""
    images(tmp_path, *names)
    assert opened(tmp_path).class_names == tuple(sorted(names))
    assert check_data(tmp_path).ok


def test_what_may_be_meant_otherwise_is_warned_of(tmp_path):
    images(tmp_path / "test", "cat", "dog", "test")
    with pytest.warns(UserWarning, match="test is a class here, beside cat, dog"):
        assert opened(tmp_path / "test").class_names == ("cat", "dog", "test")
    in_parts(tmp_path / "folds", "fold1", "fold2")
    with pytest.warns(UserWarning, match=r"the classes are fold1, fold2, and each has the same sub-folders: cat, dog"):
        opened(tmp_path / "folds")
    assert any("each has the same sub-folders" in note for note in check_data(tmp_path / "folds").notes)
    images(tmp_path / "inside", "cat/indoor", "dog/outdoor", "dog/indoor")
    assert opened(tmp_path / "inside").class_names == ("cat", "dog")


def test_features_of_parts_under_other_names_are_extracted_with_a_warning(tmp_path):
    in_parts(tmp_path, "Training", "Testing")
    with pytest.warns(UserWarning, match=r"labels are the names of these folders, which may be wrong"):
        assert every_example(tmp_path, (9, 9, 3)).class_names == ("Testing", "Training")


@fault(
    "notebook checkpoints, __MACOSX, ._x.jpg, Thumbs.db and the like",
    happens="skipped; `train` warns once with their number, `check` counts them by kind",
)
def test_hidden_and_system_files_are_skipped_and_counted(tmp_path):
    in_parts(tmp_path, "train", "validation")
    images(tmp_path, ".ipynb_checkpoints", "__MACOSX/train/cat", "@eaDir", "lost+found", "$RECYCLE.BIN")
    images(tmp_path, "train/.ipynb_checkpoints", "train/cat/.ipynb_checkpoints", "validation/dog/@eaDir")
    (tmp_path / "train/cat/._0.jpg").write_bytes(b"\0\5\x16\7 AppleDouble")
    for name in ("train/cat/Thumbs.db", "train/desktop.ini", "validation/.DS_Store", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.warns(UserWarning, match=r"13 hidden or system files and folders are skipped \(.*_MACOSX: 1") as caught:
        dataset = opened(tmp_path)
    assert len(caught) == 1
    assert (dataset.class_names, len(dataset.train.paths), len(dataset.validation.paths)) == (("cat", "dog"), 4, 4)
    report = check_data(tmp_path)
    assert report.ok
    assert report.counts == {"train": {"cat": 2, "dog": 2}, "validation": {"cat": 2, "dog": 2}}
    expected = {".ipynb_checkpoints": 3, ".DS_Store": 2, "@eaDir": 2, "__MACOSX": 1, "lost+found": 1, "._*": 1}
    expected |= {"$RECYCLE.BIN": 1, "Thumbs.db": 1, "desktop.ini": 1}
    assert report.unread == expected
    with pytest.warns(UserWarning, match="13 hidden or system files"):
        assert len(every_example(tmp_path, (9, 9, 3)).names) == 8


def test_a_file_manager_does_not_change_what_was_prepared(tmp_path):
    for name, number in itertools.product(("cat", "dog"), range(3)):
        broken.good(tmp_path / "source" / f"{name}.{number}.jpg", number)
    sizes = {"train": 1, "validation": 1, "test": 1}
    prepare_dogs_vs_cats(tmp_path / "source", tmp_path / "small", **sizes)
    (tmp_path / "small/train/.DS_Store").write_bytes(b"x")
    assert prepare_dogs_vs_cats(tmp_path / "source", tmp_path / "small", **sizes).how == "already there"


def test_a_name_is_the_same_however_unicode_composes_it(tmp_path):
    images(tmp_path, f"train/{COMPOSED}", "train/tea", f"validation/{DECOMPOSED}", "validation/tea")
    dataset = opened(tmp_path)
    assert dataset.class_names == (COMPOSED, "tea")
    assert dataset.validation.target.tolist() == [0, 0, 1, 1]
    assert all(DECOMPOSED in path for path in dataset.validation.paths[:2])
    assert check_data(tmp_path).ok
    masks = tmp_path / "pairs"
    for number, (image, mask) in enumerate(((COMPOSED, DECOMPOSED), (DECOMPOSED + "2", COMPOSED + "2"))):
        broken.good(masks / "images" / f"{image}.jpg", number, size=(9, 9))
        (masks / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(9, dtype=np.uint8)).save(masks / "masks" / f"{mask}.png")
    assert len(opened(masks, "masks").train.paths) == 2
    assert check_data(masks).ok


@fault(
    "class folders whose names differ only in Unicode's forms, spaces or what is not drawn",
    happens="refused: shows the difference",
)
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        ((COMPOSED, DECOMPOSED, "tea"), r"'cafe\u0301' and 'caf\xe9'"),
        (("cat", "cat ", "dog"), "'cat' and 'cat '"),
        (("cat", "c\u200bat", "dog"), r"'cat' and 'c\u200bat'"),
        (("cat", "dog", "dog\u00a0"), r"'dog' and 'dog\xa0'"),
    ],
)
def test_classes_that_look_the_same_are_refused(names, shown, tmp_path):
    refused(images(tmp_path, *names), "the names of these classes look the same", shown)


@pytest.mark.parametrize(
    "names", [("Cat", "cat"), ("golden_retriever", "golden retriever"), ("cat", "c\u0430t"), ("1.0", "01")]
)
def test_classes_that_differ_in_little_are_warned_of(names, tmp_path):
    images(tmp_path, *names, "dog")
    with pytest.warns(UserWarning, match="the names of these classes are almost the same"):
        assert len(opened(tmp_path).class_names) == 3
    report = check_data(tmp_path)
    assert report.ok
    assert any("almost the same" in note for note in report.notes)


def test_letters_and_numbers_are_no_look_alikes():
    check_look_alikes(("a", "A", "\u0430", "1", "10", "100", "x 1", "x 11"), "here")


def test_one_folder_under_two_names_is_refused(tmp_path):
    images(tmp_path, "cat", "dog")
    (tmp_path / "fox").symlink_to("dog")
    refused(tmp_path, "fox and", "are the same folder")
    (in_parts(tmp_path / "parts", "train") / "validation").symlink_to("train")
    refused(tmp_path / "parts", "validation and", "are the same folder")


def test_folders_of_masks_under_other_names_are_named(tmp_path):
    def pairs(*folders):
        for folder in folders:
            broken.good(tmp_path / folder / "0.png", size=(9, 9), seed=next(SEEDS))

    pairs("set/images", "set/masks")
    with pytest.raises(DataError, match=r"images and masks look like images.*data.source to masks"):
        opened(tmp_path / "set")
    pairs("below/images/train", "below/images/val", "below/masks/train", "below/masks/val")
    refused(tmp_path / "below", "its folders look like parts", "below/train/images", source="masks")
    pairs("named/Training/images", "named/Training/masks")
    with pytest.raises(DataError, match="Rename the parts: Training -> train"):
        opened(tmp_path / "named", "masks")
    pairs("case/Images", "case/Mask")
    with pytest.raises(DataError, match="Rename Images -> images, Mask -> masks"):
        opened(tmp_path / "case", "masks")
    pairs("around/set/images", "around/set/masks")
    with pytest.raises(DataError, match=r"Set data.path to .*around/set"):
        opened(tmp_path / "around", "masks")
