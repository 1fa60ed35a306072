"""`ablate --vectorize`: trials that differ in seeds and numbers are trained in one program."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sweep_stub import notes
from test_sweep import ablate, stubs  # noqa: F401

import jaxvision as jv
from jaxvision.ablation import Ablation, Factor
from jaxvision.config import Data, Model, Run
from jaxvision.report.plan import read_plan, trial_state
from jaxvision.sweep.prepare import prepare
from jaxvision.sweep.together import groups_together


def test_trials_that_one_program_can_train_share_a_process(stubs, capsys):  # noqa: F811
    assert ablate("--seeds", "2", "--vectorize") == 0
    assert Counter(note for note in notes() if note.startswith("together")) == {"together 4": 1, "together 2": 2}
    plan = read_plan("out")
    assert [trial_state("out", trial) for trial in plan.trials] == ["finished"] * 8
    assert "8 of 8 trials finished" in capsys.readouterr().err
    log = Path("out/logs/no-dropout/seed-1.log").read_text()
    assert "4 trials together, the first of them all, seed 0: see " in log
    assert f"jaxvision train-together {Path('out/configs/all/seed-0.json')}=out/all/seed-0 " in (
        Path("out/logs/all/seed-0.log").read_text()
    )
    assert ablate("--seeds", "2", "--vectorize") == 0
    assert len(notes()) == 3 + 2 * 8
    assert ablate("--seeds", "3", "--vectorize", "--together", "2", "--arms", "all", "no-dropout") == 0
    assert notes()[19] == "together 2"


def test_a_trial_that_fails_fails_alone(stubs):  # noqa: F811
    stubs(ends={"no-dropout/seed-0": ["refuse", "refuse"]})
    assert ablate("--seeds", "2", "--vectorize", "--arms", "all", "no-dropout") == 1
    states = {trial.folder: trial_state("out", trial) for trial in read_plan("out").trials}
    assert states["no-dropout/seed-0"] == "failed"
    assert states["all/seed-0"] == states["all/seed-1"] == states["no-dropout/seed-1"] == "finished"
    assert Path("out/failed/no-dropout/seed-0.txt").read_text() == "data.path: nothing there.\n  Received: 'x'\n"
    assert not Path("out/failed/all").exists() or not any(Path("out/failed/all").iterdir())


def test_the_flag_says_what_it_goes_with(stubs, capsys):  # noqa: F811
    assert ablate("--together", "4") == 2
    assert "--together: goes with --vectorize. Received: 4" in capsys.readouterr().err
    assert ablate("--vectorize", "--together", "1") == 2


def groups(tmp_path: Path, factors: dict, most: int | None = None, **base) -> list[set[str]]:
    run = Run(name="x", model=Model("convnet-mnist", {"features": (4,), "dropout": 0.5}), **base)
    sweep = prepare(Ablation(base=run, factors=factors, design="grid", seeds=2), tmp_path / "out")
    return [set(group) for group in groups_together(sweep, list(sweep.wanted), most)]


def test_groups(tmp_path):
    factors = {
        "rate": Factor(
            {
                "high": {"phases.0.optimizer.learning_rate": 1e-3},
                "low": {"phases.0.optimizer.learning_rate": 1e-4},
            }
        ),
        "batch": Factor({"32": {"data.batch_size": 32}, "16": {"data.batch_size": 16}}),
    }
    found = groups(tmp_path, factors)
    assert found == [
        {f"{arm}/seed-{seed}" for arm in arms for seed in (0, 1)}
        for arms in (["base", "rate=low"], ["batch=16", "rate=low+batch=16"])
    ]
    assert list(map(len, groups(tmp_path, factors, most=3))) == [3, 1, 3, 1]
    streamed = groups(tmp_path, factors, data=Data(residence="stream"))
    assert list(map(len, streamed)) == [1] * 8
    features = {"features": Factor({"4": {"model.options.features": [4]}, "8": {"model.options.features": [8]}})}
    assert list(map(len, groups(tmp_path, features))) == [2, 2]


@pytest.mark.slow
def test_the_results_are_those_of_trials_one_by_one(tmp_path, monkeypatch):
    from jaxvision.cli import main

    monkeypatch.chdir(tmp_path)
    flags = ["--seeds", "2", "--epochs", "2", "--arms", "all", "no-dropout", "--log.tensorboard", "False"]
    for name, more in (("alone", []), ("together", ["--vectorize"])):
        assert main(["ablate", "digits-parts", "--out", name, *flags, *more]) == 0
    for trial in ("all/seed-0", "all/seed-1", "no-dropout/seed-0", "no-dropout/seed-1"):
        alone, together = (
            [json.loads(line) for line in Path(name, trial, "metrics.jsonl").read_text().splitlines()]
            for name in ("alone", "together")
        )
        for a, b in zip(alone, together, strict=True):
            assert a.keys() == b.keys()
            np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=2e-2)
        assert jv.read_result(Path("together", trial)).seed == jv.read_result(Path("alone", trial)).seed
    environment = json.loads(Path("together/all/seed-1/environment.json").read_text())
    assert environment["together"] == 4
