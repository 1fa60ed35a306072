"""What an ablation is: a run, what of it is varied, and which combinations are tried.

`Ablation` is a value, as `Run` is; `arms` and `trials` expand it. Nothing here reads, writes or trains.
"""

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from jaxvision.config import Run
from jaxvision.errors import ConfigError, nearest
from jaxvision.serialize import check, fields, from_json, to_json

Design = Literal["factorial", "leave-one-out", "one-at-a-time", "grid"]

WITH, WITHOUT = "with", "without"
MOST_TRIALS = 10_000
LONGEST_NAME = 200
"""Characters of an arm's name, which is a folder's: file systems take 255."""


@dataclass(frozen=True)
class Factor:
    """Something of a run that is varied."""

    levels: Mapping[str, Mapping[str, Any]]
    """Level name -> changes: dotted field, as on the command line ("model.options.dropout"), -> value. The first level
    is the base's: where its changes name what the base says too, they say the same."""


@dataclass(frozen=True)
class Ablation:
    """A run and what is varied of it. Its name is the base's.

    design: `factorial`, all combinations of factors of two levels (X, Y, Z, X + Y, ...); `grid`, all combinations of
      any levels; `leave-one-out`, the base, and the base without each part; `one-at-a-time`, the base, and each other
      level of each factor alone.
    """

    base: Run
    factors: Mapping[str, Factor | Mapping[str, Any]]
    """Name -> what is varied. A plain dict stands for a part of the base: the changes that take it away (its levels are
    "with" and "without")."""
    design: Design
    seeds: int = 3
    """Trials of each arm, with the seeds base.seed, base.seed + 1, ..."""
    summary: str = ""
    """One sentence: what is asked."""

    @property
    def name(self) -> str:
        return self.base.name

    def level_names(self) -> dict[str, tuple[str, ...]]:
        """{factor: its levels}, the base's first."""
        return {name: tuple(levels) for name, levels in _checked(self)[1].items()}

    def arms(self) -> tuple["Arm", ...]:
        """The runs to compare, each once, the base first.

        Where two combinations give the same run, the first is taken. Raises: ConfigError: naming the factor and level.
        """
        base, factors = _checked(self)
        first = {name: next(iter(levels)) for name, levels in factors.items()}
        found: list[tuple[dict[str, str], Run]] = []
        for combination in _combinations(self.design, factors):
            run = base
            for name, level in combination.items():
                if level != first[name]:
                    run = _changed(run, factors[name][level], f"factor {name!r}, level {level!r}")
            if all(run != other for _, other in found):
                found.append((combination, check(run, where=f"{self.name}: arm {_arm_name(self, combination)}")))
        arms = []
        for levels, run in found:
            name = _arm_name(self, levels)
            if len(name) > LONGEST_NAME:
                raise ConfigError(f"{self.name}: an arm's name is too long for a folder. Shorten factors and levels."
                                  f" Received: {name!r}, {len(name)} characters")  # fmt: skip
            named = replace(run, name=f"{self.name}/{name}")
            arms.append(Arm(name, levels, _differences(base, run), named))
        return tuple(arms)

    def trials(self) -> tuple["Trial", ...]:
        """Every arm with every seed. The first seed of all arms comes first, so that a table is fair half-way."""
        arms, first = self.arms(), self.base.seed
        return tuple(
            Trial(arm.name, seed, replace(arm.run, name=f"{arm.run.name}/seed-{seed}", seed=seed))
            for seed in range(first, first + self.seeds)
            for arm in arms
        )


@dataclass(frozen=True)
class Arm:
    """One combination of levels. name: `all` or `base`, or what differs from it, such as no-dropout+pooling=average.
    changes: to the base, by dotted field (a field the run no longer has is not among them)."""

    name: str
    levels: dict[str, str]
    changes: dict[str, Any]
    run: Run


@dataclass(frozen=True)
class Trial:
    """An arm with a seed."""

    arm: str
    seed: int
    run: Run


Levels = dict[str, dict[str, Any]]


def _checked(ablation: Ablation) -> tuple[Run, dict[str, Levels]]:
    """The base, with every factor's first level said, and the levels. ConfigError: what is wrong of them."""
    where = f"{ablation.base.name}" if isinstance(ablation.base, Run) else "ablation"
    base = check(ablation.base, where=f"{where}: base")
    if ablation.design not in get_args(Design):
        near = nearest(str(ablation.design), get_args(Design))
        raise ConfigError(f"{where}: design must be one of {', '.join(get_args(Design))}.{near} Received:"
                          f" {ablation.design!r}")  # fmt: skip
    if type(ablation.seeds) is not int or ablation.seeds < 1 or ablation.base.seed + ablation.seeds > 2**32:
        raise ConfigError(f"{where}: seeds must be a number of trials an arm, 1 or more. Received: {ablation.seeds!r}")
    if not ablation.factors:
        raise ConfigError(f"{where}: an ablation needs at least one factor. Received: none")
    factors = {}
    for name, factor in ablation.factors.items():
        said = f"{where}: factor {name!r}"
        levels = factor.levels if isinstance(factor, Factor) else {WITH: {}, WITHOUT: factor}
        for level, changes in levels.items():
            if not isinstance(changes, Mapping):
                raise ConfigError(f"{said}, level {level!r}: changes are {{field: value}}. Received: {changes!r}")
        factors[name] = {level: dict(changes) for level, changes in levels.items()}
        if len(levels) < 2:
            raise ConfigError(f"{said}: needs at least two levels. Received: {', '.join(levels) or 'none'}")
        if len(levels) > 2 and ablation.design in ("factorial", "leave-one-out"):
            other = {"factorial": "grid", "leave-one-out": "one-at-a-time"}[ablation.design]
            raise ConfigError(f"{said}: design {ablation.design} takes factors of two levels; take {other}. Received:"
                              f" {', '.join(levels)}")  # fmt: skip
        _require_names(levels, f"{said}: level")
        base = _require_levels(base, factors[name], said)
    _require_names(factors, f"{where}: factor")
    counts = [len(levels) for levels in factors.values()]
    if ablation.design in ("factorial", "grid") and math.prod(counts) * ablation.seeds > MOST_TRIALS:
        raise ConfigError(f"{where}: that is {math.prod(counts) * ablation.seeds:,} trials. Vary fewer factors, or take"
                          f" design one-at-a-time. Received: {' x '.join(map(str, counts))}")  # fmt: skip
    return base, factors


def _require_names(names: Mapping[str, Any], what: str) -> None:
    """Names make folders, on disks that tell letter case apart and on others."""
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ConfigError(
                f"{what} {name!r}: a name is a text of letters, digits and . _ - (it is part of a folder's name)."
            )
        if any(name != other and name.casefold() == str(other).casefold() for other in names):
            raise ConfigError(f"{what} {name!r}: differs from another in letter case alone.")


def _require_levels(base: Run, levels: Levels, where: str) -> Run:
    """The first level is what the base says, each other one is something else. Returns the base with the first said."""
    (first, changes), *others = levels.items()
    said = dict(fields(json.loads(to_json(base))))
    for name, value in fields(json.loads(to_json(_changed(base, changes, f"{where}, level {first!r}")))):
        if name in said and said[name] != value:
            raise ConfigError(f"{where}, level {first!r}: the first level is the base's, and the base has {name}"
                              f" {said[name]!r}. Received: {value!r}")  # fmt: skip
    base = _changed(base, changes, where)
    for level, changes in others:
        if _changed(base, changes, f"{where}, level {level!r}") == base:
            raise ConfigError(f"{where}, level {level!r}: changes nothing of the base. Received: {changes!r}")
    return base


def _combinations(design: Design, factors: Mapping[str, Levels]) -> Iterator[dict[str, str]]:
    """{factor: level} of each arm; the base, of every factor's first level, comes first."""
    if design in ("factorial", "grid"):
        numbered = itertools.product(*(enumerate(levels) for levels in factors.values()))

        def changed(combination: tuple[tuple[int, str], ...]) -> tuple[int, list[int]]:
            places = [place for place, (number, _) in enumerate(combination) if number]
            return len(places), places

        # Those nearest to the base first, as one reads them: X, Y, Z, X + Y, X + Z, ...
        for combination in sorted(numbered, key=changed):
            yield dict(zip(factors, (level for _, level in combination), strict=True))
        return
    base = {name: next(iter(levels)) for name, levels in factors.items()}
    yield base
    for name, levels in factors.items():
        for level in list(levels)[1:]:
            yield {**base, name: level}


def _arm_name(ablation: Ablation, levels: Mapping[str, str]) -> str:
    parts = []
    for name, factor in ablation.factors.items():
        if not isinstance(factor, Factor):
            parts += [f"no-{name}"] if levels[name] == WITHOUT else []
        elif levels[name] != next(iter(factor.levels)):
            parts.append(f"{name}={levels[name]}")
    if parts:
        return "+".join(parts)
    return "base" if any(isinstance(factor, Factor) for factor in ablation.factors.values()) else "all"


def _changed(run: Run, changes: Mapping[str, Any], where: str) -> Run:
    """The run with these fields changed; as on the command line, another model starts from its own options."""
    document = json.loads(to_json(run))
    # Another model first, so that options named beside it are that model's.
    for path in sorted(changes, key=lambda path: path != "model.name"):
        value = changes[path]
        if path in ("seed", "name", "schema_version"):
            raise ConfigError(f"{where}: {path}: is not for a factor to change; trials are told apart by it.")
        if path == "model.name" and value != run.model.name:
            document["model"]["options"] = {}
        _set(document, path, value, where)
    try:
        text = json.dumps(document)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: values must be what JSON can hold ({error}). Received: {changes!r}") from error
    return from_json(text, where=where)


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
    if not key.isdecimal() or int(key) >= len(items):
        raise ConfigError(f"{where}: {path}: there are numbers 0 to {len(items) - 1}. Received: {key!r}")
    return int(key)


def _plain(value: Any) -> Any:
    """Parts of a run, such as `Augment()`, as JSON has them."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


def _differences(base: Run, run: Run) -> dict[str, Any]:
    before, after = (dict(fields(json.loads(to_json(each)))) for each in (base, run))
    absent = object()
    return {name: value for name, value in after.items() if before.get(name, absent) != value}
