"""A real run killed by SIGKILL at random moments, again and again, each time resumed.

`python tests/killed_runs.py DATA FOLDER 50` does it 50 times and prints what came of it.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parents[1]

EXPERIMENT = """
import jaxvision as jv
from jaxvision.models.classifier import Classifier
from jaxvision.nn import BatchNorm, Chain, Conv, Dense, Dropout, GlobalAveragePool, Rescaling


class Net(Classifier):
    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        base = Chain(conv=Conv(3, 8, strides=2, rngs=rngs), norm=BatchNorm(8))
        head = Chain(pool=GlobalAveragePool(), dropout=Dropout(0.5), logits=Dense(8, num_classes, rngs=rngs))
        super().__init__(preprocessing=Rescaling(), base=base, head=head)


RUN = jv.Run(
    name="killed",
    data=jv.Data("folder", "pictures", image_size=(32, 32), batch_size=16, limit_train=96, limit_validation=32,
                 validation_fraction=0.2, residence="stream", cache="off"),
    model=jv.Model("experiment:Net"),
    augment=jv.Augment(flip="horizontal", rotation=0.1, zoom=0.2),
    phases=(jv.Phase(epochs=EPOCHS, optimizer=jv.Optimizer("adam", learning_rate=0.01)),),
    ema_decay=0.9,
    accumulate=2,
    checkpoint=jv.Checkpoint(every_minutes=0.0),
)
"""
"""Dropout, augmentation, BatchNorm, moving average, accumulation, pictures streamed from files; saved every step."""


@dataclass(frozen=True)
class Killed:
    """kills: how many. in_saves: while a training state was being written."""

    kills: int
    in_saves: int


def killed_run(shared_data: Path, folder: Path, *, kills: int, seed: int) -> Killed:
    """Leaves FOLDER/whole, never disturbed, and FOLDER/killed, killed so many times before it was let end."""
    for name in ("cat", "dog"):
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(10, 90):
            shutil.copy(shared_data / "dogs-vs-cats" / "train" / f"{name}.{number}.jpg", folder / "pictures" / name)
    (folder / "experiment.py").write_text(EXPERIMENT.replace("EPOCHS", str(4 + 2 * kills)))
    environment = {**os.environ, "PYTHONPATH": str(HERE), "JAXVISION_CACHE": str(folder / "cache")}

    def run(name: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "jaxvision", "train", "experiment.py:RUN", "--run-dir", name, "--resume"]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)

    assert run("whole").wait(600) == 0
    rng = random.Random(seed)
    states = folder / "killed" / "training"
    in_saves = 0
    for number in range(kills):
        process, before = run("killed"), finished(states)
        while process.poll() is None and finished(states) == before:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 1.0))
        while number % 3 == 0 and process.poll() is None and not unfinished(states):  # a third of them in a save
            time.sleep(0.001)
        assert process.poll() is None, "the run ended before it was killed often enough"
        process.kill()
        process.wait(60)
        in_saves += bool(unfinished(states))
    assert run("killed").wait(600) == 0
    return Killed(kills, in_saves)


def finished(states: Path) -> set[str]:
    """Training states that are written whole."""
    return {path.parent.name for path in states.glob("*/MANIFEST.json")}


def unfinished(states: Path) -> set[str]:
    """Training states that are not."""
    if not states.exists():
        return set()
    return {path.name for path in states.iterdir() if not path.name.startswith("damaged")} - finished(states)


if __name__ == "__main__":
    root = Path(sys.argv[2])
    root.mkdir(parents=True)
    killed = killed_run(Path(sys.argv[1]), root, kills=int(sys.argv[3]), seed=0)
    same = (root / "killed" / "metrics.jsonl").read_bytes() == (root / "whole" / "metrics.jsonl").read_bytes()
    print(json.dumps({**asdict(killed), "same_metrics": same}))
