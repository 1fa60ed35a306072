"""Sweeps: trials in processes of their own, gone on with after any end. Real processes; most trials are stubs."""

import fcntl
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import sweep_stub
from rich.console import Console
from sweep_stub import notes

from jaxvision.ablation import Ablation, Factor
from jaxvision.cli import main
from jaxvision.config import Data, Model, Run
from jaxvision.data import open_dataset
from jaxvision.errors import ConfigError, RunFolderError
from jaxvision.experiments import list_ablations
from jaxvision.report.plan import Plan, PlannedArm, PlannedTrial, read_plan, trial_state, write_plan
from jaxvision.sweep import driver, identity, prepare, ray_engine, trial
from jaxvision.sweep.identity import read_identity
from jaxvision.sweep.progress import Progress
from jaxvision.train.folder import code_version
from jaxvision.train.lock import RunLock
from jaxvision.train.result import read_result

HERE = Path(__file__).parents[1]
TRIALS = ["all", "no-augmentation", "no-dropout", "no-cosine"]


@pytest.fixture
def stubs(tmp_path, monkeypatch):
    """Trials are stubs, here and in processes started from here. Returns a function that says what they are to do."""
    (tmp_path / "stubs").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(driver, "Job", sweep_stub.StubJob)
    monkeypatch.setenv("STUB", str(tmp_path / "stubs"))
    paths = [str(HERE), str(HERE / "tests"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    code = code_version()  # of now: the source may be edited while tests run
    monkeypatch.setattr(prepare, "code_version", lambda: code)
    tell = functools.partial(sweep_stub.tell, {**code, "data_fingerprint": open_dataset(Data()).fingerprint})
    tell()
    return tell


def ablate(*flags: str) -> int:
    return main(["ablate", "digits-parts", "--out", "out", *flags])


def files() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.is_file()}


def run_files() -> dict[Path, int]:
    return {path: when for path, when in files().items() if path.parts[1] in TRIALS}


def test_trials_run_in_turn_and_once(stubs, capsys):
    assert ablate("--seeds", "2") == 0
    order = [f"{arm}/seed-{seed}" for seed in (0, 1) for arm in TRIALS]
    assert notes() == [f"{what} {trial}" for trial in order for what in ("begin", "end")]
    said = capsys.readouterr()
    assert "no-cosine, seed 1: test accuracy 0.2500 (8/8)" in said.err
    assert "8 of 8 trials finished; test accuracy" in said.err
    assert said.out == "its report: jaxvision report out\n"
    plan, before = read_plan("out"), files()
    assert [trial.folder for trial in plan.trials] == order
    assert (plan.base, plan.seeds, plan.design) == ("all", (0, 1), "leave-one-out")
    assert plan.factors["cosine"] == ("with", "without")
    assert plan.arms[3].changes == {"phases.0.schedule.name": "constant"}
    assert len({trial.digest for trial in plan.trials}) == 8
    # The digests are those of what the run folders say.
    assert [read_identity(Path("out", trial.folder)).digest for trial in plan.trials] == [
        trial.digest for trial in plan.trials
    ]
    assert ablate("--seeds", "2") == 0
    assert {path: when for path, when in before.items() if path in run_files()} == run_files()
    assert read_plan("out") == plan
    assert ablate("--seeds", "3", "--arms", "all") == 0
    assert notes()[16:] == ["begin all/seed-2", "end all/seed-2"]
    assert len(read_plan("out").trials) == 12


def test_failures_are_gone_past_and_told(stubs, monkeypatch, capsys):
    ends = {
        "all/seed-0": ["kill"], "no-augmentation/seed-0": ["refuse"], "no-dropout/seed-0": ["raise", "raise", "kill"],
    }  # fmt: skip
    stubs(ends=ends)
    assert ablate("--seeds", "1", "--retries", "2") == 1
    begun = [note.removeprefix("begin ") for note in notes() if note.startswith("begin")]
    assert [begun.count(f"{arm}/seed-0") for arm in TRIALS] == [2, 1, 3, 1]
    plan = read_plan("out")
    assert [trial_state("out", trial) for trial in plan.trials] == ["finished", "failed", "failed", "finished"]
    failed = Path("out/failed")
    assert (failed / "no-augmentation/seed-0.txt").read_text() == "data.path: nothing there.\n  Received: 'x'\n"
    assert (failed / "no-dropout/seed-0.txt").read_text().startswith("killed by SIGKILL")
    log = Path("out/logs/no-dropout/seed-0.log").read_text()
    assert log.count("ZeroDivisionError: no-dropout/seed-0") == 2
    said = capsys.readouterr().err
    assert "no-augmentation, seed 0: failed: data.path: nothing there." in said
    assert "2 of 4 trials finished, 2 failed" in said
    assert said.endswith(f"failed: no-dropout, seed 0: {Path('out/logs/no-dropout/seed-0.log').absolute()}\n")
    # Asked for again, they are tried again.
    finished = run_files()
    assert ablate("--seeds", "1") == 0
    assert notes()[-4:] == [f"{w} {a}/seed-0" for a in ("no-augmentation", "no-dropout") for w in ("begin", "end")]
    assert not list(failed.rglob("*.txt"))
    kept = [path for path in finished if path.parts[1] in ("all", "no-cosine")]
    assert all(finished[path] == run_files()[path] for path in kept)


def drive(*flags: str) -> subprocess.Popen:
    """The command in a process of its own, its trials stubs."""
    return subprocess.Popen(
        [sys.executable, sweep_stub.__file__, "drive", "digits-parts", "--out", "out", *flags],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_killed_driver_is_gone_on_from(stubs):
    stubs(seconds=2)
    process = drive("--seeds", "1")
    wait_for(lambda: "begin no-dropout/seed-0" in notes())
    finished = run_files()
    process.kill()
    process.wait()
    assert len(read_plan("out").trials) == 4  # whole, although two are missing
    kept = {path: when for path, when in finished.items() if path.parts[1] in ("all", "no-augmentation")}
    assert {path.parts[1] for path in kept if path.name == "result.json"} == {"all", "no-augmentation"}
    # Its trial is still at work (a stub does not heed the death of its parent), and is waited for, not run beside.
    with Path("out/logs/no-dropout/seed-0.log").open() as log, pytest.raises(BlockingIOError):
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert ablate("--seeds", "1") == 0
    begun = [note for note in notes() if note.startswith("begin")]
    assert begun == [f"begin {arm}/seed-0" for arm in TRIALS]
    assert {path: run_files()[path] for path in kept} == kept


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_is_passed_on_to_the_trial_which_saves(number, code, stubs):
    stubs(seconds=1000)
    process = drive("--seeds", "1")
    wait_for(lambda: "begin all/seed-0" in notes())
    time.sleep(0.5)  # until the stub has set its handler
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert notes() == ["begin all/seed-0", "saved all/seed-0"]
    assert f"stopped by {number.name}; 4 of 4 trials are left" in said
    assert "Go on with: jaxvision ablate digits-parts --out out --seeds 1" in said
    assert [trial_state("out", trial) for trial in read_plan("out").trials][:2] == ["begun", "missing"]
    stubs()
    assert ablate("--seeds", "1") == 0
    assert notes()[2:4] == ["begin all/seed-0", "end all/seed-0"]


def test_one_driver_a_folder(stubs, capsys):
    Path("out").mkdir()
    with RunLock(Path("out")):
        assert ablate() == 2
    assert "another process is at work in it" in capsys.readouterr().err
    assert [path.name for path in Path("out").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--epochs", "7"], "all/seed-0: phases.0.epochs 30 there, 7 here"),
        (["--data.limit-train", "64"], "all/seed-0: data.limit_train None there, 64 here"),
        (["--name", "other"], "is of the ablation 'digits-parts'"),
        (["--arms", "no-drop"], "Did you mean 'no-dropout'"),
        (["--retries", "-1"], "--retries: must be at least 0. Received: -1"),
        (["--gpus-per-trial", "1"], "--gpus-per-trial: goes with --engine ray"),
        (["--model.options.features", "8", "8", "8", "8", "8"], "arm all: pictures of 28x28 are too small"),
        (["--data.source", "npz", "--data.path", "nowhere"], "nowhere"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(flags, said, stubs, capsys):
    assert ablate("--seeds", "1", "--arms", "all") == 0
    before = files()
    capsys.readouterr()
    assert ablate("--seeds", "1", *flags) == 2
    assert said in capsys.readouterr().err
    assert files() == before


def test_trials_of_other_data_or_code_are_kept_until_asked(stubs, monkeypatch, capsys):
    assert ablate("--seeds", "1", "--arms", "all", "no-*n") == 0
    environment = Path("out/all/seed-0/environment.json")
    document = json.loads(environment.read_text())
    document["packages"]["jax"] = "0.9.0"
    environment.write_text(json.dumps(document))
    before = run_files()
    assert ablate("--seeds", "1", "--arms", "all") == 0
    said = capsys.readouterr().err
    assert "warning: the code is not that of 1 trials here: jax 0.9.0 there, " in said
    assert run_files() == before
    assert read_plan("out").trials[0].digest == read_identity("out/all/seed-0").digest
    document["data_fingerprint"] = "f" * 64
    environment.write_text(json.dumps(document))
    assert ablate("--seeds", "1") == 2
    assert "all/seed-0: fingerprint ffffffffffff there, " in capsys.readouterr().err
    assert ablate("--seeds", "1", "--dry-run") == 2
    assert "all/seed-0: fingerprint ffffffffffff there, " in capsys.readouterr().err
    assert ablate("--seeds", "1", "--dry-run", "--rerun") == 0
    assert "3 of 4 trials to run" in capsys.readouterr().out
    assert ablate("--seeds", "1", "--arms", "all", "no-*n", "--rerun") == 0
    assert "out/all/seed-0: moved to out/replaced/all/seed-0" in capsys.readouterr().err
    assert json.loads(Path("out/replaced/all/seed-0/environment.json").read_text()) == document
    assert notes() == [f"{what} {arm}/seed-0" for arm in ("all", "no-augmentation", "all") for what in ("begin", "end")]


def test_a_changed_source_is_another_digest(stubs, monkeypatch):
    assert ablate("--seeds", "1", "--arms", "all") == 0
    here = read_identity("out/all/seed-0")
    there = identity.Identity(here.run, here.data, {**here.code, "source": "0" * 64})
    assert there.digest != here.digest
    assert identity.differences(there, here).code[0].startswith("jaxvision's source 000000000000")
    assert identity.Identity(here.run, "other", here.code).digest != here.digest
    assert identity.differences(here, here) == identity.Differences()


@pytest.mark.parametrize("change", [{"weights": "b.h5"}, {"weights": None, "init_from": "runs/b"}])
def test_what_a_run_starts_from_makes_another_trial(change):
    run = Run(model=Model(weights="a.h5"))
    here = identity.Identity(run, "data", {})
    other = identity.Identity(replace(run, model=replace(run.model, **change)), "data", {})
    assert "model.weights 'a.h5' there" in identity.differences(here, other).config[0]
    assert here.digest != other.digest
    moved = identity.Identity(replace(run, data=Data(path="elsewhere", cache="off")), "data", {})
    assert identity.differences(here, moved) == identity.Differences()


@pytest.mark.parametrize(("file", "content"), [("config.json", "{"), ("environment.json", None)])
def test_a_finished_trial_that_nobody_knows_is_refused(file, content, stubs, capsys):
    assert ablate("--seeds", "1", "--arms", "all") == 0
    path = Path("out/all/seed-0", file)
    path.unlink() if content is None else path.write_text(content)
    before = files()
    assert ablate("--seeds", "1", "--arms", "all") == 2
    assert f"all/seed-0: {file} cannot be read" in capsys.readouterr().err
    assert files() == before
    assert ablate("--seeds", "1", "--arms", "all", "--rerun") == 0
    assert Path("out/replaced/all/seed-0/result.json").exists()
    assert notes() == ["begin all/seed-0", "end all/seed-0"] * 2
    assert read_plan("out").trials[0].digest == read_identity("out/all/seed-0").digest


def test_a_damaged_result_is_no_end(stubs, capsys):
    assert ablate("--seeds", "1", "--arms", "all") == 0
    result = Path("out/all/seed-0/result.json")
    result.write_text("")
    assert ablate("--seeds", "1", "--arms", "all", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "1 failed" in said
    assert "1 of 4 trials to run" in said
    assert ablate("--seeds", "1", "--arms", "all") == 0
    assert read_result(result.parent).test == {"accuracy": 0.25}
    # Out of the way first: `jaxvision train --resume` stops at a damaged one.
    assert result.with_name("result.json.damaged").read_text() == ""


def test_rerun_is_for_the_arms_asked_for_and_waits_for_who_is_at_work(stubs, monkeypatch, capsys):
    arms = ["--arms", "all", "no-cosine"]
    assert ablate("--seeds", "1", *arms) == 0
    other = ["--seeds", "1", "--epochs", "7"]
    assert ablate(*other, "--dry-run") == 2
    assert "all/seed-0: phases.0.epochs 30 there, 7 here" in capsys.readouterr().err
    assert ablate(*other, *arms, "--dry-run", "--rerun") == 0
    assert "2 of 4 trials to run" in capsys.readouterr().out
    folder, found = Path("out/all/seed-0"), []
    (folder / ".lock").write_text("4711\n")
    with Path("out/logs/all/seed-0.log").open() as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        said_who = trial._at_work

        def told(run_dir) -> str:
            found.append((folder / "result.json").exists())
            fcntl.flock(log, fcntl.LOCK_UN)  # it ends
            return said_who(run_dir)

        monkeypatch.setattr(trial, "_at_work", told)
        assert ablate(*other, "--rerun", "--arms", "all") == 0
    assert found == [True]
    said = capsys.readouterr().err
    assert said.count("all, seed 0: waits for process 4711") == 1
    assert "warning: the configuration or data are not those of 1 trials here: phases.0.epochs 30 there, 7 here" in said
    assert [path.name for path in Path("out/replaced").iterdir()] == ["all"]
    assert Path("out/no-cosine/seed-0/result.json").exists()
    assert notes().count("begin no-cosine/seed-0") == 1


def test_code_that_changes_under_way_is_told_once(stubs, capsys):
    sweep_stub.tell(
        {**prepare.code_version(), "source": "0" * 64, "data_fingerprint": open_dataset(Data()).fingerprint}
    )
    assert ablate("--seeds", "1", "--arms", "all", "no-cosine") == 0
    said = capsys.readouterr().err
    assert said.count("warning: the code has changed since this sweep began: all, seed 0: jaxvision's source 0000") == 1
    assert said.count("the code has changed") == 1


def test_data_is_opened_once(stubs, monkeypatch):
    opened = []
    monkeypatch.setattr(prepare, "open_dataset", lambda data: (opened.append(data), open_dataset(data))[1])
    assert ablate("--dry-run") == 0
    assert len(opened) == 1


def test_what_cannot_be_shown_ends_no_sweep(tmp_path):
    trial = PlannedTrial("a", 0, "a/seed-0", "")
    plan = Plan("x", "", "grid", "a", {}, (0,), (PlannedArm("a", {}, {}),), (trial,))
    (tmp_path / "a/seed-0").mkdir(parents=True)
    (tmp_path / "a/seed-0/config.json").write_text("{")
    (tmp_path / "a/seed-0/metrics.jsonl").touch()
    console = Console(file=io.StringIO(), force_terminal=True)
    with Progress(tmp_path, plan, [trial], console, ended=lambda trial: None):
        pass
    assert "begun" in console.file.getvalue()
    ticks = []
    with ray_engine._Watch(lambda: len(ticks) > 1, lambda: (ticks.append(0), 1 / 0), tmp_path / "stop"):
        wait_for((tmp_path / "stop").exists)


@pytest.mark.parametrize(("out", "said"), [("file/x", "file is no folder"), ("/proc/x", "/proc/x: cannot be ")])
def test_folders_that_cannot_be_made(out, said, stubs, capsys):
    Path("file").touch()
    assert main(["ablate", "digits-parts", "--out", out, "--seeds", "1"]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in Path.cwd().iterdir()] == ["file"]


def test_a_file_where_logs_go(stubs, capsys):
    assert ablate("--seeds", "1", "--arms", "all") == 0
    shutil.rmtree("out/logs")
    Path("out/logs").touch()
    assert ablate("--seeds", "1") == 2
    assert "out/logs" in capsys.readouterr().err


def test_texts_are_no_markup(stubs, capsys):
    Path("mine.py").write_text(
        "from jaxvision.ablation import Ablation\nfrom jaxvision.experiments import load_run\n"
        "MINE = Ablation(load_run('digits'), {'d': {'model.options.dropout': 0.0}}, 'grid', summary='Bold [/b]?')\n"
    )
    assert main(["ablate", "mine.py", "--dry-run"]) == 0
    assert "Bold [/b]?" in capsys.readouterr().out


def test_every_end_has_a_name():
    assert trial._end(-signal.SIGKILL).startswith("killed by SIGKILL, ")
    assert trial._end(-40) == "killed by signal 40"


def test_a_first_level_is_the_base_or_refused():
    for entry in list_ablations().values():
        prepare.require_defaults(entry.ablation)
    levels = {"stride": {"model.options.downsample": "stride"}, "max": {"model.options.downsample": "max"}}
    wrong = Ablation(Run(name="x"), {"pooling": Factor(levels)}, "grid")
    with pytest.raises(ConfigError, match=r"factor 'pooling', level 'stride': .* convnet-mnist has downsample 'max'"):
        prepare.require_defaults(wrong)


def test_a_dry_run_writes_nothing(stubs, tmp_path, capsys):
    assert ablate("--dry-run") == 0
    assert "12 of 12 trials to run, in out" in capsys.readouterr().out
    assert list(Path.cwd().iterdir()) == []


def test_a_folder_of_something_else_is_left_alone(stubs, capsys):
    Path("out").mkdir()
    Path("out/mine.txt").touch()
    assert ablate() == 2
    assert "already there, and not an ablation's" in capsys.readouterr().err
    assert [path.name for path in Path("out").iterdir()] == ["mine.txt"]


def test_real_trials(tmp_path, monkeypatch):
    """The whole way once: training in processes of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    tiny = ["--seeds", "1", "--arms", "all", "--epochs", "1", "--data.limit-train", "64"]
    tiny += ["--model.options.features", "2", "3"]
    assert ablate(*tiny) == 0
    assert read_result("out/all/seed-0").test["accuracy"] >= 0
    command = json.loads(Path("out/all/seed-0/environment.json").read_text())["command"]
    assert command == ["jaxvision", "train", "out/configs/all/seed-0.json", "--run-dir", "out/all/seed-0", "--resume"]
    assert "first step done" in Path("out/logs/all/seed-0.log").read_text()
    # What the trial wrote of itself is what the next sweep looks for.
    before = run_files()
    assert ablate(*tiny) == 0
    assert run_files() == before


@pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")
def test_a_trial_stops_when_its_sweep_is_killed(tmp_path):
    child = "import os, signal, sys, time; from jaxvision.sweep.child import stop_with_parent\n"
    child += "signal.signal(signal.SIGTERM, lambda *_: (open('stopped', 'w').close(), os._exit(0)))\n"
    child += "stop_with_parent(int(sys.argv[1])); open('ready', 'w').close(); time.sleep(60)"
    parent = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, str(os.getpid())])"
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=tmp_path, env=environment)
    wait_for((tmp_path / "ready").exists)
    process.kill()
    process.wait()
    wait_for((tmp_path / "stopped").exists)
    late = subprocess.run([sys.executable, "-m", "jaxvision.sweep.child", "1", "--help"], cwd=tmp_path, env=environment)
    assert late.returncode == 143  # its parent, said to be another, is gone


def test_plans_are_read_as_written(tmp_path, stubs):
    assert ablate("--arms", "no-cosine", "--seeds", "1") == 0
    plan = read_plan("out")
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
    document = json.loads((tmp_path / "ablation.json").read_text())
    for damage, said in (
        (document | {"schema_version": 2}, "schema_version"),
        (document | {"trials": 3}, "damaged"),
        ([], "damaged"),
    ):
        (tmp_path / "ablation.json").write_text(json.dumps(damage))
        with pytest.raises(RunFolderError, match=said):
            read_plan(tmp_path)
    with pytest.raises(RunFolderError, match=r"has no ablation\.json"):
        read_plan(tmp_path / "none")


def test_without_the_extra_ray_is_asked_for(stubs, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: None)
    assert ablate("--engine", "ray") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "pip install 'jaxvision[sweep]'" in said
    assert list(Path.cwd().iterdir()) == []


def places(names: dict[str, str]) -> dict[str, list[str]]:
    """{trial: the nodes of its attempts}, by the logs."""
    found = {}
    for log in Path("out/logs").rglob("*.log"):
        heads = [line.split() for line in log.read_text().splitlines() if line.startswith("---")]
        found["/".join(log.with_suffix("").parts[-2:])] = [names[head[head.index("node") + 1]] for head in heads]
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("only_ray")
def test_ray_places_trials_by_resources_retries_and_heeds_signals(stubs, monkeypatch, capsys):
    """On a cluster of three machines, as Ray fakes it: of 1 core, of 2, and of 1 with a GPU and TPU chips."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes = {"small": cluster.head_node, "large": cluster.add_node(num_cpus=2)}
    nodes["accelerated"] = cluster.add_node(num_cpus=1, num_gpus=1, resources={"TPU": 4})
    names = {node.node_id: name for name, node in nodes.items()}
    ray = ["--engine", "ray", "--address", cluster.address]
    try:
        ends = {"all/seed-0": ["kill"], "no-dropout/seed-0": ["refuse"], "no-cosine/seed-0": ["raise", "raise"]}
        stubs(ends=ends)
        assert ablate(*ray, "--seeds", "1", "--gpus-per-trial", "0", "--cpus-per-trial", "2") == 1
        attempts = {"all": 2, "no-augmentation": 1, "no-dropout": 1, "no-cosine": 2}
        assert places(names) == {f"{arm}/seed-0": ["large"] * count for arm, count in attempts.items()}
        assert {arm: notes().count(f"begin {arm}/seed-0") for arm in TRIALS} == attempts
        states = [trial_state("out", trial) for trial in read_plan("out").trials]
        assert states == ["finished", "finished", "failed", "failed"]
        before = run_files()
        # None said: a GPU each, since a machine has one.
        arms = ["--arms", "all", "no-augmentation"]
        stubs(seconds=1)
        assert ablate(*ray, "--seeds", "2", *arms, "--tpus-per-trial", "2") == 0
        for arm in arms[1:]:
            assert places(names)[f"{arm}/seed-1"] == ["accelerated"]
        assert ablate(*ray, "--seeds", "3", "--cpus-per-trial", "3") == 2
        said = capsys.readouterr()
        there = "Machines have 1 CPU, 0 GPU, 0 TPU; 1 CPU, 1 GPU, 4 TPU; 2 CPU, 0 GPU, 0 TPU. Received: 3 CPU, 1 GPU"
        assert there in " ".join(said.err.split())
        assert said.out == "its report: jaxvision report out\n" * 2
        # Two at once, and both save.
        stubs(seconds=1000)
        thread = threading.Thread(target=stop_when_begun, args=[f"begin {arm}/seed-2" for arm in arms[1:]])
        thread.start()
        assert ablate(*ray, "--seeds", "3", *arms, "--gpus-per-trial", "0") == 143
        thread.join()
        assert {note for note in notes() if "saved" in note} == {f"saved {arm}/seed-2" for arm in arms[1:]}
        assert "2 of 6 trials are left" in capsys.readouterr().err
        assert {path: run_files()[path] for path in before} == before
        assert not Path("out/.stop").exists()
        assert not Path("out/.ray").exists()
    finally:
        cluster.shutdown()


def stop_when_begun(*lines: str) -> None:
    wait_for(lambda: set(lines) <= set(notes()))
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


def test_an_address_where_nothing_answers(stubs, capsys):
    pytest.importorskip("ray")
    assert ablate("--engine", "ray", "--address", "127.0.0.1:1") == 2
    assert "no Ray cluster answers there" in " ".join(capsys.readouterr().err.split())


def test_states(tmp_path):
    trial = PlannedTrial("a", 0, "a/seed-0", "")
    assert trial_state(tmp_path, trial) == "missing"
    for file, state in (
        ("a/seed-0/config.json", "begun"),
        ("failed/a/seed-0.txt", "failed"),
        ("a/seed-0/result.json", "finished"),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
        assert trial_state(tmp_path, trial) == state
