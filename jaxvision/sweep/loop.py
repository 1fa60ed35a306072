"""The engine that needs nothing: trials in turn."""

from collections.abc import Callable, Sequence

from jaxvision.sweep.trial import Job, attempt


def run_in_turn(jobs: Sequence[Job], *, retries: int, stop: Callable[[], bool], tick: Callable[[], None]) -> None:
    """Runs one trial after the other, each again up to `retries` times where it crashes, until `stop` says so."""
    for job in jobs:
        for _ in range(retries + 1):
            if attempt(job, stop=stop, tick=tick) != "crashed":
                break
        if stop():
            return
