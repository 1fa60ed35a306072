"""Runs as JSON: exact both ways, strict on reading, older versions upgraded.

`check` looks at types, ranges and at fields that contradict each other; it needs no data and no model. All faults
of a description are listed in one message, each with its path (`data.batch_size`) and what was received.
"""

import dataclasses
import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from jaxvision.config import SCHEMA_VERSION, Augment, Data, Phase, Run
from jaxvision.errors import ConfigError, nearest

Document = dict[str, Any]


def _from_1(document: Document) -> Document:
    """Version 1 had no direction that follows from the metric: where nobody chose one, "min" was written. In all its
    metrics but the loss a larger value is better."""
    checkpoint = document.get("checkpoint", {})
    if not isinstance(checkpoint, dict):
        return document  # refused when it is validated
    monitor = checkpoint.get("monitor", "validation/loss")
    direction = checkpoint.get("direction", "min")
    if monitor is None or direction == ("min" if monitor in ("train/loss", "validation/loss") else "max"):
        direction = "auto"
    return {**document, "checkpoint": {**checkpoint, "direction": direction}}


UPGRADES: dict[int, Callable[[Document], Document]] = {1: _from_1}
"""For each old schema version, the function from its JSON document to the next version's."""


class _Strict(BaseModel):
    # The settings reach the plain dataclasses inside, which so need not know pydantic.
    model_config = ConfigDict(extra="forbid", strict=True, revalidate_instances="always", allow_inf_nan=False)
    run: Run


def to_json(run: Run) -> str:
    """The run as indented JSON that `from_json` turns into an equal `Run`."""
    return json.dumps(dataclasses.asdict(run), indent=2, allow_nan=False) + "\n"


def from_json(text: str, *, where: str) -> Run:
    """The run that `text` describes; fields it leaves out keep their defaults.

    Args:
      text: JSON as `to_json` writes it, of this schema version or an older one.
      where: what errors name as the place, usually the file.

    Raises:
      ConfigError: unknown field, wrong type or value, newer schema version, or not JSON.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}, line {error.lineno}: not JSON ({error.msg}).") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{where}: a run is a JSON object. Received: {type(document).__name__}")
    document = _upgrade(document, where)
    try:
        run = _Strict.model_validate_json(json.dumps({"run": document})).run
    except ValidationError as error:
        raise ConfigError(_listing(where, list(_faults(error, document)))) from None
    return check(run, where=where)


def fields(document: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested objects and of lists of objects, by its dotted path, as the command line names it."""
    if isinstance(document, list) and document and isinstance(document[0], dict):
        document = {str(index): item for index, item in enumerate(document)}
    if not isinstance(document, dict):
        yield path, document
        return
    for name, value in document.items():
        yield from fields(value, f"{path}.{name}" if path else name)


def check(run: Run, *, where: str = "run") -> Run:
    """The same run with every value of its declared type (an int given for a float becomes one).

    Raises:
      ConfigError: listing every wrong type, value out of range and contradiction between fields.
    """
    if not isinstance(run, Run):
        raise ConfigError(f"{where}: must be a jaxvision Run. Received: {run!r}")
    try:
        run = _Strict.model_validate({"run": run}).run
    except ValidationError as error:
        raise ConfigError(_listing(where, list(_faults(error, dataclasses.asdict(run))))) from None
    faults = list(_contradictions(run))
    if faults:
        raise ConfigError(_listing(where, faults))
    return run


def _upgrade(document: Document, where: str) -> Document:
    version = document.get("schema_version", SCHEMA_VERSION)
    if type(version) is not int or version > SCHEMA_VERSION:
        raise ConfigError(
            f"{where}: schema_version must be at most {SCHEMA_VERSION}, the newest this jaxvision reads; "
            f"a newer jaxvision wrote this. Received: {version!r}"
        )
    while version < SCHEMA_VERSION:
        if version not in UPGRADES:
            raise ConfigError(f"{where}: no upgrade from schema_version {version} is known.")
        document = UPGRADES[version](document)
        version += 1
        document["schema_version"] = version
    return document


Fault = tuple[str, str]
"""Path of a field, and what is wrong with it."""


def _listing(where: str, faults: list[Fault]) -> str:
    if len(faults) == 1:
        return f"{where}: {faults[0][0]}: {faults[0][1]}"
    return "\n".join([f"{where}: {len(faults)} faults:", *(f"  {path}: {text}" for path, text in faults)])


def _faults(error: ValidationError, document: Document) -> Iterator[Fault]:
    # A union reports once for each type it tried: these are gathered under the field they are about.
    gathered: dict[str, tuple[list[str], Any]] = {}
    for item in error.errors(include_url=False):
        path, received = _resolve(item["loc"][1:], document)
        if item["type"] == "unexpected_keyword_argument":
            text = "unknown field." + _hint(path)
        else:
            text = item["msg"].removeprefix("Input should be ")
        gathered.setdefault(path, ([], received))[0].append(text)
    for path, (texts, received) in gathered.items():
        text = " or ".join(dict.fromkeys(texts))
        if not text.startswith("unknown field"):
            text = f"must be {text}." if not text.startswith("Tuple") else f"{text}."
        yield path, f"{text} Received: {received!r}"


def _resolve(location: tuple[int | str, ...], document: Any) -> tuple[str, Any]:
    """The part of pydantic's location that exists in the document, as a dotted path, and the value there."""
    path = []
    for key in location:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            break
        path.append(str(key))
    return ".".join(path) or "run", document


def _hint(path: str) -> str:
    """The nearest field beside `path`, or a field of the same name elsewhere."""
    known = [known_path.rpartition(".") for known_path in _paths(dataclasses.asdict(Run()))]
    parent, _, name = re.sub(r"\.\d+(?=\.)", ".0", path).rpartition(".")
    beside = nearest(name, [leaf for branch, _, leaf in known if branch == parent])
    elsewhere = ["".join(parts) for parts in known if parts[2] == name]
    return beside or (f" Did you mean {elsewhere[0]!r}?" if elsewhere else "")


def _paths(value: Any, prefix: str = "") -> Iterator[str]:
    """Dotted paths of all fields of a nested document, branches included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    for key, child in items:
        yield f"{prefix}{key}"
        yield from _paths(child, f"{prefix}{key}.")


def _contradictions(run: Run) -> Iterator[Fault]:
    if not run.name.strip() or run.name.startswith(("/", ".")) or ".." in run.name.split("/"):
        yield "name", f"must be usable as a folder under runs/. Received: {run.name!r}"
    if run.schema_version != SCHEMA_VERSION:
        yield "schema_version", f"must be {SCHEMA_VERSION}. Received: {run.schema_version!r}"
    for path, seed in (("seed", run.seed), ("data.split_seed", run.data.split_seed)):
        if not 0 <= seed < 2**32:
            yield path, f"must be in 0..2**32-1. Received: {seed}"
    if run.data.batch_size % run.accumulate:
        yield "accumulate", f"must divide data.batch_size {run.data.batch_size}. Received: {run.accumulate}"
    if not run.phases:
        yield "phases", "a run needs at least one phase. Received: ()"
    for number, phase in enumerate(run.phases):
        yield from ((f"phases.{number}.{path}", text) for path, text in _phase_contradictions(phase))
    yield from _start_contradictions(run)
    yield from _value_contradictions(run.data)
    yield from _augment_contradictions(run)
    yield from _selection_contradictions(run)
    if run.log.profile_steps is not None and run.log.profile_steps[0] > run.log.profile_steps[1]:
        yield "log.profile_steps", f"the first step must not come after the last. Received: {run.log.profile_steps}"


def _phase_contradictions(phase: Phase) -> Iterator[Fault]:
    schedule, optimizer = phase.schedule, phase.optimizer
    if schedule.warmup_epochs > phase.epochs:
        yield (
            "schedule.warmup_epochs",
            f"is longer than the phase's epochs {phase.epochs}. Received: {schedule.warmup_epochs}",
        )
    if schedule.name == "step" and not schedule.step_epochs:
        yield "schedule.step_epochs", "name=step needs the epochs to step at. Received: ()"
    if schedule.name != "step" and schedule.step_epochs:
        yield "schedule.step_epochs", f"needs schedule.name 'step', not {schedule.name!r}."
    if list(schedule.step_epochs) != sorted(set(schedule.step_epochs)):
        yield "schedule.step_epochs", f"must rise. Received: {schedule.step_epochs}"
    if optimizer.momentum and optimizer.name not in ("rmsprop", "sgd"):
        yield "optimizer.momentum", f"belongs to rmsprop and sgd, not {optimizer.name}. Received: {optimizer.momentum}"
    if optimizer.nesterov and (optimizer.name != "sgd" or not optimizer.momentum):
        yield "optimizer.nesterov", "needs optimizer.name 'sgd' and a momentum. Received: True"


def _start_contradictions(run: Run) -> Iterator[Fault]:
    model = run.model
    if model.weights is not None and model.init_from is not None:
        yield "model.init_from", f"model.weights is given too ({model.weights!r}). Received: {model.init_from!r}"
    if model.reinit_head and model.weights is None and model.init_from is None:
        yield "model.reinit_head", "needs model.weights or model.init_from; all else starts afresh. Received: True"
    if run.cache_features == "all" and run.augment != Augment():
        yield "cache_features", "augmented pictures are new ones each time: evaluation it can be. Received: 'all'"
    if run.cache_features != "off" and any(phase.trainable is None for phase in run.phases):
        received = f"Received: {run.cache_features!r}"
        yield "cache_features", f"needs a frozen base: set phases.N.trainable to head. {received}"


def _value_contradictions(data: Data) -> Iterator[Fault]:
    """Of the fields that say what numbers in labels and masks mean."""
    for name in ("label_values", "mask_values"):
        values = getattr(data, name)
        if values and (len(values) < 2 or len(set(values)) < len(values)):
            yield f"data.{name}", f"needs two or more different numbers, one for each class. Received: {values}"
        if values and data.class_names and len(values) != len(data.class_names):
            yield (
                f"data.{name}",
                f"needs {len(data.class_names)} numbers, one for each of data.class_names. Received: {values}",
            )
    if any(low >= high for low, high in itertools.pairwise(data.mask_thresholds)):
        yield "data.mask_thresholds", f"must rise. Received: {data.mask_thresholds}"
    if data.mask_thresholds and data.class_names and len(data.mask_thresholds) + 1 != len(data.class_names):
        yield (
            "data.mask_thresholds",
            f"needs {len(data.class_names) - 1} numbers for the {len(data.class_names)} classes of data.class_names. "
            f"Received: {data.mask_thresholds}",
        )
    ways = ("label_offset", "label_values", "mask_values", "mask_thresholds")
    given = [name for name in ways if getattr(data, name)]
    if len(given) > 1:
        yield (
            f"data.{given[1]}",
            f"data.{given[0]} is set too ({getattr(data, given[0])}), and one of the two says what numbers mean. "
            f"Received: {getattr(data, given[1])}",
        )
    if data.ignore_label is not None and data.ignore_label in data.mask_values:
        yield "data.ignore_label", f"is a class in data.mask_values {data.mask_values}. Received: {data.ignore_label}"


def _augment_contradictions(run: Run) -> Iterator[Fault]:
    augment, size = run.augment, run.data.image_size
    if augment.mixup and augment.cutmix:
        yield "augment.cutmix", f"mixup and cutmix exclude each other. Received: {augment.mixup}, {augment.cutmix}"
    for name in ("mixup", "cutmix"):
        if run.task == "segmentation" and (share := getattr(augment, name)):
            yield f"augment.{name}", f"mixes the classes of whole pictures, and this task has masks. Received: {share}"
    if size is not None and augment.crop_padding >= min(size):
        yield (
            "augment.crop_padding",
            f"reflected pixels must be fewer than data.image_size {size}. Received: {augment.crop_padding}",
        )


def _selection_contradictions(run: Run) -> Iterator[Fault]:
    monitor = run.checkpoint.monitor
    if monitor is not None and not re.fullmatch(r"(train|validation)/.+", monitor):
        hint = "test data never selects a checkpoint" if monitor.startswith("test/") else "such as validation/loss"
        yield "checkpoint.monitor", f"must be train/METRIC or validation/METRIC ({hint}). Received: {monitor!r}"
    if monitor is None and run.early_stop.patience is not None:
        yield (
            "early_stop.patience",
            f"needs checkpoint.monitor to watch. Received: patience {run.early_stop.patience}, monitor None",
        )
