"""Run folders as pandas DataFrames."""

import os
import statistics
import warnings
from typing import TYPE_CHECKING, Any

from etils import epath

from jaxvision.bucket import expanded
from jaxvision.errors import RunFolderError
from jaxvision.report.ablation.differences import described
from jaxvision.report.ablation.loose import distinct_run_folders, run_folder_trial
from jaxvision.report.ablation.trial import Trial
from jaxvision.train.folder import read_config, read_metrics

if TYPE_CHECKING:
    import pandas as pd

PLACE = ("phase", "epoch", "step")


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
    outcomes = [_outcome(trial) for trial in trials]
    # Metrics stand before the configuration, and those of one part side by side, whichever run has them.
    order = {"train": 1, "validation": 2, "test": 3}
    names = sorted(dict.fromkeys(name for row in outcomes for name in row), key=lambda n: order.get(n.split("/")[0], 0))
    rows = [outcome | _configuration(trial) for outcome, trial in zip(outcomes, trials, strict=True)]
    names += dict.fromkeys(name for row in rows for name in row if name not in names)
    index = pd.Index([os.fspath(trial.folder) for trial in trials], name="run")
    # A column of pandas' own guess: numbers where all are, with NaN for what is missing.
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], index) for name in names}, index)


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

    frames = []
    for folder in _found(folders):
        try:
            run = read_config(folder)
            begun = (folder / "metrics.jsonl").exists()
            records = read_metrics(folder) if begun else []
        except (ValueError, OSError) as error:  # UserErrors are ValueErrors
            warnings.warn(f"{folder}: cannot be read and is left out: {error}", stacklevel=2)
            continue
        # A phase that began again from its last save wrote a step anew: the later record counts.
        by_step = {record.get("step"): record for record in records}
        about = {"run": os.fspath(folder), "name": run.name, "seed": run.seed}
        frames += [about | record for record in by_step.values()]
    first = ["run", "name", "seed", *PLACE]
    names = dict.fromkeys([*first, *(name for row in frames for name in row)])
    columns = {name: pd.Series([row.get(name) for row in frames]) for name in names}
    numbers = {name: pd.to_numeric(column) if name not in first else column for name, column in columns.items()}
    return pd.DataFrame(numbers)


def _found(folders: tuple[str | os.PathLike[str], ...]) -> list[epath.Path]:
    if not folders:
        raise RunFolderError("Give at least one folder with runs, such as jaxvision.runs('runs'). Received: none.")
    paths = [epath.Path(expanded(folder)) for folder in folders]
    for path in paths:
        if not path.exists():
            raise RunFolderError(f"There is no such folder. Received: {os.fspath(path)!r}.")
    return distinct_run_folders(paths)


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
    if result:
        for part in ("train", "validation", "test"):
            row |= {f"{part}/{name}": value for name, value in (getattr(result, part) or {}).items()}
    return row


def _configuration(trial: Trial) -> dict[str, Any]:
    return {name: _hashable(value) for name, value in described(trial.config).items()} if trial.config else {}


def _hashable(value: Any) -> Any:
    """`groupby` and `nunique` need values that can be hashed."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
