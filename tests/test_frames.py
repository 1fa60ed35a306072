"""`jaxvision.runs` and `jaxvision.curves`: run folders as DataFrames."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from planted_sweep import BASE, EPOCHS, finished_trial

import jaxvision as jv
from jaxvision.config import Model
from jaxvision.errors import RunFolderError
from jaxvision.train.folder import write_config

RATES = (0.25, 0.5)


@pytest.fixture
def folder(tmp_path):
    """Two rates of dropout, two seeds each."""
    random = np.random.default_rng(0)
    for number, rate in enumerate(RATES):
        for seed in range(2):
            run = dataclasses.replace(
                BASE, name=f"dropout-{rate}", seed=seed, model=Model(BASE.model.name, {"dropout": rate})
            )
            finished_trial(
                tmp_path / "runs" / "dropout" / f"{number}-{seed}", run, 0.7 + 0.1 * number + 0.02 * seed, random
            )
    return tmp_path / "runs"


def test_a_row_has_the_outcome_and_the_configuration_of_a_run(folder):
    table = jv.runs(folder)
    assert [place.rsplit("/", 1)[1] for place in table.index] == ["0-0", "0-1", "1-0", "1-1"]
    assert table.index.name == "run"
    assert table.index.is_unique
    last = table.iloc[-1]
    result = jv.read_result(folder / "dropout" / "1-1")
    assert (last["name"], last["seed"], last["status"]) == ("dropout-0.5", 1, "finished")
    for name in ("epochs", "best_epoch", "stop_reason", "parameters", "seconds"):
        assert last[name] == getattr(result, name)
    assert last["validation/accuracy"] == pytest.approx(0.82, abs=1e-12)
    assert last["train/loss"] == 0.2
    assert not any(name.startswith("test/") for name in table)
    assert last["images_per_second"] == pytest.approx(100, rel=0.1)
    assert last["data.batch_size"] == BASE.data.batch_size
    assert last["phases.0.optimizer.learning_rate"] == BASE.phases[0].optimizer.learning_rate
    assert last["data.class_names"] == (), "a list would not be hashable"


def test_the_recipes_of_the_docstring(folder):
    table = jv.runs(folder)
    means = table.groupby("model.options.dropout")["validation/accuracy"].agg(["mean", "count"])
    assert means.index.tolist() == [*RATES]
    np.testing.assert_allclose(means["mean"], [0.71, 0.81])
    assert means["count"].tolist() == [2, 2]
    assert table["validation/accuracy"].idxmax().endswith("1-1")
    differing = table.loc[:, table.nunique(dropna=False) > 1].columns
    assert {"name", "seed", "validation/accuracy", "model.options.dropout"} <= set(differing)
    assert not any(name.startswith(("data.", "phases.", "augment.")) for name in differing)
    drawn = jv.curves(folder).pivot(index="step", columns="run", values="validation/loss")
    assert drawn.shape == (EPOCHS, 4)
    assert drawn.columns.tolist() == table.index.tolist()
    assert drawn.notna().all().all()


def test_curves_are_the_lines_of_the_files(folder):
    found = jv.curves(folder / "dropout" / "1-0", folder / "dropout" / "0-0")
    assert found.columns[:6].tolist() == ["run", "name", "seed", "phase", "epoch", "step"]
    for number, place in enumerate(("1-0", "0-0")):
        lines = [json.loads(line) for line in (folder / "dropout" / place / "metrics.jsonl").read_text().splitlines()]
        part = found.iloc[number * EPOCHS : (number + 1) * EPOCHS]
        assert set(part["run"]) == {str(folder / "dropout" / place)}
        for name in lines[0]:
            assert part[name].tolist() == [line[name] for line in lines]


def test_runs_of_different_kinds_stand_side_by_side(folder):
    one, other = folder / "dropout" / "0-0", folder / "dropout" / "1-1"
    lines = (one / "metrics.jsonl").read_text().splitlines()
    again = {**json.loads(lines[-1]), "validation/loss": None, "validation/iou/cat": 0.5}
    (one / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(again), '{"phase": 0, "ep']))
    result = json.loads((one / "result.json").read_text())
    result["validation"] |= {"loss": None, "iou/cat": 0.5}
    (one / "result.json").write_text(json.dumps(result))
    table, found = jv.runs(one, other), jv.curves(one, other)
    assert (table.dtypes["validation/iou/cat"], found.dtypes["validation/iou/cat"]) == (float, float)
    assert table["validation/iou/cat"].fillna(-1).tolist() == [0.5, -1]
    assert np.isnan(table["validation/loss"].iloc[0])
    assert len(found) == 2 * EPOCHS, "the later record of a step replaces the earlier one"
    assert np.isnan(found["validation/loss"].iloc[EPOCHS - 1])
    assert found["validation/iou/cat"].count() == 1
    assert pd.api.types.is_integer_dtype(found["step"])


def test_unfinished_and_unreadable_runs_are_rows_too(folder):
    (folder / "dropout" / "0-1" / "result.json").unlink()
    (folder / "dropout" / "1-0" / "config.json").write_text("{}}")
    begun = folder / "begun"
    begun.mkdir()
    write_config(begun, BASE)
    table = jv.runs(folder)
    assert table["status"].tolist() == ["unfinished", "finished", "unfinished", "unreadable", "finished"]
    unreadable = table.iloc[3]
    assert "config.json, line 1: not JSON" in unreadable["message"]
    assert pd.isna(unreadable[["name", "seed", "validation/accuracy", "data.batch_size"]]).all()
    assert table["validation/accuracy"].count() == 2
    with pytest.warns(UserWarning, match=r"1-0: cannot be read and is left out: .*config.json, line 1"):
        found = jv.curves(folder)
    assert found.groupby("run").size().tolist() == [EPOCHS] * 3
    assert jv.curves(folder / "begun").empty


def test_a_damaged_record_is_reported_and_the_other_runs_are_there(folder):
    (folder / "dropout" / "0-0" / "metrics.jsonl").write_text('{"phase": 0, "epoch": 1, "validation/loss": "high"}\n')
    with pytest.warns(UserWarning, match=r"0-0: cannot be read and is left out: .*metrics.jsonl, line 1: damaged"):
        assert jv.curves(folder).groupby("run").size().tolist() == [EPOCHS] * 3


def test_a_run_found_twice_is_one_row(folder, tmp_path, monkeypatch):
    (folder / "linked").symlink_to("dropout")
    assert len(jv.runs(folder, folder / "dropout" / "0-0", folder / "linked")) == 4
    monkeypatch.setenv("HOME", str(tmp_path))
    assert jv.runs("~/runs").index.tolist() == jv.runs(folder).index.tolist()


@pytest.mark.parametrize("read", [jv.runs, jv.curves])
def test_a_place_without_runs_is_refused(read, tmp_path):
    with pytest.raises(RunFolderError, match="no such folder"):
        read(tmp_path / "gone")
    with pytest.raises(RunFolderError, match="no run folder"):
        read(tmp_path)
    with pytest.raises(RunFolderError, match="at least one folder"):
        read()
