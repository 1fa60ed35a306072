"""Changes of a run, as `{dotted field: value}`: the fields as on the command line ("model.options.dropout")."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from jaxvision.config import Run
from jaxvision.errors import ConfigError
from jaxvision.serialize import fields, from_json, to_json


def changed(run: Run, changes: Mapping[str, Any], where: str) -> Run:
    """The run with these fields changed; as on the command line, another model starts from its own options.

    Raises: ConfigError: no such field, or not a value for it.
    """
    document = json.loads(to_json(run))
    # The whole before its parts, and another model before its options: in whichever order they are written.
    for path in sorted(changes, key=lambda path: (path.count("."), path != "model.name")):
        value = changes[path]
        if path in ("seed", "name", "schema_version"):
            raise ConfigError(f"{where}: {path}: is not for a factor to change; trials are told apart by it.")
        if path == "model.name" and value != document["model"].get("name"):
            document["model"]["options"] = {}
        _set(document, path, value, where)
    try:
        text = json.dumps(document)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: values must be what JSON can hold ({error}). Received: {changes!r}") from error
    return from_json(text, where=where)


def differences(base: Run, run: Run) -> dict[str, Any]:
    """{dotted field: value in `run`} of the fields that are others there than in `base`, or are not in `base`."""
    before, after = flat(base), flat(run)
    absent = object()
    return {name: value for name, value in after.items() if before.get(name, absent) != value}


def flat(run: Run) -> dict[str, Any]:
    """{dotted field: value} of the whole run, values as JSON has them."""
    return dict(fields(json.loads(to_json(run))))


def overlap(some: Iterable[str], others: Iterable[str]) -> str | None:
    """A field that both set, as "augment" and "augment.zoom" do; None where there is none."""
    for one in some:
        for other in others:
            if one == other or one.startswith(f"{other}.") or other.startswith(f"{one}."):
                return max(one, other, key=len)
    return None


def _set(document: Any, path: str, value: Any, where: str) -> None:
    """Sets a dotted field of a document; one that is not there is made, for `from_json` to tell of."""
    *branch, last = path.split(".")
    for key in branch:
        if isinstance(document, list):
            document = document[_index(document, key, path, where)]
        else:
            if not isinstance(document.get(key), dict | list):
                document[key] = {}
            document = document[key]
    if isinstance(document, list):
        document[_index(document, last, path, where)] = _plain(value)
    else:
        document[last] = _plain(value)


def _index(items: list[Any], key: str, path: str, where: str) -> int:
    if key not in map(str, range(len(items))):
        raise ConfigError(f"{where}: {path}: there are numbers 0 to {len(items) - 1}. Received: {key!r}")
    return int(key)


def _plain(value: Any) -> Any:
    """Parts of a run, such as `Augment()`, as JSON has them."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
