"""From a `Run` to a run folder and its `Result`."""

import os
import time
from collections.abc import Mapping
from typing import Any

from jaxvision.bucket import require_reachable
from jaxvision.config import Run
from jaxvision.errors import StoppedError
from jaxvision.processes import entered_on_writer, folder_on_writer, on_writer
from jaxvision.train.alike import require_same_run_in_all
from jaxvision.train.compilation import keep_compiled
from jaxvision.train.folder import new_run_folder, require_free
from jaxvision.train.lock import RunLock
from jaxvision.train.memory import keep_memory
from jaxvision.train.prepared import described, prepare
from jaxvision.train.result import Result, read_result
from jaxvision.train.resume import begun_run, default_folder
from jaxvision.train.saving import writing_run
from jaxvision.train.train_members import train_members
from jaxvision.watchdog import together


def fit(
    run: Run,
    *,
    run_dir: str | os.PathLike[str] | None = None,
    data: Mapping[str, Any] | None = None,
    progress: bool = True,
    resume: bool = False,
) -> Result:
    """Trains a run, tests its best checkpoint, and leaves everything in a run folder.

    Args:
      run: what to do; see `jaxvision.config.Run`.
      run_dir: a new folder; None: runs/NAME, or runs/NAME-2 and so on where that exists.
      data: {"train": X, "validation": X, "test": X} in place of `run.data.source`; X is (pictures, labels) arrays or
        a `tf.data.Dataset` of such pairs; all but "train" may be left out.
      progress: print a progress bar, or a line per epoch where the output is not a terminal.
      resume: go on with the run in `run_dir` (None: runs/NAME) from the newest training state, to the same parameters
        and metrics.jsonl as if it had never stopped, bit for bit where devices and versions are the same; begin it
        where there is none yet; give the result where it is done.

    Processes that were joined (`jaxvision.distributed.join`) call this with the same run, and train it together on all
    their devices: process 0 writes all but arrays into the folder, which all must see. A fault in one ends all of them.

    SIGTERM and Ctrl-C stop the run after the step that is going on, and save what it takes to resume it. On a CPU this
    process keeps the memory it frees from then on (`jaxvision.train.memory`).

    Returns: the result, which is also in the folder's result.json. Validation and test metrics are those of the best
      checkpoint as reloaded from disk. Test data takes no part in choosing it.

    Raises:
      UserError: something in the run or the data is wrong; no run folder is left. Only NonFiniteLossError, a streamed
        picture found broken later, a device that runs out of memory later and a disk that is full leave one, with the
        last good checkpoint and the curves so far.
      StoppedError (a KeyboardInterrupt): a signal stopped the run.
      HostGoneError: another process of the run is gone. Mostly that ends this one at once, with code 1 and a message.
    """
    return fit_or_repeat(run, run_dir=run_dir, data=data, progress=progress, resume=resume)


@together()
def fit_or_repeat(
    run: Run,
    *,
    run_dir: str | os.PathLike[str] | None,
    data: Mapping[str, Any] | None = None,
    progress: bool,
    resume: bool = False,
    repeats: bool = False,
) -> Result:
    """`fit`. repeats: this is a run that was trained before, to be done again as it was: what would be refused of a new
    one, and was not of that, is a warning."""
    started = time.perf_counter()
    keep_memory()
    run = described(run, data)
    keep_compiled()
    require_same_run_in_all(run)
    if run_dir is not None:
        require_reachable(run_dir)
    begun = folder_on_writer(lambda: begun_run(run, run_dir)) if resume else None
    if begun is not None and on_writer((begun / "result.json").exists):
        return read_result(begun)
    if begun is None and resume and run_dir is None:
        run_dir = default_folder(run)  # where the next --resume looks for it, not beside it
    if begun is None and run_dir is not None:
        on_writer(lambda: require_free(run_dir))  # before minutes go into decoding
    prepared = prepare([run], data, progress=progress, repeats=repeats or begun is not None)
    folder = begun or folder_on_writer(lambda: new_run_folder(run.name, run_dir))
    assert folder is not None
    try:
        with writing_run(folder), entered_on_writer(RunLock(folder)):
            if begun is not None and on_writer((begun / "result.json").exists):  # another run has just finished it
                return read_result(begun)
            (member,) = train_members(prepared, [folder], [begun is not None], progress=progress, started=started)
    except StoppedError as stopped:
        again = f"jaxvision train {folder}/config.json --run-dir {folder} --resume"
        if data is not None:
            again = f'fit(run, run_dir="{folder}", data=..., resume=True)'
        raise StoppedError(stopped.signal, f"{stopped} Go on with: {again}") from None
    if member.failed is not None:
        raise member.failed
    assert member.result is not None
    return member.result
