"""`check` finds every bad file and every fault of the whole, and calls a good dataset good."""

import itertools
import json
import re
from pathlib import Path

import broken_pictures as broken
import numpy as np
import pytest
from pets_layout import EMPTY, write_pets
from PIL import Image

from jaxvision.cli.prepare import check_command
from jaxvision.data.check import check_data, check_folder, format_report
from jaxvision.errors import DataError

BAD = {
    "zero_byte": "zero bytes",
    "truncated_jpeg": "truncated",
    "html_as_jpg": "HTML page",
    "png_as_jpg": "holds a PNG picture",
    "gif_as_jpg": "holds a GIF picture",
    "png_bomb": "refused before decoding",
}


def filled(root, parts=("train", "validation"), classes=("cat", "dog"), count=3):
    for seed, (part, name) in enumerate(itertools.product(parts, classes)):
        for number in range(count):
            path = root / part / name / f"{number}.jpg"
            broken.good(path, seed=100 * seed + number, size=(40 + number, 60 - number))
    return root


@pytest.mark.parametrize("layout", ["parts", "classes", "flat"])
def test_a_good_dataset_is_called_good(layout, tmp_path):
    root = filled(tmp_path)
    if layout == "classes":
        root = tmp_path / "train"
    elif layout == "flat":
        root = tmp_path / "flat"
        for seed, path in enumerate(tmp_path.glob("train/*/*.jpg")):
            broken.good(root / f"{path.parent.name}.{path.name}", seed, size=(42, 58))
    report = check_data(root)
    assert report.ok
    assert report.layout == layout
    assert not report.notes
    assert not report.unread
    assert report.counts["train"] == {"cat": 3, "dog": 3}
    assert ("validation" in report.counts) == (layout == "parts")
    assert report.sizes == (((42, 42), (58, 58)) if layout == "flat" else ((40, 42), (58, 60)))
    assert "nothing wrong" in format_report(report)


def test_every_bad_file_is_listed_with_its_reason(tmp_path):
    filled(tmp_path, count=20)
    paths = [getattr(broken, kind)(tmp_path / "train/dog" / f"{kind}.jpg") for kind in BAD]
    paths.append(tmp_path / "validation/cat/link.jpg")
    paths[-1].symlink_to(tmp_path / "nowhere.jpg")
    paths.append(broken.corrupt_png(tmp_path / "train/cat/nested/deep/corrupt.PNG"))
    report = check_data(tmp_path)
    reasons = {path: reason for path, reason in report.bad}
    assert set(reasons) == {str(path) for path in paths}
    assert not report.ok
    for (kind, expected), path in zip(BAD.items(), paths, strict=False):
        assert expected in reasons[str(path)], kind
    assert reasons[str(paths[-2])] == "missing: there is no such file"
    assert "damaged" in reasons[str(paths[-1])]
    assert report.counts["train"] == {"cat": 20, "dog": 20}
    text = format_report(report)
    assert all(f"BAD: {path}: {reason}" in text for path, reason in reasons.items())
    told = json.loads(report.to_json())
    assert told["ok"] is False
    assert len(told["bad"]) == 8
    assert told["counts"] == report.counts


def test_faults_of_the_whole_are_problems(tmp_path):
    filled(tmp_path)
    (tmp_path / "train/bird").mkdir()
    broken.good(tmp_path / "validation/fish/a.jpg")
    broken.good(tmp_path / "val/cat/a.jpg")
    problems = "\n".join(check_data(tmp_path).problems)
    for expected in (
        "train: class 'bird' has no pictures",
        "class 'bird' is missing in validation",
        "class 'fish' is missing in train",
        "Rename them: val or validation -> validation",
    ):
        assert expected in problems
    assert "no part 'train'" in check_data(filled(tmp_path / "other", parts=("test",))).problems[0]
    (tmp_path / "empty").mkdir()
    assert "no pictures" in check_data(tmp_path / "empty").problems[0]


def test_files_that_are_not_read_are_counted_by_ending(tmp_path):
    filled(tmp_path)
    for name in ("train/cat/a.webp", "train/dog/b.webp", "train/cat/.DS_Store", "train/stray.txt", "readme.md"):
        broken.zero_byte(tmp_path / name)
    broken.good(tmp_path / "train/outside.jpg")
    report = check_data(tmp_path)
    assert report.unread == {".webp": 2, ".DS_Store": 1, ".txt": 1, ".md": 1, ".jpg": 1}
    assert report.ok
    assert "2 x .webp" in format_report(report)


def test_oddities_are_notes_and_progress_is_told(tmp_path):
    filled(tmp_path, parts=("train",))
    for number in range(2):
        broken.picture(500 + number).convert("CMYK").save(tmp_path / f"train/cat/cmyk{number}.jpg")
    seen = []
    report = check_folder(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert report.ok
    assert report.notes == {"CMYK colours: converted to RGB": 2}
    assert seen == [(done, 8) for done in range(1, 9)]


def test_archives(tmp_path):
    inputs = np.random.default_rng(0).integers(0, 9, (10, 8, 9, 3)).astype(np.uint8)
    target = np.arange(10) % 2
    good, bad, short, scaled = (tmp_path / f"{name}.npz" for name in ("good", "bad", "short", "scaled"))
    np.savez(good, train_inputs=inputs, train_target=target, class_names=np.array(["cat", "dog"]))
    report = check_data(good)
    assert report.ok
    assert report.counts == {"train": {"cat": 5, "dog": 5}}
    assert report.sizes == ((8, 8), (9, 9))
    np.savez(bad, train_inputs=inputs, train_target=target, test_inputs=inputs[:1], test_target=target[1:2])
    assert check_data(bad).problems == (
        "class '0' is missing in test",
        "a picture of train and test is the same (same pixels): train example 0, test example 0",
        "a picture has different classes (same pixels): train example 0, test example 0",
    )
    short.write_bytes(good.read_bytes()[:-50])
    assert "cannot be read" in check_data(short).problems[0]
    np.savez(scaled, train_inputs=inputs / np.float32(255), train_target=target)
    assert any("255" in note for note in check_data(scaled).notes)


def test_what_is_no_dataset_is_refused(tmp_path):
    for path in (tmp_path / "gone", broken.good(tmp_path / "one.jpg")):
        with pytest.raises(DataError, match=f"{path.name}.*Received: "):
            check_data(path)


def test_the_real_pictures_are_read_whole(shared_data):
    report = check_data(shared_data / "camvid" / "images")
    assert report.ok
    assert report.layout == "unsorted"
    assert report.counts == {"train": {"(no class)": 367}}
    assert report.sizes == ((180, 180), (240, 240))


def test_masks_are_read_to_the_last_number(tmp_path):
    for number in range(4):
        broken.good(tmp_path / f"images/{number}.jpg", number, (10, 20))
    (tmp_path / "masks").mkdir()
    mask = np.full((10, 20), 1, np.uint8)
    mask[0] = 3
    Image.fromarray(mask).save(tmp_path / "masks/0.png")
    mask[1] = 2
    Image.fromarray(mask).save(tmp_path / "masks/1.png")
    settings = {"label_offset": 1, "ignore_label": 3, "class_names": ("road", "sky", "tree")}
    broken.corrupt_png(tmp_path / "masks/2.png")
    Image.fromarray(mask.T).save(tmp_path / "masks/3.png")
    report = check_data(tmp_path, **settings)
    assert report.layout == "masks"
    assert report.pictures == {"train": 2}
    assert report.counts == {"train": {"road": 2, "sky": 1, "tree": 0}}
    assert report.pixels["train"] == {"road": 340 / 360, "sky": 20 / 360, "tree": 0.0, "(ignored)": 40 / 400}
    assert report.problems == ("train: no mask shows class 'tree'",)
    faults = dict(report.bad)
    assert set(faults) == {str(tmp_path / f"masks/{number}.png") for number in (2, 3)}
    assert f"mask of {tmp_path}/images/3.jpg: 20 x 10 " in faults[str(tmp_path / "masks/3.png")]
    assert "94.44%" in format_report(report)
    (tmp_path / "images/3.jpg").unlink()
    faults = dict(check_data(tmp_path, label_offset=2).bad)
    assert "must hold 2 to 256. Received: 1 (180 pixels)" in faults[str(tmp_path / "masks/0.png")]
    assert faults[str(tmp_path / "masks/3.png")] == f"no picture {tmp_path}/images/3.jpg"
    (tmp_path / "masks/3.png").rename(tmp_path / "masks/3.jpg")
    assert "a JPEG cannot be a mask" in check_data(tmp_path).problems[0]


def test_masks_of_an_archive(tmp_path):
    masks = np.tile(np.array([[1, 2], [2, 9]], np.uint8), (3, 1, 1))
    np.savez(tmp_path / "a.npz", x_train=masks * 20, y_train=masks)
    report = check_data(tmp_path / "a.npz", label_offset=1, ignore_label=9)
    assert report.ok
    assert report.pixels == {"train": {"0": 1 / 3, "1": 2 / 3, "(ignored)": 0.25}}
    assert report.counts == {"train": {"0": 3, "1": 3}}
    assert format_report(report).startswith(f"{tmp_path / 'a.npz'}: 3 good pictures")


def test_pets_are_known_by_their_layout(tmp_path):
    write_pets(tmp_path, 21)
    report = check_data(tmp_path)
    assert report.layout == "pets"
    assert report.pictures == {"train": 17, "validation": 3} or report.pictures == {"train": 18, "validation": 2}
    assert [Path(file).name for file, _ in report.bad] == [f"{EMPTY}.jpg"]
    assert report.notes["mislabelled: named .jpg but holds a GIF picture; it is read as that"] == 1
    assert list(report.pixels["train"]) == ["animal", "background", "contour", "(ignored)"]
    assert 0.5 < report.pixels["train"]["background"] < 0.95


def test_tables_are_checked_with_their_pictures(tmp_path, capsys):
    broken.good(tmp_path / "0.jpg")
    broken.good(tmp_path / "1.jpg", 1)
    broken.truncated_jpeg(tmp_path / "2.jpg")
    (tmp_path / "a.csv").write_text("file,labels\n0.jpg,cat dog\n1.jpg,\n2.jpg,bird\n3.jpg,cat\n1.jpg,dog\n")
    with pytest.raises(SystemExit):
        check_command([str(tmp_path / "a.csv")])
    text = capsys.readouterr().out
    assert "3 good pictures" in text
    for expected in (
        "line 5: .*3.jpg",
        "line 6: .*1.jpg is in line 3 too",
        "2.jpg: truncated",
        "no picture of class 'bird'",
    ):
        assert re.search(expected, text)
    (tmp_path / "a.csv").write_text("file,labels\n0.jpg\n")
    assert "line 2: the header has 2 columns" in check_data(tmp_path / "a.csv").problems[0]


def test_the_same_picture_in_two_parts_or_classes_is_a_problem(tmp_path):
    filled(tmp_path)
    first = tmp_path / "train/cat/0.jpg"
    (tmp_path / "validation/cat/copy.jpg").write_bytes(first.read_bytes())
    (tmp_path / "train/cat/again.jpg").write_bytes(first.read_bytes())
    drawn = tmp_path / "train/dog/drawn.png"
    broken.good(drawn, 900)
    Image.open(drawn).save(tmp_path / "train/cat/drawn.bmp")  # other bytes, the same pixels
    report = check_data(tmp_path)
    assert not report.ok
    leak, mixed = sorted(report.problems, reverse=True)
    assert leak == (
        "a picture of train and validation is the same (same bytes): "
        f"{first}, {tmp_path}/validation/cat/copy.jpg, {tmp_path}/train/cat/again.jpg"
    )
    assert mixed == f"a picture has different classes (same pixels): {tmp_path}/train/cat/drawn.bmp, {drawn}"
    assert report.notes == {
        "the same bytes as another picture of the part": 1,
        "the same pixels as another picture of the part": 1,
    }
    assert report.kinds == {"in several parts": 1, "of several classes": 1, "twice in a part": 2}
    told = json.loads(report.to_json())
    assert told["kinds"] == report.kinds
    assert ["validation", f"{tmp_path}/validation/cat/copy.jpg"] in told["duplicates"][0]["files"]
    text = format_report(report)
    assert f"PROBLEM: {leak}" in text
    assert "nothing wrong" not in text


def test_uneven_classes_are_remarked(tmp_path):
    filled(tmp_path, parts=("train",), count=3)
    for number in range(8):
        broken.good(tmp_path / f"train/dog/more{number}.jpg", 800 + number)
    report = check_data(tmp_path)
    assert report.ok
    assert report.imbalance == {"train": 11 / 3}
    assert not report.remarks
    broken.good(tmp_path / "train/dog/last.jpg", 850)
    report = check_data(tmp_path)
    assert report.ok
    assert report.imbalance == {"train": 4.0}
    assert "note: train: uneven classes, 4 times as many pictures of 'dog' as of 'cat'" in format_report(report)
