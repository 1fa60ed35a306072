"""`jaxvision explain` from the command line: the files it writes, what it prints, what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image
from predicted_runs import finished_run

from jaxvision.cli import main

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run folders of networks that see red, green and blue: one class a picture, any number of them, one a pixel."""
    folder = tmp_path_factory.mktemp("runs")
    options = {"names": COLOURS, "model": "Spots", "image_size": (32, 32)}
    tasks = ("classification", "multilabel", "segmentation")
    found = {task: finished_run(folder / task, task, **options) for task in tasks}
    return {**found, "crop": finished_run(folder / "crop", "classification", resize="crop", **options)}


@pytest.fixture
def picture(tmp_path):
    """A red square and a smaller blue one on gray, in a picture twice as wide as high."""
    pixels = np.full((64, 128, 3), 120, np.uint8)
    pixels[16:48, 40:72] = (250, 90, 90)
    pixels[16:32, 96:112] = (90, 90, 250)
    path = tmp_path / "spots.png"
    Image.fromarray(pixels).save(path)
    return path


def boxes(path, **known):
    path.write_text(json.dumps({"boxes": known}))
    return str(path)


@pytest.mark.parametrize("task", ["classification", "multilabel", "segmentation"])
@pytest.mark.parametrize("what", ["gradcam", "gradcam++", "scorecam", "occlusion", "saliency", "integrated-gradients"])
def test_the_heat_of_a_colour_is_where_the_colour_is(task, what, runs, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    measured = boxes(tmp_path / "b.json", **{"spots.png": [40, 16, 72, 48]})
    command = ["explain", str(runs[task]), str(picture), "--what", what, "--boxes", measured, "--json"]
    assert main([*command, "--class", "red"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["class"] == "red"
    assert found["box"] == pytest.approx(32 * 32 / (64 * 128))
    # A linear network's gradient by the pixels is the same everywhere, unless only a region's pixels count.
    blind = what == "saliency" and task != "segmentation"
    # Squares that cover a pixel stick out of the spot by their size; what is hot is resized smoothly.
    least = found["box"] if blind else 0.5 if what == "occlusion" else 0.85
    assert found["inside"] >= least
    assert Image.open(found["figure"]).size[0] > 300
    if not blind:
        assert main([*command, "--class", "2"]) == 0
        (blue,) = json.loads(capsys.readouterr().out)
        assert (blue["class"], blue["figure"]) == ("blue", f"explained-2/spots-{what}.png")
        assert blue["inside"] < 0.1


def test_what_the_network_predicts_is_explained_and_a_cropped_part_is_drawn(
    runs, picture, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    measured = boxes(tmp_path / "b.json", **{"spots.png": [40, 16, 72, 48]})
    assert main(["explain", str(runs["crop"]), str(picture), "--boxes", measured, "--out", "drawn"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "red 0." in printed[0]
    # Of the middle 64 of 128 columns the box is a quarter.
    assert "inside a box of 25.0%" in printed[0]
    assert printed[-1] == "gradcam of act, in drawn"
    drawn = Image.open("drawn/spots-gradcam.png").convert("RGB")
    assert drawn.size[0] / drawn.size[1] == pytest.approx(2, abs=0.35)  # two squares side by side, and their titles


def test_a_class_is_explained_over_a_region_of_the_file(runs, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    measured = boxes(tmp_path / "b.json", **{"spots.png": [40, 16, 72, 32]})  # the upper half of the red spot
    command = ["explain", str(runs["segmentation"]), str(picture), "--class", "red", "--what", "saliency", "--json"]
    inside = {}
    for name, region in (("predicted", []), ("upper half", ["--region", "40", "16", "72", "32"])):
        assert main([*command, "--boxes", measured, *region]) == 0
        inside[name] = json.loads(capsys.readouterr().out)[0]["inside"]
    assert inside["predicted"] == pytest.approx(0.5, abs=0.05)
    assert inside["upper half"] > 0.9
    assert main([*command, "--region", "40", "16", "129", "32"]) == 2
    assert "reaches beyond the picture, which is 128 wide" in capsys.readouterr().err


def test_several_pictures_and_layers_are_drawn_together_too(runs, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    other = tmp_path / "more" / "spots.png"
    other.parent.mkdir()
    Image.open(picture).rotate(180).save(other)
    assert main(["explain", str(runs["classification"]), str(picture), str(other), "--out", "two"]) == 0
    names = {"gradcam.png", "spots-gradcam.png", "spots-2-gradcam.png"}
    assert {file.name for file in (tmp_path / "two").iterdir()} == names
    sheet = np.asarray(Image.open("two/gradcam.png"))
    assert sheet.shape == (32, 4 * 32 + 6, 3)  # two pairs of a picture and its heat
    heat = sheet[:, 32:64].astype(int).sum(axis=-1), sheet[:, 102:134].astype(int).sum(axis=-1)
    np.testing.assert_allclose(heat[0], heat[1][::-1, ::-1], atol=12)

    flags = ["--what", "filters", "--layer", "conv", "--layer", "act", "--size", "60"]
    assert main(["explain", str(runs["classification"]), *flags, "--out", "layers"]) == 0
    names = {"conv-filters.png", "act-filters.png", "filters.png"}
    assert {file.name for file in (tmp_path / "layers").iterdir()} == names


def test_activations_are_drawn_layer_by_layer(runs, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["explain", str(runs["multilabel"]), str(picture), "--what", "activations"]) == 0
    assert capsys.readouterr().out.split() == [str(picture), "conv", "(32,", "32,", "3)", "explained/spots/1-conv.png"]
    grid = np.asarray(Image.open("explained/spots/1-conv.png"))
    assert grid.shape == (32, 3 * 32 + 2, 3)
    brightness = grid.astype(int).sum(axis=-1)
    for column, spot in ((0, (12, 14)), (2, (10, 26))):  # red in the first channel, blue in the last
        channel = brightness[:, column * 33 : column * 33 + 32]
        assert channel[spot] == channel.max() > channel[0, 0]
    assert main(["explain", str(runs["multilabel"]), str(picture), "--what", "activations", "--layer", "act"]) == 0
    assert (tmp_path / "explained-2" / "spots" / "1-act.png").exists()


def test_filters_show_what_a_channel_responds_to(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["explain", str(runs["classification"]), "--what", "filters", "--size", "60", "--book", "--json"]
    assert main(command) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found == {"layer": "conv", "channels": "channels 0 to 2", "figure": "explained/conv-filters.png"}
    sheet = np.asarray(Image.open(found["figure"])).astype(int)
    assert sheet.shape == (10, 3 * 10 + 2 * 5, 3)
    for channel in range(3):
        mean = sheet[:, channel * 15 : channel * 15 + 10].mean(axis=(0, 1))
        assert mean.argmax() == channel


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "name at least one picture"),
        (("PICTURE", "--class", "rde"), "--class: no such class. Did you mean 'red'?"),
        (("PICTURE", "--class", "3"), "There are: red, green, blue. Received: '3'"),
        (("PICTURE", "--layer", "acct"), "Did you mean 'act'?"),
        (("--layer", "act", "--layer", "conv", "PICTURE"), "--layer: one for heat maps"),
        (("PICTURE", "--what", "saliency", "--layer", "act"), "--layer: means nothing for --what saliency"),
        (("PICTURE", "--book"), "--book: means nothing for --what gradcam"),
        (("PICTURE", "--what", "activations", "--layer", "unused"), "layer: not run for a prediction"),
        (("PICTURE", "--boxes", "off.json"), "its box reaches beyond the picture, which is 128 wide and 64 high"),
        (("PICTURE", "--out", "list.json/x"), "list.json is no folder"),
        (("PICTURE", "--region", "0", "0", "9", "9"), "--region: is for a run that segments"),
        (("PICTURE", "--channels", "3"), "--channels: means nothing for --what gradcam"),
        (("PICTURE", "--what", "filters"), "makes its own pictures"),
        (("--what", "filters", "--size", "50"), "--size: must be at least 60"),
        (("--what", "filters", "--class", "red"), "--class: means nothing for --what filters"),
        (("PICTURE", "--boxes", "absent.json"), "absent.json: cannot be read. Received: No such file"),
        (("PICTURE", "--boxes", "other.json"), "no box for 1 of the pictures, spots.png the first"),
        (("PICTURE", "--boxes", "flat.json"), "spots.png: a box is left, top, right, bottom in pixels"),
        (("PICTURE", "--boxes", "list.json"), 'must be {"boxes":'),
        (("PICTURE", "--weights", "imagenet"), "is a run, which has its own"),
        (("absent.png",), "absent.png: there is no such file"),
        (("PICTURE", "--out", "taken"), "already there; nothing is written over"),
    ],
)
def test_what_cannot_be_drawn_gives_one_message_and_no_file(flags, said, runs, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    boxes(tmp_path / "other.json", **{"spot.png": [0, 0, 9, 9]})
    boxes(tmp_path / "flat.json", **{"spots.png": [5, 0, 5, 9]})
    boxes(tmp_path / "off.json", **{"spots.png": [5, 0, 129, 9]})
    (tmp_path / "list.json").write_text("[1, 2]")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "spots-gradcam.png").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    words = [str(picture) if flag == "PICTURE" else flag for flag in flags]
    assert main(["explain", str(runs["classification"]), *words]) == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "taken" / "spots-gradcam.png").read_text() == "mine"
