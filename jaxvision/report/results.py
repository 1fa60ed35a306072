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

from jaxvision.config import PARTS, Run
from jaxvision.errors import RunFolderError
from jaxvision.experiments import list_experiments
from jaxvision.serialize import fields, to_json
from jaxvision.train.folder import read_config, read_lines, read_metrics
from jaxvision.train.result import duration, read_result

Document = dict[str, Any]

METRIC_WORDS = {"accuracy": "accuracy", "mean_iou": "mIoU", "average_precision": "mAP"}
"""Headline metrics as people write them."""


def collect_results(run_dirs: Sequence[str | os.PathLike[str]], *, note: str | None = None) -> Document:
    """One document about finished runs that differ in nothing but their seed.

    Args:
      note: circumstances a reader must know, such as other work on the machine meanwhile.

    Returns: {name, command, note, machine, versions, date, headline, runs, mean, std}. headline is the metric that
      the runs are judged by. Each of `runs` has seed, epochs, best_epoch, train, validation and test metrics of the
      best checkpoint, `last` (those of the last epoch), `peak` (highest validation headline of any epoch), seconds and
      images_per_second. mean and std (sample, n - 1; null for one run) are over runs.

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
        "command": _command(read_config(folders[0])),
        "note": note,
        "machine": machine_name(environment),
        "versions": {"python": environment["python"], **environment["packages"]},
        "date": environment["started"][:10],
        "headline": read_result(folders[0]).headline,
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
    parts += [document["note"]] if document["note"] else []
    return f"measured: {_headline(document)} ({', '.join(parts)})"


def read_references(folder: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """What others measured, {experiment: {column: value}}: the book (book.json), peers run here (the other files)."""
    folder = Path(folder)
    references = {
        name: {"book": value} for name, value in json.loads((folder / "book.json").read_text())["accuracy"].items()
    }
    for file in sorted(folder.glob("*.json")):
        if file.name != "book.json":
            document = json.loads(file.read_text())
            mean, std = (document[kind]["test"]["accuracy"] for kind in ("mean", "std"))
            value = f"test {mean:.4f} +- {std:.4f} ({document['peer']}, {len(document['runs'])} runs)"
            references.setdefault(document["experiment"], {})["Keras here"] = value
    return references


def results_table(results: Mapping[str, Document], references: Mapping[str, Mapping[str, str]]) -> str:
    """A Markdown table of `read_results` beside `read_references`, a row an experiment."""
    others = list(dict.fromkeys(column for values in references.values() for column in values))
    head = ["experiment", *others, "ours here", "seeds", "epochs", "time each", "machine"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, document in results.items():
        reference = [references.get(name, {}).get(column, "") for column in others]
        cells = [f"`{name}`", *reference, _headline(document), str(len(document["runs"])), _epochs(document)]
        machine = document["machine"] + (f" ({document['note']})" if document["note"] else "")
        lines.append("| " + " | ".join([*cells, _time_each(document), machine]) + " |")
    return "\n".join(lines) + "\n"


def classes_table(results: Mapping[str, Document], family: str) -> str:
    """A Markdown table of the validation IoU of each class, a column an experiment of the family (a beginning of the
    name), the mean below."""
    experiments = [name for name in results if name.startswith(family)]
    columns = [results[name]["mean"]["validation"] for name in experiments]
    classes = [key for key in columns[0] if key.startswith("iou/")]
    lines = ["| IoU of | " + " | ".join(f"`{name}`" for name in experiments) + " |", "|---" * (len(columns) + 1) + "|"]
    for key in [*classes, "mean_iou"]:
        values = (f"{column[key]:.3f}" if key in column else "" for column in columns)
        label = "**mean**" if key == "mean_iou" else key.removeprefix("iou/")
        lines.append(f"| {label} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def _one_run(folder: epath.Path) -> Document:
    result = read_result(folder)
    records = read_metrics(folder)
    last = next(record for record in reversed(records) if "train/loss" in record)
    headline = f"validation/{result.headline}"
    values = [record[headline] for record in records if headline in record]
    rates = [line["images_per_second"] for line in read_lines(folder / "timing.jsonl") if line["images_per_second"]]
    return {
        "seed": result.seed,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "train": result.train,
        "validation": result.validation,
        "test": result.test,
        "last": {name: value for name, value in last.items() if name.startswith(("train/", "validation/"))},
        "peak": {headline: max(values)} if values else None,
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


def _command(run: Run) -> str:
    """The command that repeats the run: its experiment's name and the fields that differ, but for seed and place.

    A run that no experiment describes is repeated from its config.json.
    """
    experiment = list_experiments().get(run.name)
    if experiment is None or len(experiment.run.phases) != len(run.phases):
        return "jaxvision train CONFIG.json --seed SEED"
    words = ["jaxvision", "train", run.name, "--seed", "SEED"]
    named, actual = (dict(fields(_with_all_options(value))) for value in (experiment.run, run))
    for field, value in actual.items():
        if field not in _OF_THE_MACHINE and named.get(field) != value:
            words += [f"--{field.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


_OF_THE_MACHINE = ("seed", "data.path", "data.cache", "model.weights", "model.init_from")
"""Fields that differ between repeats: the seed, and where files are."""


def _with_all_options(run: Run) -> Document:
    from jaxvision.models import model_options  # only here: `jaxvision list` need not wait for JAX

    document = json.loads(to_json(run))
    options = model_options(run.model.name) | run.model.options
    document["model"]["options"] = json.loads(json.dumps(options))
    return document


def machine_name(environment: Document) -> str:
    """'2-core Intel Xeon', or the accelerators: '1 x NVIDIA H100'."""
    if environment["backend"] == "cpu":
        processor = re.sub(r"\((R|TM|r|tm)\)|\bProcessor\b|\bCPU\b|@.*", "", environment["cpu"])
        return f"{environment['cpu_count']}-core {' '.join(processor.split())}"
    return f"{len(environment['devices'])} x {environment['devices'][0]}"


def _over_runs(runs: Sequence[Document], combine: Any) -> Document:
    """The same nesting as one run, with `combine` over the runs in place of every measured number."""
    combined: Document = {}
    for key in (*PARTS, "last", "peak"):
        if runs[0][key] is None:
            combined[key] = None
            continue
        # A class that was nowhere in a run has no metric there.
        everywhere = [name for name in runs[0][key] if all(name in run[key] for run in runs)]
        combined[key] = {name: combine([run[key][name] for run in runs]) for name in everywhere}
    combined["seconds"] = combine([run["seconds"] for run in runs])
    return combined


def _headline(document: Document) -> str:
    """The number a run is judged by: accuracy (or the task's own metric) of the best checkpoint on the test part, or
    else on the validation part (and then its highest value of any epoch too)."""
    metric = document["headline"]
    for part in ("test", "validation", "train"):
        if document["mean"][part] is not None:
            mean = document["mean"][part][metric]
            spread = f" +- {document['std'][part][metric]:.4f}" if document["std"] else ""
            peak = document["mean"]["peak"]
            highest = f", highest {peak[f'validation/{metric}']:.4f}" if part == "validation" and peak else ""
            return f"{part} {METRIC_WORDS[metric]} {mean:.4f}{spread}{highest}"
    raise RunFolderError(f"results of {document['name']}: no part was measured.")


def _epochs(document: Document) -> str:
    epochs = sorted({run["epochs"] for run in document["runs"]})
    return str(epochs[0]) if len(epochs) == 1 else f"{epochs[0]}-{epochs[-1]}"


def _time_each(document: Document) -> str:
    return duration(document["mean"]["seconds"])
