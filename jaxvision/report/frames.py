"""Run folders as pandas DataFrames."""

import os
import statistics
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath

from jaxvision.bucket import expanded
from jaxvision.config import PARTS
from jaxvision.errors import RunFolderError
from jaxvision.report.ablation.differences import described
from jaxvision.report.ablation.loose import distinct_run_folders, run_folder_trial
from jaxvision.report.ablation.trial import Trial, read_records
from jaxvision.train.folder import read_config

if TYPE_CHECKING:
    import pandas as pd


def runs(*folders: str | os.PathLike[str]) -> "pd.DataFrame":
    """Returns one row per run: its outcome, its metrics and every field of its configuration.

    Args:
      folders: Run folders, or folders with run folders anywhere below them. A run that is found twice is one row.

    Returns: A DataFrame indexed by run folder (`run`), in the order found. Columns: `name`, `seed`; `status`:
      "finished", "unfinished", or "unreadable" with the reason in `message`; `epochs`, `best_epoch`, `stop_reason`,
      `parameters`, `seconds`, `images_per_second` (the median over epochs); metrics of the best checkpoint such as
      `validation/accuracy`; then the configuration by its dotted fields, such as `data.batch_size` and
      `phases.0.optimizer.learning_rate`. Lists become tuples. A value that a run lacks is missing (NaN or None).

    Raises:
      RunFolderError: No folder was given, or one that does not exist or has no run folder.

    Example:
      >>> table = jv.runs("runs/")
      >>> table.groupby("model.options.dropout")["validation/accuracy"].agg(["mean", "std", "count"])
      >>> table.loc[table["validation/loss"].idxmin()]  # the best run
      >>> table.loc[:, table.nunique(dropna=False) > 1]  # the columns in which the runs differ
    """
    import pandas as pd

    trials = [run_folder_trial(folder) for folder in _found(folders)]
    index = pd.Index([os.fspath(trial.folder) for trial in trials], name="run")
    # One kind of column after the other, so that those of one part stand together, whichever run has them.
    kinds: tuple[Callable[[Trial], dict[str, Any]], ...] = (
        _outcome,
        *(partial(_metrics, part) for part in PARTS),
        _configuration,
    )
    tables = (pd.DataFrame(_columns([kind(trial) for trial in trials]), index) for kind in kinds)
    return pd.concat(tables, axis=1)


def curves(*folders: str | os.PathLike[str]) -> "pd.DataFrame":
    """Returns one row per evaluation of each run: what metrics.jsonl recorded, of unfinished runs too.

    Args:
      folders: As for `runs`.

    Returns: A DataFrame with the columns `run` (the folder), `name`, `seed`, `phase` (from 0), `epoch` (from 1, within
      the phase), `step` (over all phases), then the metrics and the learning rate. Runs follow one another, and the
      steps of a run increase. A metric that was not finite, or not measured, is NaN.

    Raises:
      RunFolderError: No folder was given, or one that does not exist or has no run folder.

    Warns:
      UserWarning: A run folder cannot be read and is left out.

    Example:
      >>> jv.curves("runs/").pivot(index="step", columns="run", values="validation/loss").plot()
    """
    import pandas as pd

    rows = []
    for folder in _found(folders):
        try:
            run = read_config(folder)
            path = folder / "metrics.jsonl"
            records = list(read_records(path)) if path.exists() else []
        except (ValueError, OSError) as error:  # UserErrors are ValueErrors
            warnings.warn(f"{folder}: cannot be read and is left out: {error}", stacklevel=2)
            continue
        # A phase that began again from its last save wrote a step anew: the later record counts.
        by_step = {record.get("step"): record for record in records}
        about = {"run": os.fspath(folder), "name": run.name, "seed": run.seed}
        rows += [{**about, **record} for record in by_step.values()]
    first = ("run", "name", "seed", "phase", "epoch", "step")
    columns = _columns(rows, first)
    numbers = {name: values if name in first else np.array(values, float) for name, values in columns.items()}
    return pd.DataFrame(numbers)


def _found(folders: tuple[str | os.PathLike[str], ...]) -> list[epath.Path]:
    if not folders:
        raise RunFolderError("Give at least one folder with runs, such as jaxvision.runs('runs'). Received: none.")
    paths = [epath.Path(expanded(folder)) for folder in folders]
    for path in paths:
        if not path.exists():
            raise RunFolderError(f"There is no such folder. Received: {os.fspath(path)!r}.")
    return distinct_run_folders(paths)


def _columns(rows: Sequence[Mapping[str, Any]], first: Iterable[str] = ()) -> dict[str, list[Any]]:
    """Returns the values of each name over the rows, None where a row lacks it."""
    names = dict.fromkeys([*first, *(name for row in rows for name in row)])
    return {name: [row.get(name) for row in rows] for name in names}


def _outcome(trial: Trial) -> dict[str, Any]:
    config, result = trial.config, trial.result
    row: dict[str, Any] = {
        "name": config.name if config else None,
        "seed": config.seed if config else None,
        "status": {"finished": "finished", "failed": "unreadable"}.get(trial.status, "unfinished"),
        "message": trial.message or None,
    }
    fields = ("epochs", "best_epoch", "stop_reason", "parameters", "seconds")
    row |= {field: getattr(result, field) if result else None for field in fields}
    row["images_per_second"] = statistics.median(trial.rates) if trial.rates else None
    return row


def _metrics(part: str, trial: Trial) -> dict[str, float]:
    metrics = getattr(trial.result, part) if trial.result else None
    return {f"{part}/{name}": value for name, value in (metrics or {}).items()}


def _configuration(trial: Trial) -> dict[str, Any]:
    return {name: _hashable(value) for name, value in described(trial.config).items()} if trial.config else {}


def _hashable(value: Any) -> Any:
    """`groupby` and `nunique` need values that can be hashed."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
