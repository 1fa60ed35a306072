"""No process waits for one that is gone or has failed: each ends within a minute, and says why.

A process that fails tells the others before it leaves; a thread in each listens. One that is killed, or whose host is
gone, tells nobody: `jax.distributed` misses its heartbeats and aborts the others from C++, and gloo's collectives fail.
"""

import atexit
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import jax

from jaxvision import processes
from jaxvision.errors import HostGoneError, StoppedError, UserError

HEARTBEAT_SECONDS = 30
"""`jax.distributed` takes a process for dead after about so long without a heartbeat; they come from C++, also while
Python is busy."""
LISTEN_SECONDS = 1.0
GRACE_SECONDS = 5.0
"""A fault that all processes find by themselves is to be told by each in its own words."""
LEAVE_SECONDS = 10.0
"""Process 0 holds the store, so it waits so long for the others to leave before it."""

AGAIN = "Start all of them again with the same command; with --resume the run goes on from what was saved last."
LOST = ("Gloo", "NCCL", "coordination service", "Connection closed by peer", "Connection reset by peer")
"""What errors say that come of a peer that is gone."""

_failed: int | None = None
"""The exit code of this process, where it failed."""


@contextmanager
def together() -> Iterator[None]:
    """Around what several processes do together: where one of them fails the others are told, and end, too.

    Raises: HostGoneError: another process is gone.
    """
    try:
        yield
    except StoppedError:
        raise  # in all of them after the same step
    except BaseException as error:
        if processes.process_count() == 1:
            raise
        if isinstance(error, jax.errors.JaxRuntimeError) and any(sign in str(error) for sign in LOST):
            gone = HostGoneError(f"another process of this run is gone. {AGAIN} Received: {_first_line(error)}")
            _fail(gone)
            raise gone from error
        _fail(error)
        raise


def _fail(error: BaseException) -> None:
    global _failed
    if _failed is None:
        _failed = 2 if isinstance(error, UserError) else 1
        with suppress(jax.errors.JaxRuntimeError):
            processes.tell(f"failed/{processes.process_index()}", f"{type(error).__name__}: {_first_line(error)}")


class Watchdog(threading.Thread):
    """Listens for processes that fail. Started by `jaxvision.distributed.join`.

    The store goes with process 0; where it fails, `jax.distributed` is about to end this process anyway.
    """

    def __init__(self) -> None:
        super().__init__(name="jaxvision-watchdog", daemon=True)
        self._over = threading.Event()
        atexit.register(self._leave)  # before JAX's own, which waits for all processes

    def run(self) -> None:
        mine = str(processes.process_index())
        while not self._over.wait(LISTEN_SECONDS):
            failed: dict[str, Any] = {}
            with suppress(jax.errors.JaxRuntimeError):
                failed = processes.told("failed")
            others = {number: why for number, why in failed.items() if number != mine}
            if others and _failed is None and not self._over.wait(GRACE_SECONDS) and _failed is None:
                number, why = next(iter(others.items()))
                say(f"error: process {number} of this run has failed, and this one ends with it. {why}")
                self._end(1)

    def _leave(self) -> None:
        self._over.set()
        if _failed is not None:
            self._end(_failed)

    def _end(self, code: int) -> None:
        """Without JAX's farewell, in which each process waits for all others."""
        with suppress(jax.errors.JaxRuntimeError):
            processes.tell(f"left/{processes.process_index()}", code)
            until = time.monotonic() + LEAVE_SECONDS
            while processes.is_writer() and time.monotonic() < until:
                if len(processes.told("left")) == processes.process_count():
                    break
                time.sleep(0.1)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


class OnAbort:
    """What this process says and how it exits when C++ aborts it, which is how `jax.distributed` ends the others of a
    process that is gone; it has no other way to tell them (jax 0.10)."""

    message = ""

    def __init__(self) -> None:
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._end)
        ctypes.CDLL(None).signal(signal.SIGABRT, self._handler)

    def _end(self, number: int) -> None:
        say(self.message)
        os._exit(1)


def say(message: str) -> None:
    """A line on standard error, also from a process in any state."""
    os.write(2, f"{message}\n".encode())


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:500]
