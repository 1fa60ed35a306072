"""Classes of pictures by finished runs, in Python and by the command."""

import json

import numpy as np
import pytest
from PIL import Image
from predicted_runs import finished_run

import jaxvision as jv
from jaxvision.cli import main
from jaxvision.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run folder by its task."""
    folder = tmp_path_factory.mktemp("runs")
    return {task: finished_run(folder / task, task) for task in ("classification", "multilabel", "segmentation")}


@pytest.fixture
def pictures(tmp_path):
    """A bright and a dark picture of unlike size and kind."""
    Image.fromarray(np.full((40, 30), 200, np.uint8)).save(tmp_path / "bright.png")
    Image.fromarray(np.full((20, 50, 3), 20, np.uint8)).save(tmp_path / "dark.jpg")
    return [str(tmp_path / name) for name in ("bright.png", "dark.jpg")]


def logits(value: float) -> np.ndarray:
    return 5 - 40 * (value / 255 - np.linspace(0, 1, 3)) ** 2


def test_classes_of_one_label_share_what_is_certain(runs, pictures):
    bright, dark = jv.predict(runs["classification"], pictures)
    expected = np.exp(logits(200)) / np.exp(logits(200)).sum()
    assert bright.path == pictures[0]
    assert [name for name, _ in bright.classes] == ["bright", "middle", "dark"]
    np.testing.assert_allclose([value for _, value in bright.classes], np.sort(expected)[::-1], atol=1e-4)
    assert dark.classes[0][0] == "dark"


def test_classes_of_many_labels_are_likely_each_by_itself(runs, pictures):
    (bright,) = jv.predict(runs["multilabel"], pictures[0])
    expected = 1 / (1 + np.exp(-logits(200)))
    assert [name for name, _ in bright.classes] == ["bright", "middle", "dark"]
    np.testing.assert_allclose([value for _, value in bright.classes], np.sort(expected)[::-1], atol=1e-4)


def test_the_command_prints_the_likeliest_classes(runs, pictures, capsys):
    command = ["predict", str(runs["classification"]), *pictures]
    assert main([*command, "--top", "2", "--json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    assert [document["path"] for document in documents] == pictures
    assert [entry["name"] for entry in documents[0]["classes"]] == ["bright", "middle"]
    assert set(documents[0]["classes"][0]) == {"name", "probability"}
    probability = documents[0]["classes"][0]["probability"]
    assert main([*command[:-1], "--top", "1"]) == 0
    assert capsys.readouterr().out.split() == [pictures[0], "bright", f"{probability:.3f}"]
    assert main(["predict", str(runs["classification"]), pictures[0], "gone.png"]) == 2
    said = capsys.readouterr()
    assert "gone.png: there is no such file" in said.err
    assert said.out == ""


def test_the_command_prints_all_of_many_labels_and_marks_what_is_there(runs, pictures, capsys):
    command = ["predict", str(runs["multilabel"]), pictures[0]]
    assert main([*command, "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    found = [(entry["name"], entry["predicted"]) for entry in document["classes"]]
    assert found == [("bright", True), ("middle", True), ("dark", False)]
    assert main([*command, "--top", "2"]) == 0
    likely = [f"{entry['probability']:.3f}*" for entry in document["classes"][:2]]
    assert capsys.readouterr().out.split() == [pictures[0], "bright", likely[0], "middle", likely[1]]
    assert main(command) == 0
    assert capsys.readouterr().out.split()[-1] == f"{document['classes'][2]['probability']:.3f}"


def test_a_run_of_masks_is_not_asked_for_classes_nor_the_other_way_round(runs, pictures):
    with pytest.raises(ConfigError, match=r"segmentation predicts a class for each pixel; use predict_masks"):
        jv.predict(runs["segmentation"], pictures)
    for task in ("classification", "multilabel"):
        with pytest.raises(ConfigError, match=f"predict_masks: {task} .*use predict"):
            jv.predict_masks(runs[task], pictures)
    with pytest.raises(DataError, match="there is no such file"):
        jv.predict_masks(runs["segmentation"], ["gone.png"])


@pytest.mark.parametrize(
    ("task", "flags", "named"),
    [
        ("segmentation", ["--top", "1"], "--top"),
        ("classification", ["--out", "x"], "--out"),
        ("classification", ["--overlay"], "--overlay"),
        ("multilabel", ["--side-by-side"], "--side-by-side"),
        ("multilabel", ["--tile"], "--tile"),
        ("classification", ["--scale", "0.5"], "--scale"),
        ("segmentation", ["--masks", "x"], "--masks: goes with --side-by-side"),
        ("segmentation", ["--scale", "0.5"], "scale: goes with tiles"),
        ("segmentation", ["--tile", "--scale", "0"], "scale: a factor larger than 0"),
        ("segmentation", ["--tile", "--overlap", "1"], "overlap: a share"),
        ("classification", ["--top", "0"], "--top: must be at least 1"),
    ],
)
def test_flags_that_mean_nothing_are_refused(task, flags, named, runs, pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert main(["predict", str(runs[task]), *pictures, *flags]) == 2
    assert named in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before
