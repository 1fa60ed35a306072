"""The run folder and its small files."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import jax
import pytest
from etils import epath

from jaxvision.config import Data, Run
from jaxvision.errors import ConfigError, RunFolderError
from jaxvision.train.folder import (
    new_run_folder,
    read_config,
    read_metrics,
    write_config,
    write_environment,
    write_json,
)
from jaxvision.train.result import Result, duration, read_result, write_result

RESULT = Result(
    name="a/b", seed=1, steps=20, epochs=2, best_epoch=1, best_step=10, stop_reason="completed", parameters=104202,
    train={"loss": 0.25, "accuracy": 1 / 3}, validation=None, test={"loss": 1e-9, "accuracy": 1.0}, seconds=3.5,
    class_names=("cat", "dog"), image_shape=(28, 28, 1), fingerprint="f", run_dir="runs/a/b",
)  # fmt: skip


def test_folders_are_numbered_and_never_taken_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: str(new_run_folder("a/b")), range(8)))
    assert sorted(folders) == ["runs/a/b", *(f"runs/a/b-{number}" for number in range(2, 9))]


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    assert new_run_folder("x", tmp_path / "deep" / "new") == epath.Path(tmp_path / "deep" / "new")
    assert new_run_folder("x", tmp_path / "deep" / "new").is_dir()  # empty: taken
    (tmp_path / "file").write_text("mine")
    for taken in (tmp_path, tmp_path / "file"):
        with pytest.raises(RunFolderError, match=f"already there.*Received: '{taken}'"):
            new_run_folder("x", taken)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("mine")
    for wanted in (None, "runs/x", "/proc/x"):
        with pytest.raises(RunFolderError, match=r"cannot be made.*--run-dir.*Received: "):
            new_run_folder("x", wanted)
    with pytest.raises(RunFolderError, match=r"nowhere/x\.json: cannot be written"):
        write_json("nowhere/x.json", {})
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]


def test_config_round_trip_and_what_is_said_where_there_is_none(tmp_path):
    run = Run(name="a/b", data=Data(image_size=(3, 4)))
    write_config(tmp_path, run)
    assert read_config(tmp_path) == run
    with pytest.raises(RunFolderError, match=r"no config\.json.*Received: 'nowhere'"):
        read_config("nowhere")
    (tmp_path / "config.json").write_text('{"nam": "x"}')
    with pytest.raises(ConfigError, match=f"{tmp_path}/config.json: nam.*'name'"):
        read_config(tmp_path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_json(tmp_path / "x.json", {"a": math.nan, "b": [math.inf, 1.5]})
    old = (tmp_path / "x.json").read_text()
    assert json.loads(old) == {"a": None, "b": [None, 1.5]}
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})

    def full_disk(path, content):
        with open(path, "wb") as file:
            file.write(content[:3])
        raise OSError("disk full")

    monkeypatch.setattr(type(epath.Path(tmp_path)), "write_bytes", full_disk)
    with pytest.raises(RunFolderError, match=r"x\.json: cannot be written. Received: disk full"):
        write_json(tmp_path / "x.json", {"a": 2})
    assert (tmp_path / "x.json").read_text() == old
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_environment_tells_what_decided_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["jaxvision", "train", "x"])
    write_environment(tmp_path, Run(seed=5), fingerprint="abc")
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["packages"]["jax"] == jax.__version__
    assert environment["command"] == ["jaxvision", "train", "x"]
    assert (environment["seed"], environment["data_fingerprint"]) == (5, "abc")
    assert environment["backend"] == jax.default_backend()
    assert len(environment["devices"]) == jax.device_count()
    assert environment["cpu"]
    assert environment["cpu_count"] >= 1
    assert environment["started"].endswith("+00:00")


def test_metrics_of_a_crashed_run_are_readable_but_not_damaged_ones(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(RunFolderError, match="line 2"):
        read_metrics(tmp_path)
    with pytest.raises(RunFolderError, match="has no metrics"):
        read_metrics(tmp_path / "none")


def test_result_round_trip(tmp_path):
    write_result(tmp_path, RESULT)
    restored = read_result(tmp_path)
    assert restored.run_dir == str(tmp_path)
    assert {**vars(restored), "run_dir": RESULT.run_dir} == vars(RESULT)
    assert "run_dir" not in json.loads((tmp_path / "result.json").read_text())


def test_result_with_a_loss_that_is_not_finite(tmp_path):
    write_result(tmp_path, Result(**{**vars(RESULT), "test": {"loss": math.inf}}))
    assert math.isnan(read_result(tmp_path).test["loss"])


def test_missing_and_damaged_results_are_named(tmp_path):
    with pytest.raises(RunFolderError, match=r"no result\.json"):
        read_result(tmp_path)
    for text in ("{", "{}", "[]"):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(RunFolderError, match=r"result\.json: damaged"):
            read_result(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (99, "99 s"), (150, "2 min"), (2520, "42 min"), (11520, "3.2 h")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text
