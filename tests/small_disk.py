"""Run in a mount namespace of its own by test_faults_run.py: trains on a disk of 4 KB, 2.6 MB and 60 MB, read-only and
not. Prints what each command returned and said, as JSON."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path

from jaxvision.cli import main

FLAGS = ["--data.limit-train", "96", "--epochs", "3", "--checkpoint.every-minutes", "0"]
DISK = Path("/mnt")


def mount(options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(DISK)], check=True)


def train(run_dir: Path, *flags: str) -> None:
    command(run_dir, "train", "digits", *FLAGS, "--run-dir", str(run_dir), *flags)


def command(run_dir: Path, *arguments: str) -> None:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(list(arguments))
    here = sorted(path.name for path in run_dir.iterdir()) if run_dir.is_dir() else None
    states = sorted(path.name for path in run_dir.glob("training/*"))
    outcomes.append({"code": code, "said": said.getvalue(), "files": here, "states": states})


outcomes: list[dict] = []
whole, run = Path(sys.argv[1]), DISK / "run"
train(whole)
mount("size=4k")
train(run)
mount("remount,size=2600k")
train(run, "--resume")
train(run, "--resume")
mount("remount,ro,size=60m")
train(run, "--resume")
train(DISK / "other")
mount("remount,rw,size=60m")
train(run, "--resume")
same = (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
mount("remount,ro")
command(run, "evaluate", str(run))
print(json.dumps({"outcomes": outcomes, "same": same}))
