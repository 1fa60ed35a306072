"""Where and from what trials were run, and where they differ in it."""

from collections.abc import Sequence
from typing import Any

from jaxvision.report.ablation.sweep import Trial
from jaxvision.report.results import machine_name

OF_NUMBERS = ("data", "split seed", "source", "backend")
"""What, where it differs, makes trials differ in more than was asked."""


def provenance(trials: Sequence[Trial]) -> dict[str, dict[str, list[str]]]:
    """{what: {value: trials that have it, "ARM seed N"}} of the finished trials."""
    found: dict[str, dict[str, list[str]]] = {}
    for trial in trials:
        if trial.result:
            for what, value in _facts(trial).items():
                found.setdefault(what, {}).setdefault(value, []).append(f"{trial.arm} seed {trial.seed}")
    return found


def _facts(trial: Trial) -> dict[str, str]:
    environment: dict[str, Any] = dict(trial.environment)
    git = environment.get("git")
    source = "not a git checkout" if not git else git["commit"][:12] + (" with changes" if git["dirty"] else "")
    devices = environment.get("devices", [])
    return {
        "data": environment.get("data_fingerprint", "")[:12],
        "split seed": str(environment.get("split_seed", "")),
        "source": source,
        "backend": environment.get("backend", ""),
        "machine": machine_name(environment) if devices else "",
        "Python": environment.get("python", ""),
        **environment.get("packages", {}),
        "XLA flags": environment.get("xla_flags", "") or "none",
    }
