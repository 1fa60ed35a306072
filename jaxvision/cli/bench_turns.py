"""What the benchmarks' commands share: turns, threads, the file they leave."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from jaxvision.cores import available_cores
from jaxvision.errors import ConfigError

Cases = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CASE...")]
"""Names of cases."""


@dataclass(frozen=True)
class Turns:
    """How long is measured, and where the result goes."""

    repeats: int = 5
    """Turns of each competitor; they alternate."""
    seconds: float = 3.0
    """About how long a turn takes."""
    threads: int | None = None
    """CPU threads of each competitor; none: as many as cores."""
    out: str | None = None
    """A JSON file to write."""

    def settings(self) -> dict[str, Any]:
        """What the result file says of it."""
        return {"repeats": self.repeats, "seconds": self.seconds}


def checked_threads(arguments: Turns) -> int:
    """Threads to use; and all that can be found wrong before minutes go into measuring."""
    for flag, value in (("--repeats", arguments.repeats), ("--seconds", arguments.seconds)):
        if not value > 0:
            raise ConfigError(f"{flag}: must be above 0. Received: {value}")
    check_out(arguments.out)
    cores = available_cores()
    if arguments.threads is not None and not 1 <= arguments.threads <= cores:
        raise ConfigError(f"--threads: this process may run on {cores} cores. Received: {arguments.threads}")
    if arguments.threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])  # the ceiling's too
    # This process keeps nothing on an accelerator that the competitors need.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    return arguments.threads or cores


def check_out(out: str | None) -> None:
    """ConfigError: no such file can be written."""
    if out is not None and (not out.endswith(".json") or not Path(out).parent.is_dir()):
        raise ConfigError(f"--out: must be a .json file in a folder that exists. Received: {out!r}")


def write(benchmark: str, argv: list[str], out: str, **content: Any) -> dict[str, Any]:
    """Writes what was measured, says where, and returns the document."""
    from jaxvision.bench.document import document, write_document

    written = document(benchmark, command=shlex.join(["jaxvision", "bench", benchmark, *argv]), **content)
    write_document(out, written)
    print(out)
    return written


def make_console() -> Console:
    """Standard output; wide enough for the tables where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=110)
