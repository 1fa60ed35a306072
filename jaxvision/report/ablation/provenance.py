"""Where and from what trials were run, and where they differ in it."""

import dataclasses
from collections.abc import Sequence

from jaxvision.report.ablation.trial import Trial
from jaxvision.report.results import machine_name

OF_NUMBERS = ("data", "pictures left out", "split seed", "source", "backend")
"""What, where it differs, makes trials differ in more than was asked."""


def provenance(trials: Sequence[Trial]) -> dict[str, dict[str, list[str]]]:
    """{what: {value: trials that have it, "ARM seed N"}} of the finished trials."""
    found: dict[str, dict[str, list[str]]] = {}
    for trial in trials:
        if trial.result:
            for what, value in _facts(trial).items():
                found.setdefault(what, {}).setdefault(value, []).append(f"{trial.arm} seed {trial.seed}")
    if list(found.get("pictures left out", ())) == ["none"]:
        del found["pictures left out"]
    return found


def _facts(trial: Trial) -> dict[str, str]:
    found = trial.environment
    assert found is not None
    assert trial.result is not None
    revision = "not a git checkout"
    if found.git:
        revision = found.git.commit[:12] + (" with changes" if found.git.dirty else "")
    return {
        "data": found.data_fingerprint[:12],
        "pictures left out": ", ".join(f"{part} {n}" for part, n in trial.result.left_out.items() if n) or "none",
        "split seed": "" if found.split_seed is None else str(found.split_seed),
        # The hash of the files; a revision says less, as files may differ from it.
        "source": found.source[:12] or revision,
        "revision": revision,
        "backend": found.backend,
        "machine": machine_name(dataclasses.asdict(found)) if found.devices else "",
        "Python": found.python,
        **found.packages,
        "XLA flags": found.xla_flags or "none",
    }
