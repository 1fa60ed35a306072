"""In which fields runs differ."""

import json
from typing import Any

from jaxvision.config import Run
from jaxvision.serialize import fields, to_json


def described(run: Run) -> dict[str, Any]:
    """{dotted field: value} of a run, without its seed and its name."""
    found = dict(fields(json.loads(to_json(run))))
    return {name: value for name, value in found.items() if name not in ("seed", "name", "schema_version")}


def changed_fields(run: Run, base: Run) -> dict[str, tuple[Any, Any]]:
    """{dotted field: (value in the base, value in the run)} where they differ; None where one has no such field."""
    before, after = described(base), described(run)
    return {
        name: (before.get(name), after.get(name))
        for name in dict.fromkeys([*before, *after])
        if before.get(name) != after.get(name)
    }
