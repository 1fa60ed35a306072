"""`prepare`: the book's subset from each form Kaggle's data comes in, all or nothing."""

import io
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import broken_pictures as broken
import numpy as np
import pytest

from jaxvision import config
from jaxvision.data import open_dataset
from jaxvision.data.prepare import prepare_arrays, prepare_dogs_vs_cats
from jaxvision.errors import DataError

EACH = 7
SIZES = {"train": 3, "validation": 2, "test": 1}


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """Kaggle's flat folder with 7 pictures of each class."""
    folder = tmp_path_factory.mktemp("kaggle") / "train"
    for kind in ("cat", "dog"):
        for number in range(EACH):
            broken.good(folder / f"{kind}.{number}.jpg", seed=number + 100 * (kind == "dog"))
    (folder / "notes.txt").write_text("not a picture")
    return folder


def zipped(flat, extra=()):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(flat.glob("*.jpg")):
            archive.write(path, f"train/{path.name}")
        for name, content in extra:
            archive.writestr(name, content)
    return buffer.getvalue()


def tree(folder):
    """Relative path -> content of every file, hidden ones too."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in Path(folder).rglob("*") if not p.is_dir()}


def expected(flat, train=3, validation=2, test=1):
    parts, start = {}, 0
    for part, size in (("train", train), ("validation", validation), ("test", test)):
        for kind in ("cat", "dog"):
            for number in range(start, start + size):
                parts[f"{part}/{kind}/{kind}.{number}.jpg"] = (flat / f"{kind}.{number}.jpg").read_bytes()
        start += size
    return parts


def refused(message, *args, **options):
    with pytest.raises(DataError, match=message) as caught:
        prepare_dogs_vs_cats(*args, **options)
    assert "Received: " in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", ["flat", "around", "train.zip", "folder with train.zip", "dogs-vs-cats.zip"])
def test_every_form_of_the_source_gives_the_same_dataset(form, flat, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    if form == "flat":
        source = flat
    elif form == "around":
        source = flat.parent
    elif form == "dogs-vs-cats.zip":
        source = source / form
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as outer:
            outer.writestr("test1.zip", b"not looked at")
            outer.writestr("train.zip", zipped(flat))
    else:
        (source / "train.zip").write_bytes(zipped(flat))
        source = source / "train.zip" if form == "train.zip" else source
    report = prepare_dogs_vs_cats(source, tmp_path / "out", **SIZES)
    assert tree(tmp_path / "out") == expected(flat)
    assert report.counts == {part: {"cat": size, "dog": size} for part, size in SIZES.items()}
    assert sorted(os.listdir(tmp_path)) == ["out", "source"]
    # And it is what the folder source reads.
    dataset = open_dataset(config.Data(source="folder", path=str(tmp_path / "out"), batch_size=1))
    assert dataset.class_names == ("cat", "dog")
    assert len(dataset.validation.target) == 4


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_links_and_copies(link, flat, tmp_path):
    assert prepare_dogs_vs_cats(flat, tmp_path / "out", **SIZES, link=link).how == link
    ours, theirs = tmp_path / "out/train/cat/cat.0.jpg", flat / "cat.0.jpg"
    assert ours.is_symlink() == (link == "symlink")
    assert ours.samefile(theirs) == (link != "copy")
    assert tree(tmp_path / "out") == expected(flat)


def test_writing_to_what_was_prepared_leaves_the_source_alone(flat, tmp_path):
    before = tree(flat)
    prepare_dogs_vs_cats(flat, tmp_path / "out", **SIZES)
    for path in (tmp_path / "out").rglob("*.jpg"):
        path.write_bytes(b"")
    assert tree(flat) == before


def test_hard_links_that_are_refused_leave_nothing(flat, tmp_path, monkeypatch):
    def refuse(self, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    refused("cross-device.*link=copy", flat, tmp_path / "out", **SIZES, link="hard")
    assert os.listdir(tmp_path) == []


def test_a_part_of_no_pictures_is_left_out(flat, tmp_path):
    report = prepare_dogs_vs_cats(flat, tmp_path / "out", train=4, validation=3, test=0)
    assert sorted(os.listdir(tmp_path / "out")) == ["train", "validation"]
    assert "test" not in report.counts
    assert tree(tmp_path / "out") == expected(flat, 4, 3, 0)
    refused("not all 0", flat, tmp_path / "none", train=0, validation=0, test=0)
    refused("0 or more", flat, tmp_path / "none", train=-1)


def test_another_dataset_is_never_written_over(flat, tmp_path):
    out = tmp_path / "out"
    prepare_dogs_vs_cats(flat, out, **SIZES)
    assert prepare_dogs_vs_cats(flat, out, **SIZES).how == "already there"
    (tmp_path / "train.zip").write_bytes(zipped(flat))
    assert prepare_dogs_vs_cats(tmp_path / "train.zip", out, **SIZES).how == "already there"
    before = tree(out)
    refused("not written over", flat, out, train=2, validation=2, test=1)
    refused("not written over", flat, out, train=4, validation=2, test=1)
    broken.zero_byte(out / "test/dog/dog.5.jpg")
    refused("not written over", flat, out, **SIZES)
    assert tree(out) == before | {"test/dog/dog.5.jpg": b""}
    for taken in (broken.zero_byte(tmp_path / "file"), flat):
        refused("not written over", flat, taken, **SIZES)
    assert len(tree(flat)) == 2 * EACH + 1
    (tmp_path / "free").mkdir()
    assert prepare_dogs_vs_cats(flat, tmp_path / "free", **SIZES).how == "copy"


def test_missing_pictures_are_named_before_anything_is_written(flat, tmp_path):
    message = refused("8 of the 22", flat, tmp_path / "new/out", train=11, validation=0, test=0)
    assert "cat.7.jpg, cat.8.jpg, cat.9.jpg and 5 more. " in message
    assert "7 cats and 7 dogs" in message
    assert os.listdir(tmp_path) == []
    some = tmp_path / "some"
    prepare_dogs_vs_cats(flat, tmp_path / "parts", **SIZES)
    for path in (tmp_path / "parts").rglob("*.jpg"):
        broken._written(some / path.name, path.read_bytes())
    broken.zero_byte(some / "dog.2.jpg")
    (some / "cat.4.jpg").unlink()
    message = refused("2 of the 12", some, tmp_path / "out", **SIZES)
    assert "(1 empty)" in message
    assert "dog.2.jpg" in message
    assert "cat.4.jpg" in message
    assert not (tmp_path / "out").exists()


def test_wrong_sources_are_told_apart(flat, tmp_path):
    out = tmp_path / "out"
    refused("does not exist", tmp_path / "nowhere", out)
    other = broken.good(tmp_path / "other/photo.jpg").parent
    assert "photo.jpg" in refused("named as Kaggle", other, out)
    page = broken.html_as_jpg(tmp_path / "train.zip")
    refused("403", page, out)
    whole = zipped(flat)
    for name, content in {"short": whole[:-900], "damaged": whole.replace(b"\xff\xd8\xff", b"\xff\xd8\xfe")}.items():
        (tmp_path / f"{name}.zip").write_bytes(content)
        refused("cannot be unpacked", tmp_path / f"{name}.zip", out, **SIZES)
    (tmp_path / "good.zip").write_bytes(whole)
    refused("cannot be linked", tmp_path / "good.zip", out, **SIZES, link="symlink")
    assert not out.exists()
    assert not list(tmp_path.glob(".*"))


def test_paths_within_an_archive_lead_nowhere(flat, tmp_path):
    evil = [("../../escaped.txt", b"x"), ("../train/cat.900.jpg", b"x"), ("/cat.901.jpg", b"x")]
    (tmp_path / "train.zip").write_bytes(zipped(flat, evil))
    prepare_dogs_vs_cats(tmp_path / "train.zip", tmp_path / "deep/out", **SIZES)
    assert tree(tmp_path / "deep") == {f"out/{path}": content for path, content in expected(flat).items()}
    assert sorted(os.listdir(tmp_path)) == ["deep", "train.zip"]


KILLED = """
import pathlib, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
from jaxvision.data import kaggle
from jaxvision.data.prepare import prepare_dogs_vs_cats
bring = kaggle._bring
def slow(picture, to, link):
    if picture.name == "dog.2.jpg":
        print("half-way", flush=True)
        time.sleep(60)
    return bring(picture, to, link)
kaggle._bring = slow
prepare_dogs_vs_cats(sys.argv[1], sys.argv[2], train=3, validation=2, test=1)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_leaves_no_dataset_and_the_next_one_cleans_up(how, flat, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(flat), str(out)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[1]
    ) as run:
        assert run.stdout.readline() == b"half-way\n"
        run.send_signal(how)
        run.wait(timeout=30)
    assert not out.exists()
    left = list(tmp_path.iterdir())
    assert len(left) == (1 if how == signal.SIGKILL else 0)
    prepare_dogs_vs_cats(flat, out, **SIZES)
    assert tree(tmp_path) == {f"out/{path}": content for path, content in expected(flat).items()}


def test_a_subset_of_the_real_pictures(shared_data, tmp_path):
    flat = tmp_path / "train"
    flat.mkdir()
    for label in ("cat", "dog"):
        for number in range(1400):
            real = shared_data / "dogs-vs-cats" / "train" / f"{label}.{number + 100}.jpg"
            (flat / f"{label}.{number}.jpg").symlink_to(real)
    report = prepare_dogs_vs_cats(tmp_path, tmp_path / "small", train=900, test=0, link="symlink")
    assert report.counts == {"train": {"cat": 900, "dog": 900}, "validation": {"cat": 500, "dog": 500}}
    cats = sorted(int(path.name.split(".")[1]) for path in (tmp_path / "small/validation/cat").iterdir())
    assert cats == list(range(900, 1400))
    message = refused("2200 of the 5000", tmp_path, tmp_path / "book")
    assert "cat.1400.jpg" in message
    assert not (tmp_path / "book").exists()


def test_arrays_of_a_folder_train_alike_without_the_files(flat, tmp_path):
    prepare_dogs_vs_cats(flat, tmp_path / "out", **SIZES)
    folder = config.Data(source="folder", path=str(tmp_path / "out"), image_size=(20, 30), batch_size=5)
    report = prepare_arrays(folder, tmp_path / "small.npz")
    assert report.counts == {part: {"cat": size, "dog": size} for part, size in SIZES.items()}
    archive = open_dataset(config.Data(source="npz", path=str(tmp_path / "small.npz"), batch_size=5))
    assert archive.class_names == ("cat", "dog")
    assert archive.image_shape == (20, 30, 3)
    assert archive.train.inputs.dtype == np.uint8
    files = open_dataset(folder)
    for part in SIZES:
        np.testing.assert_array_equal(getattr(archive, part).target, getattr(files, part).target)
    assert sorted(os.listdir(tmp_path)) == ["out", "small.npz"]


def test_arrays_are_never_written_over_and_never_half(tmp_path):
    data = config.Data(source="digits")
    for path, message in ((tmp_path / "x.zip", "end in .npz"), (broken.zero_byte(tmp_path / "x.npz"), "written over")):
        with pytest.raises(DataError, match=message):
            prepare_arrays(data, path)
    assert prepare_arrays(data, tmp_path / "new/digits.npz").counts["test"] == dict.fromkeys("0123456789", 25)
    digits, archive = (
        open_dataset(d) for d in (data, config.Data(source="npz", path=str(tmp_path / "new/digits.npz")))
    )
    np.testing.assert_array_equal(archive.train.inputs, digits.train.inputs)
    np.testing.assert_array_equal(archive.test.target, digits.test.target)
