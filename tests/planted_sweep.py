"""The folder of a sweep as trials leave it, with planted effects, without training: 3 x 2 arms of 3 seeds."""

import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxvision.config import Augment, Data, Model, Phase, Run
from jaxvision.report.plan import Plan, PlannedArm, PlannedTrial, write_plan
from jaxvision.train.folder import write_config
from jaxvision.train.result import Result, write_result

BASE = Run(
    name="planted",
    data=Data(source="folder", path="pictures", image_size=(90, 90), batch_size=32),
    augment=Augment(flip="horizontal", rotation=0.1, zoom=0.2),
    model=Model("convnet-dogs-vs-cats", {"dropout": 0.5}),
    phases=(Phase(epochs=20),),
)
FACTORS = {"augmentation": ("with", "without"), "dropout": ("0.5", "0.25", "none")}
EFFECTS = {"without": -0.06, "0.25": 0.001, "none": -0.012}
SEEDS = (0, 1, 2)
FAILED, MISSING = ("without-none", 1), ("with-0.25", 2)
MESSAGE = "NonFiniteLossError: phases.0: the training loss is not finite at step 812.\nReceived: nan\n<script>alert(1)"
EPOCHS = 20
ENVIRONMENT = {
    "started": "2026-11-22T08:26:45+00:00",
    "split_seed": 1337,
    "data_fingerprint": "f87f41eca0c84b6538baf689fa0f54e7484c04709f72c4a1f68815bfe9594d1b",
    "python": "3.11.7",
    "packages": {"jaxvision": "0.1.0", "jax": "0.10.2", "numpy": "2.4.6"},
    "backend": "cpu",
    "devices": ["cpu"],
    "cpu": "Intel(R) Xeon(R) Processor",
    "cpu_count": 2,
    "xla_flags": "",
    "git": {"commit": "b1b0895d3d7a031177b3cf1054d64389405f733d", "dirty": False},
}


def planted_run(levels: Mapping[str, str], seed: int) -> Run:
    """The run of an arm."""
    changes = {"dropout": {"0.5": 0.5, "0.25": 0.25, "none": 0.0}[levels["dropout"]]}
    augment = BASE.augment if levels["augmentation"] == "with" else Augment()
    return dataclasses.replace(BASE, seed=seed, augment=augment, model=Model(BASE.model.name, changes))


def planted_sweep(folder: Path, *, seeds: tuple[int, ...] = SEEDS, whole: bool = False) -> Path:
    """Writes it. whole: with neither a failed nor a missing trial."""
    random = np.random.default_rng(5)
    arms = []
    for combination in itertools.product(*FACTORS.values()):
        levels = dict(zip(FACTORS, combination, strict=True))
        changes = {} if levels["augmentation"] == "with" else {"augment.flip": "none", "augment.rotation": 0.0}
        changes |= {} if levels["dropout"] == "0.5" else {"model.options.dropout": planted_run(levels, 0).model.options}
        arms.append(PlannedArm("-".join(combination), levels, changes))
    trials = [PlannedTrial(arm.name, seed, f"{arm.name}/seed-{seed}", "0" * 8) for arm in arms for seed in seeds]
    folder.mkdir(parents=True)
    summary = "What does the convnet owe to augmentation, what to dropout, and do they do the same?"
    write_plan(folder, Plan("augmentation-x-dropout", summary, "grid", arms[0].name, FACTORS, seeds, arms, trials))
    for trial in trials:
        levels = next(arm.levels for arm in arms if arm.name == trial.arm)
        accuracy = 0.81 + sum(EFFECTS.get(level, 0.0) for level in levels.values())
        accuracy += 0.004 * trial.seed + random.normal(0, 0.004)
        if (trial.arm, trial.seed) == FAILED and not whole:
            message = folder / "failed" / f"{trial.folder}.txt"
            message.parent.mkdir(parents=True)
            message.write_text(MESSAGE)
        elif (trial.arm, trial.seed) != MISSING or whole:
            finished_trial(folder / trial.folder, planted_run(levels, trial.seed), accuracy, random)
    return folder


def finished_trial(
    folder: Path, run: Run, accuracy: float, random: np.random.Generator, *, test: bool = False, **environment
) -> Path:
    """A run folder with curves that end near this validation (and test) accuracy."""
    folder.mkdir(parents=True)
    write_config(folder, run)
    (folder / "environment.json").write_text(json.dumps({**ENVIRONMENT, "seed": run.seed, **environment}))
    overfits = 0.15 if run.augment == Augment() else 0.02
    metrics, timing = [], []
    for epoch in range(1, EPOCHS + 1):
        shown = 0.55 + (accuracy - 0.55) * (1 - np.exp(-epoch / 4)) + random.normal(0, 0.006)
        trained = shown + overfits * (epoch / EPOCHS) ** 0.7
        place = {"phase": 0, "epoch": epoch, "step": 63 * epoch}
        metrics.append({
            **place, "train/loss": 0.7 - trained / 2, "train/accuracy": trained, "learning_rate": 1e-3,
            "validation/loss": 0.9 - shown / 2, "validation/accuracy": shown,
        })  # fmt: skip
        seconds = 20.0 + random.normal()
        timing.append({**place, "seconds": seconds, "images_per_second": 2000 / seconds, "data_wait_share": 0.0})
    for name, lines in (("metrics", metrics), ("timing", timing)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    measured = {"loss": 0.45, "accuracy": float(accuracy)}
    result = Result(
        name=run.name, seed=run.seed, steps=63 * EPOCHS, epochs=EPOCHS, best_epoch=14, best_step=63 * 14,
        stop_reason="completed", parameters=991_041, train={"loss": 0.2, "accuracy": 0.9}, validation=measured,
        test={**measured, "accuracy": float(accuracy) - 0.05} if test else None, seconds=430.0 + run.seed,
        class_names=("cat", "dog"), image_shape=(90, 90, 3), fingerprint=ENVIRONMENT["data_fingerprint"],
        run_dir=str(folder),
    )  # fmt: skip
    write_result(folder, result)
    return folder
