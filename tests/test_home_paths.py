"""A path that begins with ~ is in the home folder, wherever a path is taken: no folder named ~ is made."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_changed_data import Tiny  # noqa: F401

import jaxvision as jv
from jaxvision.cli import main
from jaxvision.outputs import output_folder
from jaxvision.train.ready import ready_model
from jaxvision.train.rerun import rerun

pytestmark = pytest.mark.usefixtures("kept_programs")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """The home folder, with data/; the current folder is another."""
    for number in range(8):
        path = tmp_path / "home/data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


RUN = jv.Run(
    data=jv.Data("folder", "~/data", batch_size=4, cache="~/cache"),
    model=jv.Model(f"{__name__}:Tiny"),
    phases=(jv.Phase(epochs=1),),
    checkpoint=jv.Checkpoint(monitor="train/loss"),
    log=jv.Log(tensorboard=False),
)


def test_in_python(home):
    jv.fit(RUN, run_dir="~/run", progress=False)
    assert jv.fit(RUN, run_dir="~/run", progress=False, resume=True) == jv.read_result("~/run")
    assert jv.evaluate("~/run", part="train") == jv.evaluate(str(home / "run"), part="train")
    assert (
        jv.predict("~/run", "~/data/a/0.png")[0].classes == jv.predict(home / "run", home / "data/a/0.png")[0].classes
    )
    assert (jv.load_run("~/run"), jv.load_run("~/run/config.json")) == (RUN, RUN)
    assert ready_model("~/run").num_outputs == 1
    other = replace(RUN, model=replace(RUN.model, init_from="~/run"))
    jv.fit_many(other, [0, 1], run_dir="~/many", progress=False)
    assert not rerun("~/run", to="~/again").different
    assert output_folder("~/out", "out") == home / "out"
    assert {"run", "again", "many", "cache"} <= {path.name for path in home.iterdir()}
    assert not list(Path().iterdir())


def test_on_the_command_line(home, capsys):
    (home / "config.json").write_text(jv.to_json(RUN))
    assert main(["train", "~/config.json", "--run-dir", "~/run"]) == 0
    assert main(["predict", "~/run", "~/data/a/0.png"]) == 0
    assert main(["evaluate", "~/run", "--part", "train", "--data.path=~/data"]) == 0
    assert main(["check", "~/data", "--hashes", "~/hashes.txt"]) == 0
    assert main(["check", "~/data", "--hashes=~/again.txt"]) == 0
    assert main(["results", "~/run", "--out", "~/results.json"]) == 0
    assert {"run", "hashes.txt", "again.txt", "results.json"} <= {path.name for path in home.iterdir()}
    assert not list(Path().iterdir())
    assert main(["predict", "~/run", "~/none.png"]) == 2
    assert f"Received: '{home}/none.png'" in capsys.readouterr().err.replace("\n", "")
