"""One trial, or several in one program: a process that trains into run folders, and what became of it.

Engines (a loop, Ray) only say when and where `attempt` is called; all they share are the files it leaves.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from jaxvision.outputs import write_whole
from jaxvision.sweep.finished import has_result

Outcome = Literal["finished", "refused", "crashed", "stopped"]
"""refused: a message and exit code 2, which another try would give again. crashed: any other end without a result.
stopped: it was told to, and can be resumed."""

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 60.0
"""How long a trial may take to end that was told to twice, before it is killed."""
MESSAGE_LINES = 30
REFUSED = 2


@dataclass(frozen=True)
class Job:
    """A command that trains a trial, or several in one program, and their files, a path for each.

    name: what messages call it. run_dirs: run folders. logs: what is printed, of all attempts; of several trials the
    first has it. failures: the message of the last attempt, where that failed. cwd: the folder that relative paths of
    the runs start from.
    """

    name: str
    arguments: tuple[str, ...]
    run_dirs: tuple[Path, ...]
    logs: tuple[Path, ...]
    failures: tuple[Path, ...]
    cwd: Path

    @property
    def finished(self) -> bool:
        return all(map(has_result, self.run_dirs))

    def command(self) -> list[str]:
        """To be run by this process, with whose end it ends."""
        return [sys.executable, "-m", "jaxvision.sweep.child", str(os.getpid()), *self.arguments]


def attempt(
    job: Job, *, stop: Callable[[], bool], tick: Callable[[], None] = lambda: None, where: str = "here"
) -> Outcome:
    """Trains a job's trials, from where they stand, until they end or `stop` says so; then it saves what it takes to go
    on.

    A process that a killed sweep left at work on the same trial is waited for.

    Args:
      tick: called every POLL_SECONDS.
      where: what the log says of the place, such as a machine's name.
    """
    with owned(job, stop, tick) as logs:
        if not logs:
            return "stopped"
        if job.finished:
            return "finished"
        for failure, run_dir in zip(job.failures, job.run_dirs, strict=True):
            failure.unlink(missing_ok=True)
            result = run_dir / "result.json"
            if result.exists() and not has_result(run_dir):  # with it in its place, the run would not be gone on with
                result.replace(result.with_name("result.json.damaged"))
        line = f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {where}: "
        for log in logs:
            command = f"jaxvision {' '.join(job.arguments)}" if log is logs[0] else f"{job.name}: see {job.logs[0]}"
            log.write(f"{line}{command}\n".encode())
            log.flush()
        begin = logs[0].tell()
        code, stopped = _run(job, logs, stop, tick)
    if job.finished:
        return "finished"
    if stopped:
        return "stopped"
    _write_failures(job, code, begin)
    return "refused" if code == REFUSED else "crashed"


@contextmanager
def owned(
    job: Job, stop: Callable[[], bool] = lambda: False, tick: Callable[[], None] = lambda: None
) -> Iterator[list[IO[bytes]]]:
    """Opens and locks the logs, which the job's process inherits: they are locked as long as that lives, whoever has
    started it. Gives none where `stop` came first."""
    with ExitStack() as stack:
        logs: list[IO[bytes]] = []
        for path, run_dir in zip(job.logs, job.run_dirs, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            logs.append(stack.enter_context(path.open("ab")))
            if not _lock(logs[-1], job.name, run_dir, stop, tick):
                logs = []
                break
        yield logs


def _lock(log: IO[bytes], name: str, run_dir: Path, stop: Callable[[], bool], tick: Callable[[], None]) -> bool:
    """Locks a job's log of a run folder, or returns False where `stop` came first."""
    told = False
    while not stop():
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not told:
                print(f"{name}: waits for {_at_work(run_dir)}", file=sys.stderr, flush=True)
                told = True
            tick()
            time.sleep(POLL_SECONDS)
    return False


def _at_work(run_dir: Path) -> str:
    """The process that holds a trial's run folder, as its lock there tells."""
    try:
        number = (run_dir / ".lock").read_text().strip()
    except (OSError, UnicodeDecodeError):
        number = ""
    return f"process {number or 'unknown'}, which an earlier sweep left at work on it"


def _run(job: Job, logs: Sequence[IO[bytes]], stop: Callable[[], bool], tick: Callable[[], None]) -> tuple[int, bool]:
    """The exit code, and whether the process was told to stop."""
    # In a session of its own Ctrl-C does not reach it: a trial is told once, by us, and a second time would end it
    # without saving.
    process = subprocess.Popen(
        job.command(),
        stdin=subprocess.DEVNULL,
        stdout=logs[0],
        stderr=logs[0],
        cwd=job.cwd,
        start_new_session=True,
        pass_fds=[log.fileno() for log in logs[1:]],
    )
    told = False
    try:
        while process.poll() is None:
            if stop() and not told:
                process.terminate()
                told = True
            tick()
            time.sleep(POLL_SECONDS)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return process.returncode, told


def _write_failures(job: Job, code: int, begin: int) -> None:
    """The message that the process ended with, to each of its trials that has no result."""
    said = job.logs[0].read_bytes()[begin:].decode(errors="replace").rstrip()
    place = said.rfind("\nerror: ")
    if code == REFUSED and (place >= 0 or said.startswith("error: ")):
        text = said[place + 1 :].removeprefix("error: ")
    else:
        text = "\n".join([_end(code), *said.splitlines()[-MESSAGE_LINES:]])
    for failure, run_dir in zip(job.failures, job.run_dirs, strict=True):
        if not has_result(run_dir):
            failure.parent.mkdir(parents=True, exist_ok=True)
            write_whole(failure, f"{text}\n".encode())


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no result"
    known = {number.value: number.name for number in signal.Signals}
    name = known.get(-code, f"signal {-code}")
    memory = ", as the kernel does where memory runs out" if -code == signal.SIGKILL else ""
    return f"killed by {name}{memory}"
