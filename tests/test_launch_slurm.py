"""The job of launch/slurm.sh, with an srun that runs its command here; once with a training that is stopped."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launch_stubs import LAUNCH, Stubs, make_stubs, wait_for

JOB = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "node[1-2]"}
SRUN = """
while [[ $1 == --* ]]; do case $1 in --*=*) shift ;; *) shift 2 ;; esac; done
worst=0
for ((task = 0; task < SLURM_NTASKS; task++)); do SLURM_PROCID=$task "$@" & tasks+=($!); done
for pid in "${tasks[@]}"; do wait "$pid"; code=$?; [ "$code" -le "$worst" ] || worst=$code; done
exit "$worst"
"""
"""Runs its command once for each task, and ends as srun does, with the highest code."""
RAY = """
while [ "$1" != -- ]; do shift; done
shift
"$@"
"""


@pytest.fixture
def stubs(tmp_path: Path) -> Stubs:
    stubs = make_stubs(tmp_path)
    stubs.says("srun", SRUN)
    stubs.says("ray", RAY)
    return stubs


def job(
    stubs: Stubs, verb: str, *flags: str, restarts: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """What sbatch would start on the first node."""
    words = ("3", str(stubs.folder / "jaxvision"), verb, "name", "/runs/x", *flags)
    return stubs.run("slurm-job.sh", *words, **{**JOB, "SLURM_RESTART_COUNT": str(restarts), **environment})


def requeued(stubs: Stubs) -> bool:
    return ["scontrol", "requeue", "7"] in stubs.calls


def test_the_job_is_submitted_with_what_was_said(stubs: Stubs):
    words = ["train", "mnist", "--run-dir", f"{stubs.folder}/runs/mnist", "--nodes", "2", "--gpus-per-node", "8"]
    assert stubs.run("slurm.sh", *words, "--time", "1-00:00:00", "--", "--epochs", "3").returncode == 0
    [sbatch] = stubs.calls
    text = " ".join(sbatch)
    assert "--nodes 2 --time 1-00:00:00 --ntasks-per-node 8 --gpus-per-node 8" in text
    assert sbatch[-4:] == ["mnist", f"{stubs.folder}/runs/mnist", "--epochs", "3"]
    assert (stubs.folder / "runs").is_dir()
    (stubs.folder / "calls").unlink()
    stubs.run("slurm.sh", "ablate", "parts", *words[2:])
    assert "--ntasks-per-node 1 --exclusive --gpus-per-node 8" in " ".join(stubs.calls[0])


def test_each_task_joins_the_run_and_a_lone_one_does_not(stubs: Stubs):
    stubs.says("jaxvision", 'echo "$SLURM_PROCID" >>"$folder/tasks"')
    assert job(stubs, "train", "--epochs", "3", SLURM_NTASKS="2", SLURM_CPUS_PER_TASK="4").returncode == 0
    command = [str(stubs.folder / "jaxvision"), "train", "name", "--run-dir", "/runs/x", "--resume", "--epochs", "3"]
    joined = [*command, "--distributed", "auto"]
    assert stubs.calls == [["srun", "--wait=300", *joined], *[["jaxvision", *joined[1:]]] * 2]
    assert sorted((stubs.folder / "tasks").read_text().split()) == ["0", "1"]
    (stubs.folder / "calls").unlink()
    assert job(stubs, "train", "--epochs", "3").returncode == 0
    assert stubs.calls == [["srun", "--wait=300", *command], ["jaxvision", *command[1:]]]


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [(0, 0, False), (2, 0, False), (1, 0, True), (137, 2, True), (143, 0, True), (143, 3, False), (1, 3, False)],
)
def test_it_queues_again_unless_done_refused_or_tried_often(stubs: Stubs, code: int, restarts: int, again: bool):
    stubs.ends("jaxvision", code)
    assert job(stubs, "train", restarts=restarts).returncode == code
    assert requeued(stubs) is again


@pytest.mark.parametrize(("code", "again"), [(0, False), (1, False), (2, False), (143, True)])
def test_a_sweep_s_own_exit_code_counts(stubs: Stubs, code: int, again: bool):
    stubs.ends("jaxvision", code)
    assert job(stubs, "ablate", "--seeds", "2").returncode == code
    assert requeued(stubs) is again
    ray, sweep = stubs.calls[2][1:], stubs.calls[3]
    assert ray[: ray.index("--")] == [
        "symmetric-run", "--address", "node1:20007", "--min-nodes", "1", "--num-cpus", "1", "--num-gpus", "0",
    ]  # fmt: skip
    options = ["--engine", "ray", "--address", "auto", "--out", "/runs/x", "--seeds", "2"]
    assert sweep == ["jaxvision", "ablate", "name", *options]


def test_a_ray_that_did_not_start_is_not_success(stubs: Stubs):
    stubs.says("ray", "echo 'Failed to start Ray' >&2")  # and symmetric-run ends with 0
    assert job(stubs, "ablate").returncode == 255
    assert requeued(stubs)


def test_before_the_time_limit_a_sweep_is_told_and_queues_again_however_often(stubs: Stubs):
    stubs.says("jaxvision", 'trap "exit 143" TERM; touch "$folder/up"; while true; do /bin/sleep 0.05; done')
    words = ["3", str(stubs.folder / "jaxvision"), "ablate", "name", "/runs/x"]
    environment = {**stubs.environment, **JOB, "SLURM_RESTART_COUNT": "99"}
    process = subprocess.Popen([LAUNCH / "slurm-job.sh", *words], env=environment, cwd=stubs.folder)
    wait_for(stubs.folder / "up")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 143
    assert requeued(stubs)


@pytest.mark.slow
def test_a_run_is_stopped_before_the_time_limit_and_gone_on_with(stubs: Stubs):
    """The path that a real job takes, with jaxvision itself: begun, told, saved, queued again, gone on with, done."""
    stubs.says("jaxvision", f'echo $$ >"$folder/pid"; exec {sys.executable} -m jaxvision "$@"')
    stubs.says("scancel", 'kill -TERM "$(cat "$folder/pid")"')
    flags = ["--epochs", "2", "--data.limit-train", "64", "--data.limit-validation", "32", "--data.limit-test", "32"]
    run_dir = stubs.folder / "run"
    words = ["3", str(stubs.folder / "jaxvision"), "train", "digits", str(run_dir), *flags]
    environment = {**stubs.environment, **JOB, "PYTHONPATH": str(LAUNCH.parent), "JAX_PLATFORMS": "cpu"}

    def start(restarts: int) -> subprocess.Popen[bytes]:
        environment["SLURM_RESTART_COUNT"] = str(restarts)
        return subprocess.Popen([LAUNCH / "slurm-job.sh", *words], env=environment, cwd=stubs.folder)

    process = start(0)
    wait_for(run_dir / "config.json")
    process.send_signal(signal.SIGUSR1)
    assert process.wait(120) == 143
    assert ["scancel", "--signal=TERM", "7"] in stubs.calls
    assert requeued(stubs)
    assert not (run_dir / "result.json").exists()
    assert start(1).wait(120) == 0
    assert (run_dir / "result.json").exists()
