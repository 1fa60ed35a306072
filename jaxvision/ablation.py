"""What an ablation is: a run, what of it is varied, and which combinations are tried.

`Ablation` is a value, as `Run` is; `arms` and `trials` expand it. Nothing here reads, writes or trains.
"""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from jaxvision.changes import changed, differences, flat, overlap
from jaxvision.config import Run
from jaxvision.errors import ConfigError, nearest
from jaxvision.serialize import check

Design = Literal["factorial", "leave-one-out", "one-at-a-time", "grid"]

WITH, WITHOUT = "with", "without"
OPTIONS = "model.options."
MOST_TRIALS = 10_000
LONGEST_NAME = 200
"""Characters of an arm's name, which is a folder's: file systems take 255."""


@dataclass(frozen=True)
class Factor:
    """Something of a run that is varied."""

    levels: Mapping[str, Mapping[str, Any]]
    """Level name -> changes: dotted field, as on the command line ("model.options.dropout"), -> value. The first level
    is the base's: its changes say what the base says, or what its model does by default."""


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

    def assumed(self) -> Iterator[tuple[str, str, str, Any]]:
        """Factor, first level, option, value: what first levels say of the model's options and the base does not. It is
        for who knows models to see that these are the model's defaults."""
        _, factors = _checked(self)
        base = check(self.base)
        for name, levels in factors.items():
            first, changes = next(iter(levels.items()))
            for field, value in differences(base, changed(base, changes, name)).items():
                yield name, first, field.removeprefix(OPTIONS), value

    def arms(self) -> tuple["Arm", ...]:
        """The runs to compare, each once, the base first.

        Where two combinations give the same run, the first is taken. Raises: ConfigError: naming the factor and level.
        """
        base, factors = _checked(self)
        found: dict[Any, tuple[dict[str, str], Run]] = {}
        for combination in _combinations(self.design, factors):
            # All at once: another model takes away the options of the one before, which other factors set.
            changes = {
                path: value for name, level in combination.items() for path, value in factors[name][level].items()
            }
            run = changed(base, changes, f"{self.name}: arm {_arm_name(self, combination)}")
            same = frozenset((name, tuple(v) if isinstance(v, list) else v) for name, v in flat(run).items())
            found.setdefault(same, (combination, run))
        arms = []
        for levels, run in found.values():
            name = _arm_name(self, levels)
            if len(name) > LONGEST_NAME:
                raise ConfigError(f"{self.name}: an arm's name is too long for a folder. Shorten factors and levels."
                                  f" Received: {name!r}, {len(name)} characters")  # fmt: skip
            named = replace(run, name=f"{self.name}/{name}")
            arms.append(Arm(name, levels, differences(base, run), named))
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
    if not isinstance(ablation.factors, Mapping):
        raise ConfigError(f"{where}: factors are {{name: what is varied}}. Received: {ablation.factors!r}")
    if not ablation.factors:
        raise ConfigError(f"{where}: an ablation needs at least one factor. Received: none")
    _require_names(ablation.factors, f"{where}: factor")
    factors = {name: _levels(factor, f"{where}: factor {name!r}") for name, factor in ablation.factors.items()}
    _require_few(ablation, factors, where)
    for name, levels in factors.items():
        said = f"{where}: factor {name!r}"
        if len(levels) > 2 and ablation.design in ("factorial", "leave-one-out"):
            other = {"factorial": "grid", "leave-one-out": "one-at-a-time"}[ablation.design]
            raise ConfigError(f"{said}: design {ablation.design} takes factors of two levels; take {other}. Received:"
                              f" {', '.join(levels)}")  # fmt: skip
        base = _require_levels(base, levels, said)
    for (one, some), (other, others) in itertools.combinations(factors.items(), 2):
        if field := overlap({path for each in some.values() for path in each},
                            {path for each in others.values() for path in each}):  # fmt: skip
            raise ConfigError(f"{where}: factors {one!r} and {other!r} both set {field}, and one would undo the other."
                              " Make them levels of one factor.")  # fmt: skip
    return base, factors


def _levels(factor: Any, where: str) -> Levels:
    """{level: changes} of a factor, of the types that they are to have."""
    levels = factor.levels if isinstance(factor, Factor) else {WITH: {}, WITHOUT: factor}
    if not isinstance(levels, Mapping):
        raise ConfigError(f"{where}: levels are {{level: changes}}. Received: {levels!r}")
    for level, changes in levels.items():
        if not isinstance(changes, Mapping) or not all(isinstance(path, str) for path in changes):
            raise ConfigError(f"{where}, level {level!r}: changes are {{field: value}}. Received: {changes!r}")
    if len(levels) < 2:
        raise ConfigError(f"{where}: needs at least two levels. Received: {', '.join(map(str, levels)) or 'none'}")
    _require_names(levels, f"{where}: level")
    return {level: dict(changes) for level, changes in levels.items()}


def _require_few(ablation: Ablation, factors: Mapping[str, Levels], where: str) -> None:
    """ConfigError: so many trials that to list them alone would take long."""
    counts = [len(levels) for levels in factors.values()]
    combined = ablation.design in ("factorial", "grid")
    arms = math.prod(counts) if combined else 1 + sum(counts) - len(counts)
    if arms * ablation.seeds > MOST_TRIALS:
        instead = "Vary fewer factors, take fewer seeds, or design one-at-a-time" if combined else "Take fewer seeds"
        received = f"{' x '.join(map(str, counts))} levels" if combined else f"{arms:,} arms"
        raise ConfigError(f"{where}: that is {arms * ablation.seeds:,} trials, more than {MOST_TRIALS:,}. {instead}."
                          f" Received: {received}, {ablation.seeds:,} seeds")  # fmt: skip


def _require_names(names: Mapping[str, Any], what: str) -> None:
    """Names make folders, on disks that tell letter case apart and on others."""
    alike = Counter(str(name).casefold() for name in names)
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ConfigError(
                f"{what} {name!r}: a name is a text of letters, digits and . _ - (it is part of a folder's name)."
            )
        if alike[name.casefold()] > 1:
            raise ConfigError(f"{what} {name!r}: differs from another in letter case alone.")


def _require_levels(base: Run, levels: Levels, where: str) -> Run:
    """The first level is what the base says, each other one is something else. Returns the base with the first said.

    An option of the model that the base does not name may be named: see `Ablation.assumed`.
    """
    (first, changes), *others = levels.items()
    run = changed(base, changes, f"{where}, level {first!r}")
    before, after = flat(base), flat(run)
    for name in dict.fromkeys([*before, *after]):
        unsaid = name not in before and name.startswith(OPTIONS)
        if not unsaid and (name not in before or name not in after or before[name] != after[name]):
            there, here = (repr(each[name]) if name in each else "none" for each in (before, after))
            raise ConfigError(f"{where}, level {first!r}: the first level is the base's, and the base has {name}"
                              f" {there}. Received: {here}")  # fmt: skip
    for level, changes in others:
        if changed(run, changes, f"{where}, level {level!r}") == run:
            raise ConfigError(f"{where}, level {level!r}: changes nothing of the base. Received: {changes!r}")
    return run


def _combinations(design: Design, factors: Mapping[str, Levels]) -> Iterator[dict[str, str]]:
    """{factor: level} of each arm; the base, of every factor's first level, comes first."""
    if design in ("factorial", "grid"):
        numbered = itertools.product(*(enumerate(levels) for levels in factors.values()))

        def distance(combination: tuple[tuple[int, str], ...]) -> tuple[int, list[int]]:
            places = [place for place, (number, _) in enumerate(combination) if number]
            return len(places), places

        # Those nearest to the base first, as one reads them: X, Y, Z, X + Y, X + Z, ...
        for combination in sorted(numbered, key=distance):
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
