"""What there is to report on: arms and their trials."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxvision.report.ablation.trial import Trial


@dataclass(frozen=True)
class Arm:
    """Runs that differ in nothing but their seed. levels: {factor: level} where the sweep has factors. changes: to the
    base, {field: value}, as the sweep planned them, or as they make an arm of runs that no sweep planned."""

    name: str
    trials: tuple[Trial, ...]
    levels: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """Arms, one of which is the base. design: None of runs that no sweep planned. factors: {factor: levels}, the base's
    first. unread: {run folder: why} of those whose config.json cannot be read, and that are in no arm."""

    name: str
    summary: str
    design: str | None
    base: str
    factors: Mapping[str, tuple[str, ...]]
    arms: tuple[Arm, ...]
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Of all arms."""
        return tuple(trial for arm in self.arms for trial in arm.trials)
