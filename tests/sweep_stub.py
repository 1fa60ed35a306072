"""A sweep whose trials are stubs: `drive ARGS...` is `jaxvision ablate ARGS...`, `train ...` such a trial, and
`train-together ...` several.

What a trial does is told in stub.json, in the folder that the environment variable STUB names: `seconds`, how long it
trains; `ends`, {"ARM/seed-N": ends of its attempts in order}, of kill, refuse, raise and finish (which is also what
comes after them); `environment`, what it says of data and code. It writes what it does, a line each, to `notes` beside.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from jaxvision.experiments import load_run
from jaxvision.sweep.trial import Job
from jaxvision.train.folder import write_config, write_json
from jaxvision.train.result import Result, write_result


class StubJob(Job):
    """Runs this file in place of `jaxvision train`, also on the workers of a cluster."""

    def command(self) -> list[str]:
        return [sys.executable, __file__, *self.arguments]


def notes() -> list[str]:
    """What trials have noted down so far."""
    file = Path(os.environ["STUB"], "notes")
    return file.read_text().splitlines() if file.exists() else []


def note(text: str) -> None:
    with Path(os.environ["STUB"], "notes").open("a") as file:
        file.write(f"{text}\n")


def tell(environment: dict, *, seconds: float = 0.0, ends: dict[str, list[str]] | None = None) -> None:
    """Says what the trials that begin from now on are to do."""
    told = {"environment": environment, "seconds": seconds, "ends": ends or {}}
    Path(os.environ["STUB"], "stub.json").write_text(json.dumps(told))


def train(config: str, run_dir: str) -> int:
    told = json.loads(Path(os.environ["STUB"], "stub.json").read_text())
    run, folder = load_run(config), Path(run_dir)
    trial = "/".join(folder.parts[-2:])
    attempts = notes().count(f"begin {trial}")
    note(f"begin {trial}")
    ends = [*told["ends"].get(trial, []), *["finish"] * (attempts + 1)]
    signal.signal(signal.SIGTERM, lambda *_: (note(f"saved {trial}"), os._exit(143)))
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, run)
    write_json(folder / "environment.json", told["environment"])
    (folder / "metrics.jsonl").touch()
    time.sleep(told["seconds"])
    match ends[attempts]:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "refuse":
            print("epoch 1", "error: data.path: nothing there.\n  Received: 'x'", sep="\n", flush=True)
            return 2
        case "raise":
            raise ZeroDivisionError(trial)
    result = Result(
        name=run.name, seed=run.seed, steps=1, epochs=1, best_epoch=1, best_step=1, stop_reason="completed",
        parameters=1, train={"accuracy": 0.5}, validation=None, test={"accuracy": 0.25}, seconds=1.0,
        class_names=("a", "b"), image_shape=(8, 8, 1), fingerprint=told["environment"]["data_fingerprint"], run_dir="",
    )  # fmt: skip
    write_result(folder, result)
    note(f"end {trial}")
    return 0


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "drive":
        from jaxvision.cli import main
        from jaxvision.sweep import driver

        driver.Job = StubJob
        raise SystemExit(main(["ablate", *arguments]))
    if what == "train-together":
        note(f"together {len(arguments)}")
        raise SystemExit(max(train(*argument.split("=")) for argument in arguments))
    raise SystemExit(train(arguments[0], arguments[2]))
