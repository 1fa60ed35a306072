"""Which fields of a run decide its numbers, and in which of them two runs differ."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jaxvision.config import Run
from jaxvision.models import model_options
from jaxvision.serialize import fields, to_json

UNDECIDING = (
    "log", "devices", "model_devices", "rematerialize", "checkpoint.every_minutes",
    "data.path", "data.cache", "data.cache_mb",
)  # fmt: skip
"""Fields, and beginnings of fields, that have no part in a run's numbers but for their rounding: what is told of it,
where files are, on how many devices and in how much memory it is computed."""

FREE = (*UNDECIDING, "model.weights", "model.init_from")
"""Those that may differ when a run is resumed: the weights that it started from are not read any more."""


def is_one_of(name: str, free: Sequence[str]) -> bool:
    """Whether a dotted field is one of these, or below one."""
    return any(name == other or name.startswith(f"{other}.") for other in free)


def is_deciding(name: str) -> bool:
    """Whether a field has a part in a run's numbers."""
    return not is_one_of(name, UNDECIDING)


def deciding_fields(run: Run, free: Sequence[str] = UNDECIDING) -> dict[str, Any]:
    """{dotted field: value} of a run without what is free."""
    return {name: value for name, value in fields(json.loads(to_json(run))) if not is_one_of(name, free)}


def differing_fields(there: Run, here: Run, free: Sequence[str] = UNDECIDING) -> list[str]:
    """The fields that are not free in which two runs differ, a text each.

    An option that one of them leaves out has its default there: a command line writes down all options of a model, a
    program those that it sets.
    """
    if there.model.name == here.model.name and there.model.options.keys() != here.model.options.keys():
        there, here = _with_all_options(there), _with_all_options(here)
    theirs, ours = deciding_fields(there, free), deciding_fields(here, free)
    return [
        f"{name} {theirs.get(name)!r} there, {ours.get(name)!r} here"
        for name in {**theirs, **ours}
        if theirs.get(name) != ours.get(name)
    ]


def _with_all_options(run: Run) -> Run:
    options = {**model_options(run.model.name), **run.model.options}
    return replace(run, model=replace(run.model, options=options))
