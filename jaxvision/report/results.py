"""Measured results: finished runs gathered into one file, and the words and tables made from such files.

No number about accuracy or time is typed by hand anywhere: README and experiment docstrings take `measured_line` and
`results_table`, and a test holds them to experiments/results/*.json.
"""

import json
import os
import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epath

from jaxvision.errors import RunFolderError
from jaxvision.serialize import to_json
from jaxvision.train.folder import read_config, read_lines, read_metrics
from jaxvision.train.result import duration, read_result

Document = dict[str, Any]

PARTS = ("train", "validation", "test")


def collect_results(run_dirs: Sequence[str | os.PathLike[str]]) -> Document:
    """One document about finished runs that differ in nothing but their seed.

    Returns: {name, command, machine, versions, date, runs, mean, std}. Each of `runs` has seed, epochs, best_epoch,
      train, validation and test metrics of the best checkpoint, `last` (metrics of the last epoch), `peak` (highest
      validation accuracy of any epoch), seconds and images_per_second. mean and std (sample, n - 1; null for one run)
      are over runs.

    Raises:
      RunFolderError: a folder without result, runs of different configurations, or the same seed twice.
    """
    if not run_dirs:
        raise RunFolderError("results: give at least one run folder.")
    folders = sorted(map(epath.Path, run_dirs), key=lambda folder: read_config(folder).seed)
    runs = [_one_run(folder) for folder in folders]
    _require_repeats(folders)
    environment = _environment(folders[0])
    return {
        "name": read_config(folders[0]).name,
        "command": _command(environment["command"]),
        "machine": _machine(environment),
        "versions": {"python": environment["python"], **environment["packages"]},
        "date": environment["started"][:10],
        "runs": runs,
        "mean": _over_runs(runs, statistics.fmean),
        "std": _over_runs(runs, statistics.stdev) if len(runs) > 1 else None,
    }


def read_results(folder: str | os.PathLike[str]) -> dict[str, Document]:
    """The documents in a folder such as experiments/results, by run name."""
    documents = [json.loads(file.read_text()) for file in sorted(Path(folder).glob("*.json"))]
    return {document["name"]: document for document in documents}


def measured_line(document: Document) -> str:
    """'measured: test accuracy 0.9904 +- 0.0008 (5 seeds, 5 epochs, 9 min each, 2-core Intel Xeon)'."""
    seeds = len(document["runs"])
    parts = [
        f"{seeds} seeds" if seeds > 1 else "1 seed",
        f"{_epochs(document)} epoch{'s' * (_epochs(document) != '1')}",
    ]
    parts += [f"{_time_each(document)}{' each' if seeds > 1 else ''}", document["machine"]]
    return f"measured: {_headline(document)} ({', '.join(parts)})"


def results_table(folder: str | os.PathLike[str], references: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """A Markdown table of the documents in a folder.

    references: for an experiment's name, what others measured, by column: {"mnist": {"book": "0.991"}}.
    """
    references = references or {}
    others = list(dict.fromkeys(column for values in references.values() for column in values))
    head = ["experiment", *others, "measured here", "seeds", "epochs", "time each", "machine"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, document in read_results(folder).items():
        reference = [references.get(name, {}).get(column, "") for column in others]
        cells = [f"`{name}`", *reference, _headline(document), str(len(document["runs"])), _epochs(document)]
        lines.append("| " + " | ".join([*cells, _time_each(document), document["machine"]]) + " |")
    return "\n".join(lines) + "\n"


def _one_run(folder: epath.Path) -> Document:
    result = read_result(folder)
    records = read_metrics(folder)
    last = next(record for record in reversed(records) if "train/loss" in record)
    accuracies = [record["validation/accuracy"] for record in records if "validation/accuracy" in record]
    rates = [line["images_per_second"] for line in read_lines(folder / "timing.jsonl") if line["images_per_second"]]
    return {
        "seed": result.seed,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "train": result.train,
        "validation": result.validation,
        "test": result.test,
        "last": {name: value for name, value in last.items() if name.startswith(("train/", "validation/"))},
        "peak": {"validation/accuracy": max(accuracies)} if accuracies else None,
        "seconds": result.seconds,
        "images_per_second": round(statistics.median(rates), 1) if rates else None,
    }


def _require_repeats(folders: Sequence[epath.Path]) -> None:
    """The folders are repeats of one run: everything but the seed and the number format is the same."""
    first, *others = (json.loads(to_json(read_config(folder))) for folder in folders)
    seeds = {first["seed"]}
    for folder, other in zip(folders[1:], others, strict=True):
        different = [name for name in first if name != "seed" and first[name] != other[name]]
        if different:
            raise RunFolderError(
                f"{folder}: not a repeat of {folders[0]}: they differ in {', '.join(different)}, and a mean over both "
                "would mean nothing."
            )
        if other["seed"] in seeds:
            raise RunFolderError(
                f"{folder}: the seed {other['seed']} is there twice; the same run repeated adds nothing."
            )
        seeds.add(other["seed"])


def _environment(folder: epath.Path) -> Document:
    path = folder / "environment.json"
    if not path.exists():
        raise RunFolderError(f"run folder {folder}: has no environment.json.")
    return json.loads(path.read_text())


def _command(argv: Sequence[str]) -> str:
    program = Path(argv[0])
    is_ours = program.name in ("jaxvision", "__main__.py")
    return shlex.join(["jaxvision" if is_ours else f"python {program.name}", *argv[1:]]).replace("'", "")


def _machine(environment: Document) -> str:
    """'2-core Intel Xeon', or the accelerators: '1 x NVIDIA H100'."""
    if environment["backend"] == "cpu":
        processor = re.sub(r"\((R|TM|r|tm)\)|\bProcessor\b|\bCPU\b|@.*", "", environment["cpu"])
        return f"{environment['cpu_count']}-core {' '.join(processor.split())}"
    return f"{len(environment['devices'])} x {environment['devices'][0]}"


def _over_runs(runs: Sequence[Document], combine: Any) -> Document:
    """The same nesting as one run, with `combine` over the runs in place of every measured number."""
    combined: Document = {}
    for key in (*PARTS, "last", "peak"):
        first = runs[0][key]
        combined[key] = None if first is None else {name: combine([run[key][name] for run in runs]) for name in first}
    combined["seconds"] = combine([run["seconds"] for run in runs])
    return combined


def _headline(document: Document) -> str:
    """The number a run is judged by: accuracy on the test part, or else validation accuracy at the best checkpoint."""
    for part in ("test", "validation", "train"):
        if document["mean"][part] is not None:
            mean = document["mean"][part]["accuracy"]
            spread = f" +- {document['std'][part]['accuracy']:.4f}" if document["std"] else ""
            return f"{part} accuracy {mean:.4f}{spread}"
    raise RunFolderError(f"results of {document['name']}: no part was measured.")


def _epochs(document: Document) -> str:
    epochs = sorted({run["epochs"] for run in document["runs"]})
    return str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]}-{epochs[-1]}"


def _time_each(document: Document) -> str:
    return duration(document["mean"]["seconds"])
