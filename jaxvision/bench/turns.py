"""Peers' processes that take turns: while one works, the others are stopped, so that no idle thread spins."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jaxvision

ANSWER_SECONDS = 1800.0
"""A peer that has not answered by then has failed."""

Message = dict[str, Any]


class PeerFailedError(Exception):
    """A peer's process cannot take part; the message is the reason, in one line."""


class PeerProcess:
    """A process that answers JSON lines; stopped (SIGSTOP) except while it is asked. A context manager."""

    def __init__(
        self, module: str, arguments: Sequence[str] = (), *, threads: int, environment: Mapping[str, str] | None = None
    ):
        """Starts `python -m module arguments`.

        Args:
          threads: cores of this process' affinity that it may use.
          environment: on top of this process' own.
        """
        self._errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - closed in __exit__
        package = str(Path(jaxvision.__file__).parents[1])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        with _on_cores(threads):
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, **_environment(threads), **(environment or {}), "PYTHONPATH": path},
                # A group of its own, so that its helpers (torch's compilers) are stopped and ended with it; in our
                # session, so that the kernel ends a stopped group whose parent is gone.
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]

    def ask(self, message: Message) -> Message:
        """Lets it run, asks, waits for the answer and stops it again. PeerFailedError: no answer, or an error."""
        self._signal(signal.SIGCONT)
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
            answer = json.loads(self._line())
        except (BrokenPipeError, json.JSONDecodeError):
            raise PeerFailedError(self._last_words()) from None
        finally:
            self._signal(signal.SIGSTOP)
        if "error" in answer:
            raise PeerFailedError(answer["error"])
        return answer

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = b""
        deadline = time.monotonic() + ANSWER_SECONDS
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise PeerFailedError(f"no answer in {ANSWER_SECONDS:.0f} s")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                break
            line += piece
        return line

    def _last_words(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it waits for us, after an answer that is none
            self._signal(signal.SIGKILL)
            code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().splitlines() if line.strip()]
        missing = re.match(r"ModuleNotFoundError: No module named '(\w+)", lines[-1] if lines else "")
        if missing:
            return f"{missing[1]} is not installed: pip install 'jaxvision[bench]'"
        ended = f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"{ended}: {lines[-1][:200]}" if lines else ended

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _environment(threads: int) -> dict[str, str]:
    """The same number of threads for every library, device memory on demand, and no compilation cache."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    return dict.fromkeys(names, str(threads)) | {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }


@contextlib.contextmanager
def _on_cores(count: int) -> Iterator[None]:
    """Processes started meanwhile run on the first `count` cores of ours: XLA makes as many threads as it has cores."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(ours)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def interleaved(names: Sequence[str], repeats: int) -> Iterator[tuple[int, str]]:
    """(repeat, name), repeats from 1: all of them each time, and each time another one first."""
    for repeat in range(repeats):
        first = repeat % len(names)
        for name in (*names[first:], *names[:first]):
            yield repeat + 1, name


def steps_for(seconds: float, turn: Callable[[int], float]) -> int:
    """How many steps take about so many seconds. `turn(steps)` gives the seconds that steps take.

    After one turn that does not count, more and more steps are tried until they take a quarter of that.
    """
    turn(1)
    steps = 1
    while (taken := turn(steps)) < seconds / 4:
        steps = max(steps + 1, min(steps * 10, round(steps * seconds / 3 / max(taken, 1e-6))))
    return max(1, round(steps * seconds / taken))
