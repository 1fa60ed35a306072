"""Masks of pictures by finished segmentation runs: at the picture's own size, by tiles, and as files."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from predicted_runs import IMAGE_SIZE, NAMES, finished_run

import jaxvision as jv
from jaxvision.cli import main
from jaxvision.data.mask import read_mask
from jaxvision.data.picture import read_picture, resize_bilinear
from jaxvision.errors import DataError
from jaxvision.train.tiles import tile_starts


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders: `point` classifies each pixel by itself, `wide` by 3x3 pixels, `crop` was given cropped pictures."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "point": finished_run(folder / "point", "segmentation"),
        "wide": finished_run(folder / "wide", "segmentation", size=3),
        "crop": finished_run(folder / "crop", "segmentation", resize="crop"),
        "gray": finished_run(folder / "gray", "segmentation", channels=1, label_offset=1, ignore_label=9),
    }


def saved(path: Path, size: tuple[int, int], mode: str = "RGB", **options) -> Path:
    """A picture of blocks in three grays and noise, whose classes are 0, 1, 2 by the block."""
    rng = np.random.default_rng(sum(size))
    blocks = rng.choice([10, 130, 245], (-(-size[0] // 9), -(-size[1] // 7)))
    grays = np.kron(blocks, np.ones((9, 7), int))[: size[0], : size[1]] + rng.integers(-9, 10, size)
    image = Image.fromarray(grays.clip(0, 255).astype(np.uint8)).convert(mode)
    image.save(path, **options)
    return path


def classes(path: Path) -> np.ndarray:
    """What `Levels` says of each pixel of a gray picture."""
    return np.rint(read_picture(path, channels=1)[..., 0] / 127.5).astype(np.uint8)


def probabilities(pictures: np.ndarray) -> np.ndarray:
    """What `Levels` gives for pictures (..., H, W, C)."""
    odds = np.exp(-40 * (pictures.mean(axis=-1)[..., None] / 255 - np.linspace(0, 1, 3)) ** 2)
    return (odds / odds.sum(axis=-1, keepdims=True)).astype(np.float32)


def test_a_mask_has_the_size_of_its_picture_whatever_the_model_sees(runs, tmp_path):
    paths = [saved(tmp_path / "a.png", (37, 53)), saved(tmp_path / "b.png", (5, 7)), saved(tmp_path / "c.png", (1, 90))]
    predictions = jv.predict_masks(runs["point"], paths, probabilities=True)
    for path, prediction in zip(paths, predictions, strict=True):
        seen = read_picture(path, channels=3, image_size=IMAGE_SIZE)
        expected = resize_bilinear(probabilities(seen), read_picture(path).shape[:2])
        assert prediction.path == str(path)
        assert prediction.mask.dtype == np.uint8
        assert prediction.mask.shape == expected.shape[:2]
        np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-4)
        np.testing.assert_array_equal(prediction.mask, prediction.probabilities.argmax(-1))
        np.testing.assert_allclose(
            list(prediction.shares.values()), np.bincount(prediction.mask.flat, minlength=3) / expected[..., 0].size
        )
        assert tuple(prediction.shares) == NAMES
    assert predictions[0].mask.std() > 0.5


def test_many_classes_at_once_are_resized_in_pieces(runs, tmp_path, monkeypatch):
    path = saved(tmp_path / "a.png", (97, 53))
    (whole,) = jv.predict_masks(runs["point"], path, probabilities=True)
    monkeypatch.setattr("jaxvision.train.predict_masks.VALUES_AT_ONCE", 10 * 53 * 3)
    (pieces,) = jv.predict_masks(runs["point"], path, probabilities=True)
    np.testing.assert_allclose(pieces.probabilities, whole.probabilities, atol=1e-6)


@pytest.mark.parametrize("size", [(37, 53), (12, 18), (100, 29), (7, 40), (40, 7), (3, 2)])
def test_by_tiles_every_pixel_is_seen_as_it_is(runs, size, tmp_path):
    path = saved(tmp_path / "a.png", size)
    (prediction,) = jv.predict_masks(runs["point"], path, tile=True, probabilities=True)
    np.testing.assert_array_equal(prediction.mask, classes(path))
    np.testing.assert_allclose(prediction.probabilities, probabilities(read_picture(path, channels=3)), atol=1e-4)


def test_by_tiles_a_convolution_sees_what_it_sees_in_the_whole_picture(runs, tmp_path):
    path = saved(tmp_path / "a.png", (61, 75))
    (got,) = jv.predict_masks(runs["wide"], path, tile=True, overlap=0.4, probabilities=True)
    picture = np.pad(read_picture(path, channels=3).astype(np.float32), [(1, 1), (1, 1), (0, 0)])
    mean = sum(picture[i : i + 61, j : j + 75] for i in range(3) for j in range(3)) / 9
    inside = np.ones((61, 75), bool)
    for length, tile, borders in ((61, IMAGE_SIZE[0], inside), (75, IMAGE_SIZE[1], inside.T)):
        for start in tile_starts(length, tile, 0.4):
            borders[[start, start + tile - 1]] = False
    assert inside.mean() > 0.4
    np.testing.assert_allclose(got.probabilities[inside], probabilities(mean)[inside], atol=1e-4)


def test_a_scaled_picture_gives_a_mask_of_its_own_size(runs, tmp_path):
    path = saved(tmp_path / "a.png", (90, 71))
    (got,) = jv.predict_masks(runs["point"], path, tile=True, scale=0.5, probabilities=True)
    small = np.rint(resize_bilinear(read_picture(path, channels=3), (45, 36)))
    np.testing.assert_allclose(got.probabilities, resize_bilinear(probabilities(small), (90, 71)), atol=1e-4)
    with pytest.raises(DataError, match=r"a\.png: resized to 90000 x 71000"):
        jv.predict_masks(runs["point"], path, tile=True, scale=1000)


@pytest.mark.parametrize(("size", "seen"), [((24, 200), (12, 100)), ((90, 36), (45, 18)), ((24, 36), (12, 18))])
def test_nothing_is_cut_off_where_the_run_cropped_and_nothing_is_distorted(runs, size, seen, tmp_path):
    path = saved(tmp_path / "a.png", size)
    (got,) = jv.predict_masks(runs["crop"], path, probabilities=True)
    small = np.rint(resize_bilinear(read_picture(path, channels=3), seen))
    np.testing.assert_allclose(got.probabilities, resize_bilinear(probabilities(small), size), atol=1e-4)


def test_unusual_pictures_are_read_as_everywhere(runs, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(tmp_path / "turned.jpg", (40, 60), exif=exif, quality=95)
    assert jv.predict_masks(runs["point"], turned)[0].mask.shape == (60, 40)
    for mode, channels in (("L", "point"), ("RGBA", "point"), ("RGB", "gray"), ("LA", "gray")):
        path = saved(tmp_path / f"{mode}.png", (30, 40), mode)
        (got,) = jv.predict_masks(runs[channels], path, tile=True)
        np.testing.assert_array_equal(got.mask, classes(path))


def test_a_bad_file_is_named_before_anything_is_predicted_or_written(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "a.png", (20, 20))
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    assert main(["predict", str(runs["point"]), "a.png", "b.png"]) == 2
    assert "b.png: " in capsys.readouterr().err
    assert {file.name for file in tmp_path.iterdir()} == {"a.png", "b.png"}


def test_the_command_writes_masks_that_can_be_read_as_masks(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved(Path("a.png"), (37, 53))
    saved(Path("b.jpg"), (20, 31))
    command = ["predict", str(runs["point"]), "a.png", "b.jpg", "--tile"]
    assert main([*command, "--json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    expected = jv.predict_masks(runs["point"], ["a.png", "b.jpg"], tile=True)
    for document, prediction, name in zip(documents, expected, "ab", strict=True):
        assert document["path"] == prediction.path
        assert document["mask"] == f"predictions/masks/{name}.png"
        np.testing.assert_array_equal(read_mask(document["mask"]), prediction.mask)
        assert {entry["name"]: entry["share"] for entry in document["classes"]} == prediction.shares
    assert sorted(str(file) for file in Path("predictions").rglob("*.png")) == [
        "predictions/masks/a.png",
        "predictions/masks/b.png",
    ]
    # Once more: beside the first, and its shares as text.
    assert main([*command, "--overlay"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop() == "in predictions-2: masks, overlays"
    assert [line.split()[:2] for line in lines] == [
        ["a.png", "predictions-2/masks/a.png"],
        ["b.jpg", "predictions-2/masks/b.png"],
    ]
    name, share = max(expected[0].shares.items(), key=lambda item: item[1])
    assert lines[0].split()[2:4] == [name, f"{share:.1%}"]
    assert Image.open("predictions-2/overlays/a.png").size == (53, 37)


def test_the_command_writes_over_nothing_and_loses_nothing(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder, size in (("x", (20, 20)), ("y", (30, 30)), ("z", (40, 40))):
        Path(folder).mkdir()
        saved(Path(folder) / ("A.png" if folder == "z" else "a.png"), size)
    command = ["predict", str(runs["point"]), "x/a.png", "y/a.png", "z/A.png", "--out", "out"]
    assert main(command) == 0
    sizes = {file.name: Image.open(file).size for file in Path("out/masks").iterdir()}
    assert sizes == {"a.png": (20, 20), "a-2.png": (30, 30), "A-3.png": (40, 40)}
    Path("out/masks/a.png").write_text("mine")
    capsys.readouterr()
    assert main(command) == 2
    assert "out/masks/a.png: already there; nothing is written over" in capsys.readouterr().err
    assert Path("out/masks/a.png").read_text() == "mine"
    assert main([*command[:-1], "x/a.png/out"]) == 2
    assert "x/a.png/out" in capsys.readouterr().err


def test_side_by_side_shows_the_true_mask_where_there_is_one(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    saved(Path("a.png"), (40, 40))
    Path("true").mkdir()
    stored = classes(Path("a.png")) + 1
    stored[0] = 9  # ignored
    Image.fromarray(stored).save("true/a.png")
    command = ["predict", str(runs["gray"]), "a.png", "--side-by-side", "--json"]
    drawn = {}
    for name, flags in (("with", ["--masks", "true"]), ("without", [])):
        assert main([*command, "--out", name, *flags]) == 0
        (document,) = json.loads(capsys.readouterr().out)
        assert document["side_by_side"] == f"{name}/side-by-side/a.png"
        drawn[name] = np.asarray(Image.open(document["side_by_side"]).convert("RGB"))
    assert drawn["with"].shape[1] > 1.4 * drawn["without"].shape[1]
    # The grey of ignored pixels: a row of them, and not only here and there in letters.
    assert (drawn["with"] == 96).all(axis=-1).sum() > 1000 > 10 * (drawn["without"] == 96).all(axis=-1).sum()


def test_true_trimaps_of_pets_begin_with_one_as_they_do_in_training(tmp_path, monkeypatch):
    run = finished_run(tmp_path / "run", "segmentation", source="pets")
    monkeypatch.chdir(tmp_path)
    saved(Path("a.png"), (40, 40))
    Path("trimaps").mkdir()
    Image.fromarray(np.full((40, 40), 3, np.uint8)).save("trimaps/a.png")
    assert main(["predict", str(run), "a.png", "--side-by-side", "--masks", "trimaps"]) == 0


@pytest.mark.parametrize(
    ("masks", "said"),
    [
        ({}, "no mask for a.png: no a.png in true"),
        ({"a": np.ones((40, 41), np.uint8)}, "true/a.png: 40 x 41 (height x width), but its picture a.png has 40 x 40"),
        ({"a": np.zeros((40, 40), np.uint8)}, "true/a.png: a mask must hold 1 to 3 or 9 (ignored)"),
        (None, "there is no such folder"),
    ],
)
def test_true_masks_that_do_not_fit_are_named_before_anything_is_written(
    runs, masks, said, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    saved(Path("a.png"), (40, 40))
    if masks is not None:
        Path("true").mkdir()
        for name, mask in masks.items():
            Image.fromarray(mask).save(f"true/{name}.png")
    assert main(["predict", str(runs["gray"]), "a.png", "--side-by-side", "--masks", "true"]) == 2
    assert said in capsys.readouterr().err
    assert not Path("predictions").exists()
