"""What goes wrong with pictures, labels and files, each as a real file, met as a user meets it.

`fault` enters what happens into the table of faults.
"""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import broken_pictures as broken
import numpy as np
import pytest
from faults import fault
from pets_layout import EMPTY, write_pets
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from predicted_runs import finished_run

from jaxvision import config
from jaxvision.cli import main
from jaxvision.data import FilePart, open_dataset, open_feed
from jaxvision.data.check import check_data
from jaxvision.data.check_picture import check_picture
from jaxvision.data.picture import read_picture
from jaxvision.errors import DataError
from jaxvision.train.result import read_result

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.usefixtures("kept_programs")

TRAIN = """
train digits --data.source folder --data.image-size 12 12 --data.batch-size 4 --data.cache off --log.tensorboard False
--model.name dense-mnist --model.options.features 4 --phases.0.epochs 1 --checkpoint.monitor None
""".split()  # noqa: SIM905


def dataset(root, count=6, parts=("",)):
    """A folder of good pictures of cats and dogs, all different."""
    for seed, part in enumerate(parts):
        for number in range(count):
            name = ("cat", "dog")[number % 2]
            broken.good(root / part / name / f"{number}.jpg", seed=100 * seed + number)
    return root


def trained(root, tmp_path, *flags):
    """Exit code of a training, whose folder is tmp_path/run."""
    return main([*TRAIN, "--data.path", str(root), "--run-dir", str(tmp_path / "run"), *flags])


def opened(root, **settings):
    settings = {"source": "folder", "path": str(root), "image_size": (12, 12), "cache": "off"} | settings
    return open_dataset(config.Data(**settings))


def pixels(part):
    """All pictures as a streamed feed gives them."""
    batches = open_feed(part, batch_size=4, seed=None, residence="stream", resident_mb=1).batches(0)
    return np.concatenate([np.asarray(batch.inputs)[np.asarray(batch.valid)] for batch in batches])


def one_message(capsys, *parts):
    error = capsys.readouterr().err
    assert error.count("error: ") == 1, error
    assert "Traceback" not in error
    for part in parts:
        assert str(part) in error, error


def text_as_jpg(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("cat,1\n")
    return path


def pipe_as_jpg(path):
    os.mkfifo(path)
    return path


def link_to_nowhere(path):
    path.symlink_to(path.parent / "gone.jpg")
    return path


BAD = {
    "zero bytes": (broken.zero_byte, "bad.jpg", "zero bytes", "0 bytes"),
    "web page as .jpg": (broken.html_as_jpg, "bad.jpg", "an HTML page", "an HTML page"),
    "text as .jpg": (text_as_jpg, "bad.jpg", "text", "text"),
    "truncated JPEG": (broken.truncated_jpeg, "bad.jpg", "truncated", "truncated"),
    "corrupt PNG": (broken.corrupt_png, "bad.png", "damaged", "damaged"),
    "PNG bomb": (broken.png_bomb, "bad.png", "refused before decoding", "refused before decoding"),
    "wrong ending": (broken.png_as_jpg, "bad.jpg", "holds a PNG picture", "a PNG picture"),
    "pipe as .jpg": (pipe_as_jpg, "bad.jpg", "a pipe or a device", "a pipe or a device"),
    "link to nowhere": (link_to_nowhere, "bad.jpg", "there is no such file", "a link to nowhere"),
}


@fault(
    *(BAD.keys() - {"wrong ending"}),
    happens="refused: `train`, `check` and `predict` name the file and why; left out with data.bad_pictures=skip",
)
@fault(
    "wrong ending",
    happens="refused: `train` and `check` name what it holds; left out with data.bad_pictures=skip; `predict` reads it",
)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_file_is_named_and_nothing_is_left(kind, tmp_path, capsys):
    make, name, said_by_check, said_by_train = BAD[kind]
    root = dataset(tmp_path / "data")
    bad = make(root / "dog" / name)
    assert trained(root, tmp_path) == 2
    one_message(capsys, bad, said_by_train)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data"]
    assert main(["check", str(root), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert [file for file, _ in report["bad"]] == [str(bad)]
    assert said_by_check in report["bad"][0][1]
    assert report["kinds"] == {report["bad"][0][1].split(":")[0]: 1}
    run = finished_run(tmp_path / "model", "classification")
    read = kind == "wrong ending"  # predictions go by what a file holds
    assert main(["predict", str(run), str(root / "cat" / "0.jpg"), str(bad)]) == (0 if read else 2)
    if not read:
        one_message(capsys, bad)
    with pytest.warns(UserWarning, match=f"1 pictures are left out:\n  {bad}: .*{said_by_check}"):
        skipped = opened(root, bad_pictures="skip", max_bad=0.2)
    assert [(one.part, one.file) for one in skipped.left_out] == [("train", str(bad))]
    assert str(bad) not in skipped.train.paths
    assert len(skipped.train.paths) == 6


@fault(
    "PNG bomb that decodes",
    happens="refused before it is decoded: memory stays where it was (the file of 50 KB holds 1.2 GB)",
)
def test_a_real_bomb_takes_no_memory(tmp_path):
    """20000 x 20000 pixels that TensorFlow would decode without complaint."""
    root = dataset(tmp_path / "data")
    bomb = broken.whole_png_bomb(root / "cat" / "bomb.png")
    assert bomb.stat().st_size < 100_000
    code = """if True:
        import resource, sys, time
        import numpy as np
        from jaxvision import config
        from jaxvision.data import open_dataset, take
        from jaxvision.data.pipeline import decode
        part = open_dataset(config.Data("folder", sys.argv[1], image_size=(12, 12), cache="off")).train
        bomb = next(number for number, path in enumerate(part.paths) if path.endswith(".png"))
        decode(take(part, np.delete(np.arange(len(part.paths)), bomb)))
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
        try:
            decode(part)
        except ValueError as error:
            print(error)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(grown // 1024, round(time.monotonic() - began))
    """
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    message, numbers = done.stdout.splitlines()
    assert message.startswith(f"{bomb}: too large: 20000 x 20000 ")
    megabytes, seconds = map(int, numbers.split())
    assert megabytes < 100
    assert seconds < 10


@fault("JPEG with flipped bits", happens="decodes without complaint; `check --against HASHES` names it")
@fault("file missing, or new, since all were hashed", happens="`check --against HASHES` names it")
def test_hashes_show_what_decoding_does_not(tmp_path, capsys):
    root, hashes = dataset(tmp_path / "my data"), tmp_path / "hashes.txt"
    odd = broken.good(root / "cat" / "a\\b\n c.jpg", seed=70)
    assert main(["check", str(root), "--hashes", str(hashes)]) == 0
    assert len(hashes.read_text().splitlines()) == 7
    assert main(["check", str(root), "--against", str(hashes)]) == 0
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", str(hashes)], cwd=root, check=True)
    (root / "labels.txt").write_text("cat dog\n")
    foreign = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(root)}\n"
        for path in root.rglob("*.*")
        if path != odd
    )
    (tmp_path / "foreign.txt").write_text(foreign)  # of all files, as `find . | xargs sha256sum` names them
    capsys.readouterr()
    assert main(["check", str(root), "--against", str(tmp_path / "foreign.txt"), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["changes"] == {"changed": [], "missing": [], "new": ["cat/a\\b\n c.jpg"]}
    (root / "labels.txt").unlink()
    flipped = broken.flipped_bits(root / "dog" / "1.jpg")
    assert check_picture(flipped).fault is None
    (root / "cat" / "0.jpg").unlink()
    broken.good(root / "cat" / "new.jpg", seed=71)
    odd.write_bytes(b"")
    capsys.readouterr()
    assert main(["check", str(root), "--against", str(hashes), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["changes"] == {
        "changed": ["cat/a\\b\n c.jpg", "dog/1.jpg"],
        "missing": ["cat/0.jpg"],
        "new": ["cat/new.jpg"],
    }
    assert report["kinds"] == {"empty": 1, "changed": 2, "missing": 1, "new": 1}
    assert main(["check", str(root), "--hashes", str(hashes)]) == 2  # nothing is written over
    one_message(capsys, hashes)
    hashes.write_text("cat/0.jpg\n")
    assert main(["check", str(root), "--against", str(hashes)]) == 2
    one_message(capsys, f"{hashes}, line 1: not a sha256")


def _save(image, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@fault(
    "CMYK, gray, 16-bit PNG",
    "palette (PNG, GIF, BMP)",
    happens="survived: converted, the same in training and `predict`",
)
@fault("RGBA", happens="survived: the colours are kept, the transparency is dropped; `check` says so")
@fault("animated GIF", happens="survived: the first picture is read; `check` says so")
@pytest.mark.parametrize("channels", [1, 3])
def test_unusual_pictures_are_read_alike_everywhere(channels, tmp_path):
    root, shown = tmp_path / "data", broken.picture(3)
    clear = shown.convert("RGBA")
    clear.putalpha(Image.fromarray(np.full((40, 60), 100, np.uint8)))
    deep = Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27)
    _save(shown.convert("L"), root / "a" / "gray.jpg")
    _save(deep, root / "a" / "16.png")
    _save(clear, root / "a" / "clear.png")
    _save(clear, root / "a" / "clear.bmp")
    for ending in ("png", "gif", "bmp"):
        _save(shown.convert("P"), root / "b" / f"palette.{ending}")
    frames = [broken.picture(seed).convert("P") for seed in (4, 5)]
    _save(shown.convert("P"), root / "b" / "moving.gif", save_all=True, append_images=frames)
    if channels == 3:
        _save(shown.convert("CMYK"), root / "b" / "cmyk.jpg")
    part = opened(root, channels=channels, image_size=(40, 60)).train
    for path, ours in zip(part.paths, pixels(part), strict=True):
        expected = read_picture(path, channels=channels)
        # JPEGs are decoded by other arithmetic; of coloured PNGs TensorFlow makes a gray that is cut off, not rounded.
        assert np.abs(ours.astype(int) - expected).max() <= (2 if path.endswith(("jpg", "png")) else 0), path
        assert ours.std() > 10
    notes = check_data(root).notes
    assert notes["transparent: the transparency is dropped"] == 1  # Pillow takes a BMP's fourth byte for filling
    assert notes["animated: only the first picture is read"] == 1
    assert notes["16 bits a channel: read as 8"] == 1
    assert notes.get("CMYK colours: converted to RGB", 0) == (channels == 3)


@fault(
    "EXIF-rotated",
    happens="survived: turned as the mark says (8 ways), a mask of the stored size with it; `check` notes it",
)
@pytest.mark.parametrize("resize", ["stretch", "crop"])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_pictures_and_their_masks_are_turned_as_their_mark_says(ending, resize, tmp_path):
    """Half of the masks are stored as their pictures are, half as those are meant to be seen."""
    upright = np.arange(12 * 18, dtype=np.uint8).reshape(12, 18)
    expected = {}
    for number, mark in enumerate([*range(1, 9), 5, 6, 7, 8]):
        image, mask, exif = broken.turned_back(upright, mark)
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        text = PngInfo()
        text.add_text("Comment", "x" * 8000 * (number % 2))  # comes before the mark
        settings = {"quality": 100, "subsampling": 0} if ending == "jpg" else {"pnginfo": text}
        image.save(tmp_path / "images" / f"{number}.{ending}", exif=exif, **settings)
        Image.fromarray(upright if number >= 8 else mask).save(tmp_path / "masks" / f"{number}.png")
        expected[f"{number}.{ending}"] = upright
    size = (12, 18) if resize == "stretch" else (6, 12)
    settings = {"source": "masks", "class_names": tuple(map(str, range(216))), "resize": resize, "image_size": size}
    part = opened(tmp_path, **settings).train
    assert len(part.paths) == 12
    masks, read = np.asarray(part.target), pixels(part)
    about = 0 if ending == "png" else 10  # a JPEG's blocks lie elsewhere in a turned picture; TensorFlow's are coarser
    assert np.abs(read.astype(int) - read[0]).max() <= about  # whatever the mark, however little the crop decodes
    assert (masks == masks[:1]).all()
    if resize == "stretch":
        np.testing.assert_array_equal(masks[0], upright)
        assert np.abs(read[0, ..., 0].astype(int) - upright).max() <= about
    for path in part.paths:
        ours = read_picture(path, image_size=size, channels=3, resize=resize)
        assert np.abs(ours.astype(int) - read[0]).max() <= max(about, resize == "crop")  # rounding
    assert opened(tmp_path, **settings | {"image_size": None}).image_shape == (12, 18, 3)
    report = check_data(tmp_path, class_names=settings["class_names"])
    assert not report.bad
    assert report.notes["EXIF orientation: turned as it says"] == 11
    assert sum(count for note, count in report.notes.items() if "either" not in note and "turned or not" in note) == 3


@fault(
    "WebP",
    "unsupported ending",
    happens="survived: counted by ending, in a warning and by `check`; `predict` reads WebP",
)
def test_other_endings_are_counted(tmp_path, capsys):
    root = dataset(tmp_path / "data")
    broken.picture().save(root / "cat" / "a.webp")
    broken.picture().save(root / "dog" / "b.tif")
    with pytest.warns(UserWarning, match=r"2 files are not read \(.webp: 1, .tif: 1\)"):
        assert len(opened(root).train.paths) == 6
    assert main(["check", str(root), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["unread"] == {".webp": 1, ".tif": 1}
    assert report["kinds"] == {"not read": 2}
    run = finished_run(tmp_path / "model", "classification")
    assert main(["predict", str(run), str(root / "cat" / "a.webp")]) == 0


@fault("empty class", "class only in validation", happens="refused: `train` and `check` name the class and the part")
def test_classes_without_pictures_are_named(tmp_path, capsys):
    root = dataset(tmp_path / "data", parts=("train", "validation"))
    broken.good(root / "validation" / "bird" / "a.jpg", seed=9)
    assert trained(root, tmp_path) == 2
    one_message(capsys, root / "validation", "bird")
    assert main(["check", str(root)]) == 2
    assert "PROBLEM: class 'bird' is missing in train" in capsys.readouterr().out
    (root / "train" / "bird").mkdir()
    assert trained(root, tmp_path) == 2
    one_message(capsys, root / "train" / "bird", "no pictures of class 'bird'")
    assert main(["check", str(root)]) == 2
    assert "PROBLEM: train: class 'bird' has no pictures" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@fault("label too large", "label negative", happens="refused: names part, example and number")
@pytest.mark.parametrize("label", [7, -1])
def test_labels_out_of_range_are_refused(label, tmp_path, capsys):
    inputs = np.random.default_rng(0).integers(0, 256, (12, 9, 9, 3), dtype=np.uint8)
    target = np.arange(12) % 2
    target[5] = label
    path = tmp_path / "a.npz"
    np.savez(path, train_inputs=inputs, train_target=target, class_names=np.array(["cat", "dog"]))
    flags = ["--data.source", "npz", "--data.image-size", "None"]
    for argv in ([*TRAIN, *flags, "--data.path", str(path), "--run-dir", str(tmp_path / "run")], ["check", str(path)]):
        assert main(argv) == 2
        told = "".join(capsys.readouterr())
        assert "train part, example 5: labels must be 0 to 1" in told
        assert f"Received: {label} (1 such labels)" in told
    assert not (tmp_path / "run").exists()


AS_OWNER_ALONE = """
import ctypes, sys
from jaxvision.cli import main

# Root may read everything by two capabilities (CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH): without them it is as others.
libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc.capget(header, sets)
sets[0] &= ~6
sets[1] &= ~6
libc.capset(header, sets)
try:
    open(sys.argv[1]).close()
    print("may read it all the same")
except PermissionError:
    sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux'")
@fault("unreadable file", "unreadable folder", happens="refused: names it")
@pytest.mark.parametrize("command", ["train", "check"])
def test_what_may_not_be_read_is_named(command, tmp_path):
    root = dataset(tmp_path / "data")
    inner = root / "dog" / "locked"
    broken.good(inner / "x.jpg", seed=44)
    run = [*TRAIN, "--data.path", str(root), "--run-dir", str(tmp_path / "run")]
    for locked in (root / "cat" / "0.jpg", inner):
        before = locked.stat().st_mode
        locked.chmod(0)
        argv = [str(locked), *({"train": run, "check": ["check", str(root)]}[command])]
        done = subprocess.run([sys.executable, "-c", AS_OWNER_ALONE, *argv], capture_output=True, text=True)
        locked.chmod(before)
        if "may read it" in done.stdout:
            pytest.skip("this user's rights cannot be given up")
        told = done.stdout + done.stderr
        assert done.returncode == 2, told
        assert str(locked) in told
        assert "Permission denied" in told
        assert "Traceback" not in told
        assert not (tmp_path / "run").exists()


@fault("symlink loop", happens="survived: links to folders are not followed, but counted")
def test_links_that_lead_in_a_circle_end(tmp_path):
    root = dataset(tmp_path)
    (root / "cat" / "again").symlink_to(root, target_is_directory=True)
    (root / "dog" / "self.jpg").symlink_to(root / "dog" / "self.jpg")
    report = check_data(root)
    assert report.counts == {"train": {"cat": 3, "dog": 3}}
    assert report.unread == {"a link to a folder": 1}
    assert report.bad == ((str(root / "dog" / "self.jpg"), "unreadable: Too many levels of symbolic links"),)
    with (
        pytest.warns(UserWarning, match="1 files are not read .*again"),
        pytest.raises(DataError, match=r"self.jpg: cannot be opened. Received: Too many levels"),
    ):
        opened(root)
    (root / "dog" / "self.jpg").unlink()
    with pytest.warns(UserWarning, match="1 files are not read"):
        assert len(opened(root).train.paths) == 6


VANISHING = """
import os
from jaxvision.data.folder import folder

def source(data):
    dataset = folder(data)
    os.unlink(dataset.train.paths[4])
    return dataset
"""


@fault("file vanishing during training", happens="refused: names the file; a run without a checkpoint leaves no folder")
@pytest.mark.parametrize("residence", ["device", "stream"])
def test_a_file_that_vanishes_is_named(residence, tmp_path, monkeypatch, capsys):
    root = dataset(tmp_path / "data")
    (tmp_path / "vanishing.py").write_text(VANISHING)
    monkeypatch.syspath_prepend(str(tmp_path))
    flags = ["--data.source", "vanishing:source", "--data.residence", residence]
    assert trained(root, tmp_path, *flags) == 2
    one_message(capsys, root / "dog" / "3.jpg", "missing: there is no such file")
    assert not (tmp_path / "run").exists()


@fault("Unicode, spaces, line breaks and bytes that are no text in names", happens="survived")
def test_names_of_every_kind(tmp_path, capsys):
    root = tmp_path / "données d'été"
    names = ["ein Bild.jpg", "图像.jpg", "a\nb.jpg", "\N{GRINNING FACE}%20.jpg", os.fsdecode(b"\xff\xfe.jpg"), "-x.jpg"]
    for number, name in enumerate(names):
        broken.good(root / ("Hündin", "猫 1")[number % 2] / name, seed=number)
    assert trained(root, tmp_path) == 0
    assert read_result(tmp_path / "run").class_names == ("Hündin", "猫 1")
    part = opened(root).train
    assert {Path(path).name for path in part.paths} == set(names)
    run = finished_run(tmp_path / "model", "classification")
    assert main(["predict", str(run), *part.paths]) == 0
    assert main(["check", str(root), "--hashes", str(tmp_path / "hashes")]) == 0
    assert main(["check", str(root), "--against", str(tmp_path / "hashes"), "--json"]) == 0
    capsys.readouterr()
    broken.zero_byte(root / "Hündin" / os.fsdecode(b"\xff\xfe.jpg"))
    assert main(["check", str(root)]) == 2
    assert trained(root, tmp_path / "again") == 2
    one_message(capsys, "0 bytes")


@pytest.mark.slow
@fault("100,000 files in a folder", happens="survived")
def test_a_hundred_thousand_files(tmp_path):
    folders = [tmp_path / name for name in ("cat", "dog")]
    for seed, folder in enumerate(folders):
        first = broken.good(folder / "0.png", seed, (8, 8))
        for number in range(1, 50_000):
            (folder / f"{number}.png").hardlink_to(first)
    part = opened(tmp_path).train
    assert isinstance(part, FilePart)
    assert len(part.paths) == 100_000
    assert pixels(part).shape == (100_000, 12, 12, 3)
    report = check_data(tmp_path)
    assert report.ok
    assert report.counts == {"train": {"cat": 50_000, "dog": 50_000}}
    assert report.kinds == {"twice in a part": 99_998}


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@fault("pickle in an array file, or as weights", happens="refused: never unpickled")
def test_a_pickle_is_never_opened(tmp_path, capsys):
    sign, arrays, weights = (tmp_path / name for name in ("sign", "a.npz", "model.safetensors"))
    pickled = np.array([Payload(sign)] * 4, object)
    np.savez(arrays, train_inputs=pickled, train_target=np.arange(4) % 2)
    weights.write_bytes(pickle.dumps(Payload(sign)))
    flags = ["--data.source", "npz", "--data.path", str(arrays), "--run-dir", str(tmp_path / "run")]
    weighty = ["--data.source", "digits", "--data.image-size", "None", "--run-dir", str(tmp_path / "run")]
    for argv in (
        [*TRAIN, *flags],
        ["check", str(arrays)],
        [*TRAIN, *weighty, "--model.weights", str(weights)],
        ["weights", "verify", str(weights)],
    ):
        assert main(argv) == 2
        told = "".join(capsys.readouterr())
        assert str(weights if str(weights) in argv else arrays) in told
        assert "Traceback" not in told
    assert not sign.exists()
    assert not (tmp_path / "run").exists()
    np.load(arrays, allow_pickle=True)["train_inputs"]
    assert sign.exists()  # it would have


def test_what_is_left_out_takes_no_part_and_is_counted(tmp_path, capsys):
    """The run is the one over the good pictures alone, to the bit; too many bad ones are refused."""
    root = dataset(tmp_path / "data", count=20)
    assert trained(root, tmp_path / "clean") == 0
    bad = [broken.truncated_jpeg(root / "cat" / "00.jpg"), broken.zero_byte(root / "dog" / "7x.jpg")]
    skip = ["--data.bad-pictures", "skip", "--data.max-bad"]
    assert trained(root, tmp_path, *skip, "0.05") == 2
    one_message(capsys, *bad, "2 of 22 pictures cannot be used, more than data.max_bad=0.05")
    assert not (tmp_path / "run").exists()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert trained(root, tmp_path, *skip, "0.1") == 0
    assert any(all(str(path) in str(warning.message) for path in bad) for warning in caught)
    assert "pictures left out, as they cannot be used: 2 of train" in capsys.readouterr().out
    run, clean = tmp_path / "run", tmp_path / "clean" / "run"
    result = read_result(run)
    assert result.left_out == {"train": 2}
    assert result.fingerprint == read_result(clean).fingerprint
    assert (run / "metrics.jsonl").read_bytes() == (clean / "metrics.jsonl").read_bytes()
    assert [one["file"] for one in json.loads((run / "left_out.json").read_text())] == [str(path) for path in bad]
    assert not (clean / "left_out.json").exists()
    flags = ["--data.source", "digits", "--data.path", "None", "--data.image-size", "None"]
    assert trained(root, tmp_path / "c", *skip, "0.1", *flags) == 2
    one_message(capsys, "data.bad_pictures: only sources of picture files")


def _masks(root):
    for number in range(20):
        broken.good(root / "images" / f"{number}.jpg", number)
        _save(Image.fromarray(np.full((40, 60), number % 3, np.uint8)), root / "masks" / f"{number}.png")
    broken.truncated_jpeg(root / "images" / "3.jpg")
    broken.corrupt_png(root / "masks" / "5.png")
    _save(Image.fromarray(np.zeros((60, 40), np.uint8)), root / "masks" / "7.png")
    return {"source": "masks", "path": str(root)}, ["3.jpg", "5.jpg", "7.jpg"]


def _pets(root):
    names = write_pets(root, 21)
    whole = root / "images" / f"{names[0]}.jpg"
    whole.write_bytes(whole.read_bytes()[:-300])  # its header is good
    return {"source": "pets", "path": str(root)}, [whole.name, f"{EMPTY}.jpg"]


def _table(root):
    for number in range(20):
        broken.good(root / f"{number}.jpg", number)
    broken.html_as_jpg(root / "3.jpg")
    (root / "5.jpg").unlink()
    rows = [f"{number}.jpg,{'ab'[number % 2]},{'validation' if number > 15 else 'train'}" for number in range(20)]
    (root / "a.csv").write_text("\n".join(["file,labels,part", *rows]))
    return {"source": "csv", "path": str(root / "a.csv")}, ["3.jpg", "5.jpg"]


@pytest.mark.parametrize("make", [_masks, _pets, _table])
def test_every_source_of_files_can_leave_bad_ones_out(make, tmp_path):
    data, expected = make(tmp_path)
    data = config.Data(**data, image_size=(12, 12), cache="off", bad_pictures="skip", max_bad=0.15)
    with pytest.warns(UserWarning, match=f"{len(expected)} pictures are left out"):
        dataset = open_dataset(data)
    assert sorted(Path(one.file).name for one in dataset.left_out) == sorted(expected)
    parts = [part for part in (dataset.train, dataset.validation) if part is not None]
    used = {path for part in parts for path in part.paths}
    assert not used & {one.file for one in dataset.left_out}
    assert len(used) + len(expected) == (21 if make is _pets else 20)
    for part in parts:
        pixels(part)
        np.asarray(part.target)
    with pytest.raises(DataError, match=r"more than data\.max_bad=0\.01"):
        open_dataset(replace(data, max_bad=0.01))
