"""What a run writes down while it goes: metrics.jsonl, timing.jsonl, TensorBoard, W&B.

metrics.jsonl holds only what a repeat of the run reproduces bit for bit; times and rates go to timing.jsonl.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from etils import epath

from jaxvision.config import Run
from jaxvision.errors import ConfigError

Value = float | int | None

WANDB_ID = "wandb_id.txt"
"""In the run folder: the id of the run at Weights & Biases."""


class RunLog:
    """The log of one run; a context manager.

    ```
    with RunLog(run_dir, run) as log:
        log.record({"phase": 0, "epoch": 1, "step": 938, "train/loss": 0.2, ...})
        log.timing({"epoch": 1, "step": 938, "seconds": 1.1, "images_per_second": 54_000.0, ...})
    ```
    """

    def __init__(self, run_dir: epath.PathLike, run: Run, *, start_step: int = 0, records: int = 0) -> None:
        """Opens the files; earlier lines of a resumed run stay.

        Args:
          start_step, records: steps already taken and lines of metrics.jsonl, where the run is resumed.

        Raises:
          ConfigError: run.log.wandb_project is set and the extra is not installed.
        """
        self._folder = epath.Path(run_dir)
        self._wandb = _open_wandb(run, self._folder)
        self._files = ExitStack()
        self._metrics = self._files.enter_context((self._folder / "metrics.jsonl").open("a"))
        self._timing = self._files.enter_context((self._folder / "timing.jsonl").open("a"))
        self.records = records
        for file in (self._metrics, self._timing):
            file.write("")  # in a bucket a file is there only once it was written to
            file.flush()
        self._hash = hashlib.sha256((self._folder / "metrics.jsonl").read_bytes())
        self._tensorboard = _open_tensorboard(self._folder, start_step) if run.log.tensorboard else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()
        if self._tensorboard:
            self._tensorboard.close()
        if self._wandb:
            self._wandb.finish(exit_code=0 if kind is None else 1)

    def record(self, metrics: Mapping[str, Value]) -> None:
        """Appends a line to metrics.jsonl: `phase`, `epoch`, `step`, then names like `train/loss`."""
        record = {name: _plain(value) for name, value in metrics.items()}
        self._hash.update(_append(self._metrics, record))
        self.records += 1
        scalars = {name: value for name, value in record.items() if value is not None and name not in ("step",)}
        if self._tensorboard:
            shown = {name: value for name, value in scalars.items() if name not in ("phase", "epoch")}
            self._tensorboard.write(shown, int(record["step"] or 0))
        if self._wandb:
            self._wandb.log(scalars, step=record["step"])

    @property
    def records_sha256(self) -> str:
        """Of all lines of metrics.jsonl so far."""
        return self._hash.hexdigest()

    def timing(self, timing: Mapping[str, Value]) -> None:
        """Appends a line to timing.jsonl."""
        record = {name: _plain(value) for name, value in timing.items()}
        _append(self._timing, record)
        if self._tensorboard and (rate := record.get("images_per_second")) is not None:
            self._tensorboard.write({"timing/images_per_second": rate}, int(record["step"] or 0))


def _plain(value: Value) -> Value:
    """A number JSON has; null stands for one that is not finite."""
    if value is None or isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None


def _append(file: Any, record: dict[str, Value]) -> bytes:
    """Writes a line; returns it."""
    line = json.dumps(record, allow_nan=False) + "\n"
    file.write(line)
    file.flush()
    return line.encode()


def _open_tensorboard(folder: epath.Path, start_step: int) -> Any:
    from jaxvision.train.events import EventFile  # a second to import

    return EventFile(folder, start_step)


def require_wandb(run: Run) -> None:
    """Raises ConfigError where the run asks for Weights & Biases and the extra is not installed."""
    if run.log.wandb_project is None:
        return
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "log.wandb_project: wandb is not installed; pip install 'jaxvision[wandb]', or leave the field out. "
            f"Received: {run.log.wandb_project!r}"
        ) from error


def _open_wandb(run: Run, folder: epath.Path) -> Any:
    """The W&B run, whose id the run folder keeps (wandb_id.txt): a resumed run goes on in it."""
    if run.log.wandb_project is None:
        return None
    require_wandb(run)
    import wandb

    kept = folder / WANDB_ID
    known = kept.read_text().strip() if kept.exists() else ""
    opened = wandb.init(
        project=run.log.wandb_project,
        name=run.name,
        config=dataclasses.asdict(run),
        dir=str(folder),
        reinit="create_new",
        id=known or None,
        resume="allow",
    )
    if opened.id != known:
        kept.write_text(f"{opened.id}\n")
    return opened
