"""Peers work on the same case in turn; their first losses or features prove it, their turns are timed."""

import contextlib
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxvision.bench.cases import Case, Precision, as_dict, initial_weights, pictures
from jaxvision.bench.peers import OURS, Script
from jaxvision.bench.turns import PeerFailedError, PeerProcess, interleaved, steps_for

CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""Variables that name a folder of compiled programs; a new one each time, so that all compile anew."""

Progress = Callable[[str], None]


@dataclass(frozen=True)
class PeerResult:
    """What one peer did with a case. Rates are pictures a second, one a turn."""

    peer: str
    status: Literal["ok", "random", "differs", "failed"] = "ok"
    """ok: the first losses or features agree; random: not comparable (augmentation, dropout), only the parameters were
    compared; differs: it computes something else; failed: it could not take part, or broke off."""
    reason: str | None = None
    device: str | None = None
    setup: str | None = None
    versions: Mapping[str, str] | None = None
    parameters: int | None = None
    losses: tuple[float, ...] = ()
    """Training: of the first steps."""
    difference: float | None = None
    """Inference: the largest of the first features' differences from jaxvision's, as a share of the largest feature."""
    seconds_to_first_step: float | None = None
    """From the start of the process: import, building, compiling (no compilation cache), one step or batch."""
    steps_per_turn: int | None = None
    turns: tuple[float, ...] = ()

    @property
    def median(self) -> float | None:
        """Median rate; None without turns."""
        return statistics.median(self.turns) if self.turns else None


def ratio(ours: PeerResult, other: PeerResult) -> float | None:
    """How many times as fast as the other we are, by medians; None where either was not timed."""
    return ours.median / other.median if ours.median and other.median else None


def as_dicts(results: Sequence[PeerResult]) -> list[dict[str, Any]]:
    """JSON values: the fields, and what follows from them: rates as min, median and max, and `ratio`."""
    ours = next((result for result in results if result.peer == OURS), None)
    return [
        {
            **asdict(result),
            "images_per_second": {"min": min(result.turns), "median": result.median, "max": max(result.turns)}
            if result.turns
            else None,
            "ratio": None if ours is None else ratio(ours, result),
        }
        for result in results
    ]


def tolerance(precision: Precision, device: str | None) -> float:
    """Largest relative difference of two peers' losses or features that rounding explains."""
    return 1e-3 if precision == "float32" and device == "cpu" else 2e-2


def compared(
    results: Sequence[PeerResult], case: Case, precision: Precision, found: Mapping[str, np.ndarray]
) -> list[PeerResult]:
    """The results with `status` and `reason` of those that do not compute what the first one that runs does.

    found: by peer, what `Peer.check` gave: losses (k,) or features (k, B, h, w, c).
    """
    running = [result for result in results if result.status != "failed"]
    if not running:
        return list(results)
    reference = next((result for result in running if result.peer == OURS), running[0])
    return [
        result if result.status == "failed" else _compare(result, reference, case, precision, found)
        for result in results
    ]


def _compare(
    result: PeerResult, reference: PeerResult, case: Case, precision: Precision, found: Mapping[str, np.ndarray]
) -> PeerResult:
    values, expected = found[result.peer].astype(np.float64), found[reference.peer].astype(np.float64)
    if not case.is_inference:
        result = replace(result, losses=tuple(values.tolist()))
    if result.parameters != reference.parameters:
        reason = f"{result.parameters:,} parameters where {reference.peer} has {reference.parameters:,}"
        return replace(result, status="differs", reason=reason)
    if case.is_random:
        return replace(result, status="random")
    limit = tolerance(precision, result.device)
    if case.is_inference:
        return _compare_features(result, values, reference.peer, expected, limit)
    for step, (loss, wanted) in enumerate(zip(values, expected, strict=True), start=1):
        if not math.isclose(loss, wanted, rel_tol=limit):
            reason = f"loss of step {step} is {loss:.5f} where {reference.peer} has {wanted:.5f}"
            return replace(result, status="differs", reason=reason)
    return result


def _compare_features(
    result: PeerResult, values: np.ndarray, reference: str, expected: np.ndarray, limit: float
) -> PeerResult:
    if values.shape != expected.shape:
        reason = f"features of shape {values.shape[2:]} where {reference} has {expected.shape[2:]}"
        return replace(result, status="differs", reason=reason)
    difference = float(np.max(np.abs(values - expected)) / np.max(np.abs(expected)))
    result = replace(result, difference=difference)
    if difference <= limit:
        return result
    reason = f"features differ from {reference}'s by up to {difference:.2g} of the largest"
    return replace(result, status="differs", reason=reason)


def run_case(
    case: Case,
    peers: Mapping[str, Script],
    *,
    repeats: int,
    seconds: float,
    precision: Precision,
    threads: int,
    progress: Progress = lambda line: None,
) -> list[PeerResult]:
    """Every peer works on the case: one after the other is started, then they take `repeats` turns of about `seconds`.

    A peer that cannot take part is in the result with the reason. progress: told what is being done.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        inputs, target = pictures(case)
        weights, trained = initial_weights(case)
        named = {f"weight:{name}": value for name, value in weights.items()}
        np.savez(folder / "arrays.npz", inputs=inputs, target=target, **named)  # type: ignore[arg-type]
        task = {
            "case": as_dict(case),
            "precision": precision,
            "threads": threads,
            "arrays": str(folder / "arrays.npz"),
            "trained": sorted(trained),
        }
        environment = {name: str(folder / cache) for name, cache in CACHES.items()}

        processes: dict[str, PeerProcess] = {}
        results: dict[str, PeerResult] = {}
        found: dict[str, np.ndarray] = {}
        for name, script in peers.items():
            progress(f"{case.name}: {name} starts")
            process = PeerProcess(*script, threads=threads, environment=environment)
            processes[name] = stack.enter_context(process)
            try:
                file = folder / f"{name}.npy"
                results[name] = PeerResult(name, **process.ask({**task, "found": str(file), "started": time.time()}))
                found[name] = np.load(file)
                turn = _turn(process)
                results[name] = replace(results[name], steps_per_turn=steps_for(seconds, turn))
            except PeerFailedError as error:
                results[name] = PeerResult(name, "failed", str(error))
        results = {result.peer: result for result in compared(list(results.values()), case, precision, found)}
        for repeat, name in interleaved(list(peers), repeats):
            result = results[name]
            if result.steps_per_turn is None or result.status == "failed":
                continue
            progress(f"{case.name}: {name}, turn {repeat} of {repeats}")
            try:
                taken = _turn(processes[name])(result.steps_per_turn)
            except PeerFailedError as error:
                results[name] = replace(result, status="failed", reason=str(error))
            else:
                rate = result.steps_per_turn * case.batch_size / taken
                results[name] = replace(result, turns=(*result.turns, rate))
    return list(results.values())


def _turn(process: PeerProcess) -> Callable[[int], float]:
    return lambda steps: process.ask({"steps": steps})["seconds"]
