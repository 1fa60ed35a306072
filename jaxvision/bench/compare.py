"""Peers train the same case in turn; their first losses prove it, their turns are timed."""

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
    """ok: the first losses agree; random: not comparable (augmentation, dropout), only the parameters were compared;
    differs: it trains something else; failed: it could not take part, or broke off."""
    reason: str | None = None
    device: str | None = None
    setup: str | None = None
    versions: Mapping[str, str] | None = None
    parameters: int | None = None
    losses: tuple[float, ...] = ()
    seconds_to_first_step: float | None = None
    """From the start of the process: import, building, compiling (no compilation cache), one step."""
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
    """Largest relative difference of two peers' losses that rounding explains."""
    return 1e-3 if precision == "float32" and device == "cpu" else 2e-2


def compared(results: Sequence[PeerResult], case: Case, precision: Precision) -> list[PeerResult]:
    """The results with `status` and `reason` of those that do not train what the first one that runs does."""
    running = [result for result in results if result.status != "failed"]
    if not running:
        return list(results)
    reference = next((result for result in running if result.peer == OURS), running[0])
    return [result if result.status == "failed" else _compare(result, reference, case, precision) for result in results]


def _compare(result: PeerResult, reference: PeerResult, case: Case, precision: Precision) -> PeerResult:
    if result.parameters != reference.parameters:
        reason = f"{result.parameters:,} parameters where {reference.peer} has {reference.parameters:,}"
        return replace(result, status="differs", reason=reason)
    if case.is_random:
        return replace(result, status="random")
    limit = tolerance(precision, result.device)
    for step, (loss, expected) in enumerate(zip(result.losses, reference.losses, strict=True), start=1):
        if not math.isclose(loss, expected, rel_tol=limit):
            reason = f"loss of step {step} is {loss:.5f} where {reference.peer} has {expected:.5f}"
            return replace(result, status="differs", reason=reason)
    return result


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
    """Every peer trains the case: one after the other is started, then they take `repeats` turns of about `seconds`.

    A peer that cannot take part is in the result with the reason. progress: told what is being done.
    """
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        inputs, target = pictures(case)
        weights = {f"weight:{name}": value for name, value in initial_weights(case).items()}
        np.savez(folder / "arrays.npz", inputs=inputs, target=target, **weights)  # type: ignore[arg-type]
        task = {"case": as_dict(case), "precision": precision, "threads": threads, "arrays": str(folder / "arrays.npz")}
        environment = {name: str(folder / cache) for name, cache in CACHES.items()}

        processes: dict[str, PeerProcess] = {}
        results: dict[str, PeerResult] = {}
        for name, script in peers.items():
            progress(f"{case.name}: {name} starts")
            process = PeerProcess(*script, threads=threads, environment=environment)
            processes[name] = stack.enter_context(process)
            try:
                results[name] = _introduce(name, process.ask({**task, "started": time.time()}))
                turn = _turn(process)
                results[name] = replace(results[name], steps_per_turn=steps_for(seconds, turn))
            except PeerFailedError as error:
                results[name] = PeerResult(name, "failed", str(error))
        results = {result.peer: result for result in compared(list(results.values()), case, precision)}
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


def _introduce(name: str, answer: dict[str, Any]) -> PeerResult:
    return PeerResult(name, **{**answer, "losses": tuple(answer["losses"])})


def _turn(process: PeerProcess) -> Callable[[int], float]:
    return lambda steps: process.ask({"steps": steps})["seconds"]
