"""launch/slurm.sh on a real SLURM of one node, brought up for these tests."""

import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launch_stubs import LAUNCH
from one_node_slurm import missing, one_node_slurm, told

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=missing() or "")]
FLAGS = ["--data.limit-train", "128", "--data.limit-validation", "32", "--data.limit-test", "32"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("slurm")
    programs = folder / "programs"
    programs.mkdir()
    for name, module in (("jaxvision", "jaxvision"), ("ray", "ray.scripts.scripts")):
        words = f'#!/bin/sh\nPYTHONPATH={LAUNCH.parent} JAX_PLATFORMS=cpu exec {sys.executable} -m {module} "$@"\n'
        (programs / name).write_text(words)
        (programs / name).chmod(0o755)
    with one_node_slurm(folder) as environment:
        path = f"{programs}:{Path(sys.executable).parent}:{environment['PATH']}"
        yield {**environment, "PATH": path, "HOME": str(folder)}


def submit(slurm: dict[str, str], *words: str) -> str:
    done = subprocess.run([LAUNCH / "slurm.sh", *words], env=slurm, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return re.search(r"Submitted batch job (\d+)", done.stdout)[1]


def state(slurm: dict[str, str], job: str) -> str:
    return re.search(r"JobState=(\w+)", told("scontrol", "show", "job", job, env=slurm))[1]


def wait(slurm: dict[str, str], job: str, log: Path, *, text: str = "", states: tuple[str, ...] = ()) -> None:
    """Until the job's log has the text, or the job is in one of the states."""
    until = time.monotonic() + 300
    while not (state(slurm, job) in states or (text and log.exists() and text in log.read_text())):
        assert time.monotonic() < until, log.read_text() if log.exists() else told("scontrol", "show", "job", env=slurm)
        time.sleep(0.2)


def test_a_run_told_before_its_time_limit_queues_again_and_is_gone_on_with(slurm: dict[str, str], tmp_path: Path):
    run_dir, log = tmp_path / "run", tmp_path / "run.slurm.log"
    job = submit(slurm, "train", "digits", "--run-dir", str(run_dir), "--", "--epochs", "20", *FLAGS)
    wait(slurm, job, log, text="epoch 1/20")
    told("scancel", "--signal=USR1", "--batch", job, env=slurm)  # what SLURM sends then
    wait(slurm, job, log, states=("COMPLETED", "FAILED", "CANCELLED"))
    text = log.read_text()
    assert state(slurm, job) == "COMPLETED", text
    assert "exit code 143: queued again" in text
    assert "restart 1" in text
    assert "goes on after step" in text
    assert json.loads((run_dir / "result.json").read_text())["steps"] == 40


def test_a_cancelled_job_has_saved_and_does_not_come_back(slurm: dict[str, str], tmp_path: Path):
    run_dir, log = tmp_path / "run", tmp_path / "run.slurm.log"
    job = submit(slurm, "train", "digits", "--run-dir", str(run_dir), "--", "--epochs", "2000", *FLAGS)
    wait(slurm, job, log, text="epoch 1/2000")
    told("scancel", job, env=slurm)
    wait(slurm, job, log, text="everything to go on is saved")
    wait(slurm, job, log, states=("CANCELLED",))
    time.sleep(10)  # longer than one that queues again waits
    assert state(slurm, job) == "CANCELLED"
    assert list((run_dir / "training").iterdir())


def test_what_is_refused_is_not_tried_again(slurm: dict[str, str], tmp_path: Path):
    job = submit(slurm, "train", "digits", "--run-dir", str(tmp_path / "run"), "--", "--epochs", "0")
    wait(slurm, job, tmp_path / "run.slurm.log", states=("COMPLETED", "FAILED", "PENDING"))
    wait(slurm, job, tmp_path / "run.slurm.log", states=("COMPLETED", "FAILED"))
    assert "ExitCode=2:0" in told("scontrol", "show", "job", job, env=slurm)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra sweep (Ray)")
@pytest.mark.usefixtures("only_ray")
def test_a_sweep_by_ray(slurm: dict[str, str], tmp_path: Path):
    flags = ["--seeds", "1", "--epochs", "1", "--arms", "all", "no-dropout", *FLAGS]
    job = submit(slurm, "ablate", "digits-parts", "--run-dir", str(tmp_path / "parts"), "--", *flags)
    log = tmp_path / "parts.slurm.log"
    wait(slurm, job, log, states=("COMPLETED", "FAILED"))
    assert state(slurm, job) == "COMPLETED", log.read_text()
    assert len(list((tmp_path / "parts").glob("*/seed-0/result.json"))) == 2
