"""One trial: a process that trains into its run folder, and what became of it.

Engines (a loop, Ray) only say when and where `attempt` is called; all they share are the files it leaves.
"""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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
    """A trial's command and files. run_dir: its run folder. log: what it prints, of all attempts. failure: the message
    of the last one, where that failed. cwd: the folder that relative paths of the run start from."""

    arm: str
    seed: int
    arguments: tuple[str, ...]
    run_dir: Path
    log: Path
    failure: Path
    cwd: Path

    @property
    def finished(self) -> bool:
        return has_result(self.run_dir)

    def command(self) -> list[str]:
        """To be run by this process, with whose end it ends."""
        return [sys.executable, "-m", "jaxvision.sweep.child", str(os.getpid()), *self.arguments]


def attempt(
    job: Job, *, stop: Callable[[], bool], tick: Callable[[], None] = lambda: None, where: str = "here"
) -> Outcome:
    """Trains a trial, from where it stands, until it ends or `stop` says so; then it saves what it takes to go on.

    A process that a killed sweep left at work on the same trial is waited for.

    Args:
      tick: called every POLL_SECONDS.
      where: what the log says of the place, such as a machine's name.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        if not own(job, log, stop, tick):
            return "stopped"
        if job.finished:
            return "finished"
        job.failure.unlink(missing_ok=True)
        result = job.run_dir / "result.json"
        if result.exists():  # damaged; with it in its place, the run would not be gone on with
            result.replace(result.with_name("result.json.damaged"))
        log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {where}: jaxvision {' '.join(job.arguments)}\n".encode())
        log.flush()
        begin = log.tell()
        code, stopped = _run(job, log, stop, tick)
    if job.finished:
        return "finished"
    if stopped:
        return "stopped"
    _write_failure(job, code, begin)
    return "refused" if code == REFUSED else "crashed"


def own(
    job: Job, log: IO[bytes], stop: Callable[[], bool] = lambda: False, tick: Callable[[], None] = lambda: None
) -> bool:
    """Locks the log, which the trial's process inherits: it is locked as long as that lives, whoever started it.

    Returns: False where `stop` came first.
    """
    told = False
    while not stop():
        try:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not told:
                print(f"{job.arm}, seed {job.seed}: waits for {_at_work(job)}", file=sys.stderr, flush=True)
                told = True
            tick()
            time.sleep(POLL_SECONDS)
    return False


def _at_work(job: Job) -> str:
    """The process that holds a trial's run folder, as its lock there tells."""
    try:
        number = (job.run_dir / ".lock").read_text().strip()
    except (OSError, UnicodeDecodeError):
        number = ""
    return f"process {number or 'unknown'}, which an earlier sweep left at work on it"


def _run(job: Job, log: IO[bytes], stop: Callable[[], bool], tick: Callable[[], None]) -> tuple[int, bool]:
    """The exit code, and whether the process was told to stop."""
    # In a session of its own Ctrl-C does not reach it: a trial is told once, by us, and a second time would end it
    # without saving.
    process = subprocess.Popen(
        job.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=job.cwd, start_new_session=True
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


def _write_failure(job: Job, code: int, begin: int) -> None:
    said = job.log.read_bytes()[begin:].decode(errors="replace").rstrip()
    place = said.rfind("\nerror: ")
    if code == REFUSED and (place >= 0 or said.startswith("error: ")):
        text = said[place + 1 :].removeprefix("error: ")
    else:
        text = "\n".join([_end(code), *said.splitlines()[-MESSAGE_LINES:]])
    job.failure.parent.mkdir(parents=True, exist_ok=True)
    write_whole(job.failure, f"{text}\n".encode())


def _end(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code} and no result"
    known = {number.value: number.name for number in signal.Signals}
    name = known.get(-code, f"signal {-code}")
    memory = ", as the kernel does where memory runs out" if -code == signal.SIGKILL else ""
    return f"killed by {name}{memory}"
