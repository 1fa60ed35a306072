"""What comes of a run."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from etils import epath
from pydantic import BeforeValidator, TypeAdapter, ValidationError

from jaxvision.bucket import expanded
from jaxvision.errors import RunFolderError
from jaxvision.train.folder import read_text, write_json

Metrics = dict[str, Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]]
"""Values by name, without the part: loss, accuracy, iou/cat. A number that is not finite is null in the file."""


@dataclass(frozen=True)
class PhaseResult:
    """What one phase did: epochs taken, the step of its best checkpoint, the monitored metric there (or None)."""

    epochs: int
    best_step: int
    best_value: float | None


@dataclass(frozen=True)
class Result:
    """The outcome of a run, as `fit` returns it and result.json keeps it.

    `train`, `validation` and `test` are metrics (`loss`, `accuracy`, ...) of the parts: training as measured during the
    best epoch, validation and test by the reloaded best checkpoint; None where the data has no such part.
    """

    name: str
    seed: int
    steps: int
    epochs: int
    best_epoch: int
    best_step: int
    stop_reason: str
    """completed or early_stop."""
    parameters: int
    train: Metrics
    validation: Metrics | None
    test: Metrics | None
    seconds: float
    """Wall-clock time of the run, compilation and evaluation included."""
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """Height, width, channels."""
    fingerprint: str
    """Of the data."""
    run_dir: str
    """The run folder; not part of the file, which may be moved."""
    phases: tuple[PhaseResult, ...] = ()
    headline: str = "accuracy"
    """The metric that the run is judged by."""
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    """Pictures of each part of the source that could not be used; left_out.json names them (data.bad_pictures)."""


def write_result(run_dir: epath.PathLike, result: Result) -> None:
    """Writes result.json."""
    document = dataclasses.asdict(result)
    del document["run_dir"]
    write_json(epath.Path(run_dir) / "result.json", document)


def write_left_out(run_dir: epath.PathLike, left_out: Sequence[Any]) -> None:
    """Writes left_out.json, [{part, file, reason}, ...], where there are any `jaxvision.data.left_out.LeftOut`."""
    if left_out:
        write_json(epath.Path(run_dir) / "left_out.json", [dataclasses.asdict(one) for one in left_out])


def read_result(run_dir: epath.PathLike) -> Result:
    """The result of a finished run.

    Raises:
      RunFolderError: the folder has no result.json (the run has not finished), or it is damaged.
    """
    run_dir = expanded(run_dir)
    path = epath.Path(run_dir) / "result.json"
    if not path.exists():
        raise RunFolderError(
            f"run folder {epath.Path(run_dir)}: has no result.json; not a run folder, or the run has not finished. "
            f"Received: {os.fspath(run_dir)!r}"
        )
    try:
        return TypeAdapter(Result).validate_python({**json.loads(read_text(path)), "run_dir": os.fspath(run_dir)})
    except (ValidationError, json.JSONDecodeError, TypeError) as error:
        raise RunFolderError(f"{path}: damaged: {error}") from error


def duration(seconds: float) -> str:
    """A time in the unit a person would say it in: 45 s, 42 min, 3.2 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
