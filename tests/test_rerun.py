"""A run done again: the same bits, or told what differs and what may be why."""

import json
import re
import shutil
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.cli import main
from jaxvision.data import open as dataset_source
from jaxvision.train.folder import write_json
from jaxvision.train.step import compiler_options, make_train_stretch
from jaxvision.types import Stretch

pytestmark = pytest.mark.usefixtures("kept_programs")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    flags = ["--data.limit-train", "96", "--data.limit-validation", "32", "--data.limit-test", "32", "--epochs", "2"]
    assert main(["train", "digits", *flags, "--run-dir", str(folder)]) == 0
    return folder


def test_the_same_bits_come_of_it(finished, capsys):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert main(["rerun", str(finished)]) == 0
    said = capsys.readouterr().out
    assert f"bit-identical to {finished}: 2 lines of metrics.jsonl, 8 tensors" in said
    assert (finished.parent / "digits-rerun" / "result.json").exists()
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_what_differs_is_told_with_what_changed(finished, tmp_path, capsys):
    shutil.copytree(finished, tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    write_json(tmp_path / "old" / "config.json", {**config, "seed": 5})  # as if it had always been run with this seed
    environment = json.loads((finished / "environment.json").read_text())
    environment["packages"]["jax"], environment["cpu_count"] = "0.1", 999
    write_json(tmp_path / "old" / "environment.json", {**environment, "data_fingerprint": "0" * 64})
    assert main(["rerun", str(tmp_path / "old"), "--run-dir", str(tmp_path / "new")]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "different: metrics.jsonl: from line 1 of 2 on: train/loss" in said
    assert "different: best checkpoint: 8 of 8 tensors, by up to" in said
    assert "different: result.json: seed 0 -> 5" in said
    assert "changed since: packages.jax: 0.1 ->" in said
    assert "changed since: cpu_count: 999 ->" in said
    assert "changed since: the data" in said


def test_other_data_may_give_another_model(finished, tmp_path, monkeypatch, capsys):
    """As a folder of pictures with one class more: another number of outputs, told by shape."""
    source = dataset_source.open_dataset

    def more(*arguments, **options):
        dataset = source(*arguments, **options)
        return replace(dataset, class_names=(*dataset.class_names, "another"), fingerprint="0" * 64)

    monkeypatch.setattr("jaxvision.train.prepared.open_dataset", more)
    assert main(["rerun", str(finished), "--run-dir", str(tmp_path / "new")]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"different: best checkpoint: \S*\['kernel'\]: \(\d+, 10\) -> \(\d+, 11\)", said), said
    assert "changed since: the data" in said


@pytest.mark.parametrize(
    "case", ["not a run", "not finished", "damaged", "no environment", "data of a program", "taken"]
)
def test_what_cannot_be_done_again(case, finished, tmp_path, capsys):
    old = tmp_path / "old"
    if case != "not a run":
        shutil.copytree(finished, old)
    if case == "not finished":
        (old / "result.json").unlink()
    if case == "damaged":
        next((old / "checkpoints").glob("*/model/d/*")).write_bytes(b"")
    if case == "no environment":
        (old / "environment.json").unlink()
    if case == "data of a program":
        config = json.loads((old / "config.json").read_text())
        write_json(old / "config.json", {**config, "data": {**config["data"], "source": "given"}})
    if case == "taken":
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main(["rerun", str(old), "--run-dir", str(tmp_path / "new")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    expected = {
        "not a run": "has no result.json",
        "not finished": "the run has not finished",
        "damaged": "damaged: model/d/",
        "no environment": "environment.json: cannot be read",
        "data of a program": "was handed to fit() by a program",
        "taken": "already there and not empty",
    }
    assert expected[case] in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_gpu_is_asked_for_operations_that_repeat(monkeypatch):
    """The compiler knows the option (it refuses those it does not), and only a GPU's is asked for it."""
    assert compiler_options(True) == {}
    monkeypatch.setattr("jaxvision.train.step.jax.default_backend", lambda: "gpu")
    assert compiler_options(False) == {}
    assert compiler_options(True)
    stretch = make_train_stretch(lambda state, batch: (state + 1, jnp.sum(batch.inputs)), deterministic=True)
    state, losses = stretch(jnp.zeros(()), Stretch(np.ones((2, 3), np.float32), np.zeros(2, np.int32), None))
    assert state == 1
    assert losses.tolist() == [6.0]
