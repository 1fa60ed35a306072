"""The net under every change of the training code: small runs keep their numbers, bit for bit.

    python tests/same_bits.py BASE [--only CASE ...] [--keep FOLDER]

trains the same small runs with the code of the git revision BASE and with that of the working tree, on this machine and
with this Python's packages, and compares what each run leaves: every byte of metrics.jsonl and every bit of the best
checkpoint's parameters. It exits with 1 and names the first differences where there are any.

The cases reach the code by the command line and by config files alone, so they outlive any rebuilding behind these.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

HERE = Path(__file__).parents[1]

Config = dict[str, Any]

RESIDUAL = {"name": "residual-convnet", "options": {"features": [4, 8], "dropout": 0.5}}
NORMED = {"name": "residual-convnet", "options": {"features": [4, 8], "dropout": 0.5, "batch_norm": True}}
FOLDER = {"source": "folder", "path": "folder", "image_size": [32, 32], "batch_size": 16, "validation_fraction": 0.25}
EVERYTHING: Config = {
    "data": FOLDER,
    "model": NORMED,
    "augment": {"flip": "horizontal", "rotation": 0.1, "zoom": 0.2, "brightness": 0.1, "mixup": 0.2},
    "phases": [
        {"epochs": 2, "optimizer": {"name": "adam", "learning_rate": 0.01}},
        {"epochs": 2, "optimizer": {"name": "sgd", "momentum": 0.9, "learning_rate": 0.05}, "start": "last"},
    ],
    "ema_decay": 0.8,
}
"""Dropout, augmentation, BatchNorm, averaged weights, two phases; a short last batch, on files."""

CASES: dict[str, Config] = {
    "digits": {
        "data": {"source": "digits", "batch_size": 64, "limit_train": 400},
        "model": {"name": "convnet-mnist", "options": {"dropout": 0.3}},
        "augment": {"rotation": 0.03, "zoom": 0.1, "translation": 0.05},
        "phases": [{"epochs": 3, "optimizer": {"name": "adam", "learning_rate": 0.01}, "schedule": {"name": "cosine"}}],
    },
    "book": {
        "data": {"source": "digits", "limit_train": 300},
        "model": {"name": "convnet-mnist-no-pooling", "options": {}},
        "conv": "lax",
        "phases": [{"epochs": 2}],
    },
    "freezing": {
        "data": FOLDER,
        "model": NORMED,
        "phases": [
            {"epochs": 2, "trainable": ["head"]},
            {
                "epochs": 2,
                "trainable": ["head", "base[-1:]"],
                "groups": [{"pattern": "head", "learning_rate_scale": 0.5}],
                "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True, "learning_rate": 0.02},
            },
            {"epochs": 1, "batch_norm": "trained", "optimizer": {"learning_rate": 0.0001}},
        ],
    },
    "segmentation": {
        "task": "segmentation",
        "data": {"source": "shapes", "target": "mask", "batch_size": 16, "limit_train": 72, "limit_validation": 40,
                 "limit_test": 20, "ignore_label": 2},
        "model": {"name": "segmenter", "options": {"features": [8, 16]}},
        "augment": {"flip": "both", "rotation": 0.1, "zoom": 0.1, "crop_padding": 4},
        "loss": {"dice": 1.0, "class_weights": [1.0, 2.0, 0.0]},
        "checkpoint": {"monitor": "validation/mean_iou", "direction": "max"},
        "phases": [{"epochs": 3, "optimizer": {"name": "adam", "learning_rate": 0.004}}],
    },
    "multilabel": {
        "task": "multilabel",
        "data": {"source": "csv", "path": "labels.csv", "image_size": [32, 32], "batch_size": 16,
                 "validation_fraction": 0.25},
        "model": RESIDUAL,
        "loss": {"label_smoothing": 0.1, "class_weights": [1.0, 3.0, 2.0]},
        "checkpoint": {"monitor": "validation/average_precision", "direction": "max"},
        "phases": [{"epochs": 3}],
    },
    "everything": {**EVERYTHING, "evaluation": {"every_steps": 2, "batch_size": 7}},
    "accumulated": {**EVERYTHING, "accumulate": 4, "model": RESIDUAL},
    "accumulated-norm": {**EVERYTHING, "accumulate": 4},
    "streamed": {**EVERYTHING, "data": {**FOLDER, "residence": "stream", "cache": "off"}},
    "stopped": {**EVERYTHING, "checkpoint": {"every_minutes": 0.0}},
    "schedules": {
        "data": {"source": "shapes", "target": "label", "batch_size": 32, "limit_train": 160, "limit_validation": 64,
                 "limit_test": 64, "image_size": [32, 32]},
        "model": {"name": "convnet-mnist", "options": {}},
        "augment": {"contrast": 0.3, "cutmix": 1.0},
        "loss": {"label_smoothing": 0.1},
        "early_stop": {"patience": 2, "min_delta": 0.01},
        "phases": [
            {
                "epochs": 8,
                "optimizer": {"name": "adamw", "weight_decay": 0.05, "clip_norm": 0.5, "learning_rate": 0.003},
                "schedule": {"name": "step", "warmup_epochs": 1.0, "step_epochs": [2.0, 4.0]},
            }
        ],
    },
    "bfloat16": {
        "data": {"source": "digits", "limit_train": 300},
        "model": {"name": "residual-convnet", "options": {"features": [4, 8]}},
        "precision": "bfloat16",
        "rematerialize": "blocks",
        "loss": {"two_logits": False},
        "phases": [{"epochs": 2}],
    },
    "several-steps": {
        "data": {"source": "digits", "limit_train": 300, "batch_size": 32},
        "model": {"name": "dense-mnist", "options": {"features": [32]}},
        "steps_per_dispatch": 4,
        "phases": [{"epochs": 2}],
    },
    "features": {**EVERYTHING, "model": {**NORMED, "init_from": "runs/everything"}, "ema_decay": None,
                 "augment": {}, "cache_features": "all", "phases": [{"epochs": 2, "trainable": ["head"]}]},
    "devices": EVERYTHING,
    "processes": {**EVERYTHING, "data": {**FOLDER, "residence": "stream"}},
    "seeds": {
        "data": {"source": "digits", "limit_train": 200, "batch_size": 64},
        "model": {"name": "convnet-mnist", "options": {"dropout": 0.3}},
        "phases": [{"epochs": 2}],
    },
}  # fmt: skip
"""Names of runs and what they are. `stopped`, `devices`, `processes` and `seeds` are also started in their own way."""

TRAIN_ALL = """
import json, sys
from jaxvision.cli import main
for arguments in json.loads(sys.argv[1]):
    code = main(arguments)
    assert code == 0, (arguments, code)
"""
"""One process for the cases that need none of their own: to import and start takes longer than such a run."""


def write_data(folder: Path) -> None:
    """Two classes of 44 PNG images each, a table of labels, and a config file for each case."""
    rng = np.random.default_rng(0)
    rows = ["file,round,red,large"]
    for label, name in enumerate(("disk", "stripe")):
        (folder / "folder" / name).mkdir(parents=True)
        for number in range(44):
            size = int(rng.integers(28, 40))
            across = np.indices((size, size)) - size / 2
            shape = np.hypot(*across) < size / 3 if label == 0 else np.sin(across[0] * rng.uniform(0.5, 1)) > 0
            color = rng.integers(0, 256, 3)
            pixels = np.where(shape[..., None], color, 255 - color) + rng.integers(-20, 20, (size, size, 3))
            path = folder / "folder" / name / f"{number}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            red, large = int(color[0] > 127), int(size > 33)
            rows.append(f"{path.relative_to(folder)},{1 - label},{red},{large}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    for name, config in CASES.items():
        (folder / f"{name}.json").write_text(json.dumps({"name": name, "schema_version": 1, **config}))


def train(code: Path, folder: Path, names: Sequence[str]) -> None:
    """Trains the cases with the package in `code`. Leaves FOLDER/runs/NAME and FOLDER/weights/NAME.safetensors."""
    write_data(folder)
    (folder / "weights").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(code), "JAXVISION_CACHE": str(folder / "cache")}
    environment.pop("XLA_FLAGS", None)

    def start(*arguments: str, **more: str) -> subprocess.Popen:
        log = (folder / "log.txt").open("a")
        return subprocess.Popen(arguments, cwd=folder, env={**environment, **more}, stdout=log, stderr=log)

    def finish(process: subprocess.Popen, allowed: Sequence[int] = (0,)) -> None:
        if process.wait(1200) not in allowed:
            raise SystemExit(f"{folder / 'log.txt'} says why a run failed, with exit code {process.returncode}")

    def of(name: str) -> list[str]:
        return ["train", f"{name}.json", "--run-dir", f"runs/{name}"]

    jaxvision = (sys.executable, "-m", "jaxvision")
    alone = [name for name in names if name not in ("stopped", "devices", "processes", "seeds")]
    calls = [of(name) for name in alone]
    calls += [[*of("seeds"), "--seeds", "3"]] if "seeds" in names else []
    finish(start(sys.executable, "-c", TRAIN_ALL, json.dumps(calls)))
    if "devices" in names:
        finish(start(*jaxvision, *of("devices"), XLA_FLAGS="--xla_force_host_platform_device_count=2"))
    if "processes" in names:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        for process in [
            start(*jaxvision, *of("processes"), "--distributed", address, "--num-processes", "2", "--process-id", place)
            for place in "01"
        ]:
            finish(process)
    if "stopped" in names:
        for stop in (signal.SIGKILL, signal.SIGTERM):
            process = start(*jaxvision, *of("stopped"), "--resume")
            wait_for_new_state(folder / "runs" / "stopped" / "training", process)
            process.send_signal(stop)
            finish(process, (0, -signal.SIGKILL, 128 + signal.SIGTERM))
        finish(start(*jaxvision, *of("stopped"), "--resume"))
    runs = [path.parent.relative_to(folder) for path in sorted((folder / "runs").rglob("result.json"))]
    runs = [run for run in runs if (folder / run / "metrics.jsonl").exists()]
    exports = [["export", str(run), "--to", "safetensors", "--out", weights_of(run)] for run in runs]
    finish(start(sys.executable, "-c", TRAIN_ALL, json.dumps(exports)))


def weights_of(run: Path) -> str:
    """The file of a run's parameters, from the folder that holds runs/ and weights/."""
    return f"weights/{'-'.join(run.parts[1:])}.safetensors"


def wait_for_new_state(states: Path, process: subprocess.Popen) -> None:
    """Until the run has saved a training state that was not there before, or has ended."""
    before = set(states.iterdir()) if states.is_dir() else set()
    while process.poll() is None and not (states.is_dir() and set(states.iterdir()) - before):
        time.sleep(0.01)


def differences(first: Path, second: Path) -> list[str]:
    """What the runs below the two folders left otherwise: a sentence each, none where all bits are the same."""
    left, right = (
        {path.relative_to(side).parent for path in side.rglob("runs/**/metrics.jsonl")} for side in (first, second)
    )
    found = [f"{run}: only one side has it" for run in sorted(left ^ right)]
    for run in sorted(left & right):
        lines = [(side / run / "metrics.jsonl").read_text().splitlines() for side in (first, second)]
        for number, pair in enumerate(zip(*lines, strict=False), start=1):
            if pair[0] != pair[1]:
                found.append(f"{run}: metrics.jsonl differs first in line {number}:\n  {pair[0]}\n  {pair[1]}")
                break
        else:
            if len(lines[0]) != len(lines[1]):
                found.append(f"{run}: metrics.jsonl has {len(lines[0])} and {len(lines[1])} lines")
        found += different_tensors(run, *(load_file(side / weights_of(run)) for side in (first, second)))
    return found if left | right else ["there are no runs to compare"]


def different_tensors(run: Path, ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> list[str]:
    """A sentence on the tensors that are not the same to the bit, if any."""
    if names := sorted(set(ours) ^ set(theirs)):
        return [f"{run}: only one side has the tensor {names[0]} ({len(names)} such)"]
    unlike = [name for name in ours if ours[name].tobytes() != theirs[name].tobytes()]
    if not unlike:
        return []
    most = max(float(np.max(np.abs(ours[name].astype(np.float64) - theirs[name]), initial=0)) for name in unlike)
    return [f"{run}: {len(unlike)} of {len(ours)} tensors differ, such as {unlike[0]}, by at most {most:.3g}"]


def code_of(revision: str, folder: Path) -> Path:
    """The tree of a git revision, written into the folder."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", revision], cwd=HERE, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def compare(revision: str, folder: Path, names: Sequence[str] = tuple(CASES)) -> list[str]:
    """Trains the cases with both codes; the differences (see `differences`)."""
    if "features" in names and "everything" not in names:
        names = ["everything", *names]
    sides = {"base": code_of(revision, folder / "code"), "head": HERE}
    for side, code in sides.items():
        (folder / side).mkdir()
        train(code, folder / side, names)
    return differences(folder / "base", folder / "head")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="a git revision")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder that keeps both sides' runs")
    arguments = parser.parse_args()
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="same-bits-"))
    folder.mkdir(exist_ok=True)
    found = compare(arguments.base, folder, arguments.only)
    print("\n".join(found) or f"{len(arguments.only)} cases: metrics and parameters are the same to the bit")
    if arguments.keep is None:
        shutil.rmtree(folder)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
