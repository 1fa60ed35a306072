"""Doing a run again, and whether the same came of it."""

import dataclasses
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np
from flax import nnx

from jaxvision.bucket import expanded, in_bucket
from jaxvision.data.examples import Record, compare
from jaxvision.errors import ConfigError
from jaxvision.outputs import output_folder
from jaxvision.train.checkpoint import restore_best
from jaxvision.train.fit import fit_or_repeat
from jaxvision.train.folder import read_config, read_environment, read_metrics
from jaxvision.train.result import Result, read_result
from jaxvision.train.resume import changes
from jaxvision.train.run_data import read_examples


@dataclass(frozen=True)
class Repeat:
    """A run done again.

    result: of the repeat. different: what is not the same bit for bit, a line each; empty: nothing. changed: what
    differs in versions, devices, data and source and may be why. lines, tensors: how many were compared.
    """

    result: Result
    different: tuple[str, ...]
    changed: tuple[str, ...]
    lines: int
    tensors: int


def rerun(
    run_dir: str | os.PathLike[str],
    *,
    to: str | os.PathLike[str] | None = None,
    data_path: str | None = None,
    progress: bool = True,
) -> Repeat:
    """Trains what a finished run's config.json describes anew, and compares metrics.jsonl, the tensors of the best
    checkpoint and the result, bit for bit.

    Args:
      to: a new folder for the repeat; None: RUN_DIR-rerun, or RUN_DIR-rerun-2 and so on.
      data_path: where the data is now, if it has moved.

    Raises:
      RunFolderError: no finished run there. ConfigError: its data was handed over by a program. Else as `fit`.
    """
    before = read_result(run_dir)
    run = read_config(run_dir)
    if run.data.source == "given":
        raise ConfigError(
            f"{os.fspath(run_dir)}: its data was handed to fit() by a program and is not kept in the run folder. Call"
            " fit(run, data=...) with the same data again."
        )
    if data_path is not None:
        run = replace(run, data=replace(run.data, path=data_path))
    first = _Outcome.read(before)  # before the training: what is damaged cannot be compared
    if to is None and in_bucket(run_dir):
        raise ConfigError(f"to: say where to repeat a run that is in a bucket. Received: None, of {os.fspath(run_dir)}")
    folder = to if to is not None else output_folder(None, f"{Path(expanded(run_dir)).resolve()}-rerun")
    second = _Outcome.read(fit_or_repeat(run, run_dir=folder, progress=progress, repeats=True))
    changed = changes(first.environment, second.environment)
    if data := _data(first, second):
        changed.append(f"the data: {data}")
    different = (
        *_lines(first.metrics, second.metrics),
        *_tensors(first.tensors, second.tensors),
        *_results(first.result, second.result),
    )
    return Repeat(second.result, different, tuple(changed), len(first.metrics), len(first.tensors))


@dataclass(frozen=True)
class _Outcome:
    """What a finished run left."""

    result: Result
    metrics: list[dict[str, Any]]
    environment: dict[str, Any]
    record: Record | None
    tensors: dict[str, np.ndarray]

    @classmethod
    def read(cls, result: Result) -> Self:
        folder = result.run_dir
        state = nnx.to_pure_dict(nnx.state(restore_best(folder).model, nnx.Not(nnx.RngState)))
        leaves = jax.tree_util.tree_leaves_with_path(state)
        tensors = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}
        return cls(result, read_metrics(folder), read_environment(folder), read_examples(folder), tensors)


def _data(first: _Outcome, second: _Outcome) -> str:
    """How the data of the repeat differs; empty: not at all."""
    if first.record is not None and second.record is not None:
        differences = compare(first.record, second.record).differences
        if said := str(differences):
            return said
    same = first.environment["data_fingerprint"] == second.environment["data_fingerprint"]
    return "" if same else "its fingerprint is another"


def _lines(a: list[dict[str, Any]], b: list[dict[str, Any]]) -> list[str]:
    """The first line of metrics.jsonl that differs, and by how much."""
    for number, (old, new) in enumerate(zip(a, b, strict=False), 1):
        if old != new:
            names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
            values = ", ".join(f"{name} {old.get(name)} -> {new.get(name)}" for name in names[:3])
            return [f"metrics.jsonl: from line {number} of {len(a)} on: {values}"]
    return [] if len(a) == len(b) else [f"metrics.jsonl: {len(a)} lines, now {len(b)}"]


def _tensors(old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> list[str]:
    """In how many tensors the best checkpoints differ, and by how much at most."""
    different_shape = [
        f"best checkpoint: {name}: {old[name].shape if name in old else 'not there'} ->"
        f" {new[name].shape if name in new else 'not there'}"
        for name in {**old, **new}
        if name not in old or name not in new or old[name].shape != new[name].shape
    ]
    if different_shape:
        return different_shape
    differ = [name for name in old if old[name].tobytes() != new[name].tobytes()]
    if not differ:
        return []
    worst = max(float(np.abs(old[name].astype(np.float64) - new[name]).max()) for name in differ)
    return [f"best checkpoint: {len(differ)} of {len(old)} tensors, by up to {worst:.2g}"]


def _results(before: Result, after: Result) -> list[str]:
    old, new = (dataclasses.asdict(replace(result, seconds=0.0, run_dir="")) for result in (before, after))
    # As text, in which a value that is not a number is like another.
    return [f"result.json: {name} {old[name]} -> {new[name]}" for name in old if str(old[name]) != str(new[name])]
