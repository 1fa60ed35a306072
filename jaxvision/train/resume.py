"""Going on in a run folder: whether the run there is the one asked for, and what of it is kept."""

import hashlib
import os
from typing import Any

from etils import epath
from rich.console import Console

from jaxvision.bucket import expanded
from jaxvision.config import Run
from jaxvision.data.examples import Record, compare
from jaxvision.errors import RunFolderError
from jaxvision.outputs import write_whole
from jaxvision.processes import on_writer
from jaxvision.serialize import fields
from jaxvision.train.deciding import FREE, differing_fields
from jaxvision.train.folder import environment, read_config, read_environment, write_environment
from jaxvision.train.run_data import read_examples
from jaxvision.train.training_state import ASIDE, Place, StoredState, TrainingStates

COMPARED = (
    "python", "packages", "backend", "devices", "cpu", "xla_flags", "jax", "git", "source", "modules", "together",
)  # fmt: skip
"""What of environment.json decides the numbers of a run beside its description."""


def begun_run(run: Run, run_dir: str | os.PathLike[str] | None) -> epath.Path | None:
    """The folder of a run that was begun, `run_dir` or runs/NAME; None where there is none.

    Raises: RunFolderError: it is of another run.
    """
    folder = default_folder(run) if run_dir is None else epath.Path(expanded(run_dir))
    if not (folder / "config.json").exists():
        if any(folder.glob("*/*/MANIFEST.json")):
            raise RunFolderError(f"run folder {folder}: its config.json is missing. Bring it back to resume the run.")
        return None
    require_same_run(folder, run)
    return folder


def default_folder(run: Run) -> epath.Path:
    """Where a run is begun and resumed where no folder is given."""
    return epath.Path("runs") / run.name


def take_up(
    folder: epath.Path, run: Run, fingerprint: str, examples: bytes | None = None, *, together: int = 1
) -> StoredState | None:
    """The training state to go on from, the newest that is whole, with the files of the run as they were at it; None
    where nothing was saved yet: the run starts over. Says on the terminal what has changed since. examples:
    of the data as it is now (`Record.packed`), on process 0.

    Raises: RunFolderError: the data has changed, or the folder was.
    """
    stored = on_writer(lambda: _take_up(folder, run, fingerprint, examples, together))
    return None if stored is None else StoredState.from_json(stored)


def _take_up(folder: epath.Path, run: Run, fingerprint: str, examples: bytes | None, together: int) -> str | None:
    console = Console(highlight=False, soft_wrap=True, stderr=True)
    if not (folder / "environment.json").exists():
        write_environment(folder, run, fingerprint=fingerprint, together=together)
    before, now = read_environment(folder), environment(run, fingerprint=fingerprint, together=together)
    require_same_data(before, fingerprint, examples, folder)
    with TrainingStates(folder, alone=True) as states:
        stored, damaged = states.newest()
    for line in damaged:
        console.print(f"warning: {line}", markup=False)
    for line in changes(before, now):
        console.print(f"changed since the run was begun, its numbers may differ in rounding: {line}", markup=False)
    if stored is None and any(path.name.startswith(ASIDE) for path in (folder / "training").iterdir()):
        raise RunFolderError(
            f"{folder}/training: no training state in it is whole; they are set aside there as {ASIDE}N. Bring one back"
            f" from a copy, as {folder}/training/N; or remove {folder}/training, and --resume starts the run over."
        )
    if stored is None:
        start_over(folder)
        console.print(f"{folder}: nothing was saved yet to go on from; the run starts over", markup=False)
    else:
        cut_records(folder, stored.place)
        cut_last_line(folder / "timing.jsonl")
        console.print(f"{folder}: goes on after step {stored.place.step}", markup=False)
    return None if stored is None else stored.to_json()


def require_same_run(folder: epath.Path, run: Run) -> None:
    """Raises RunFolderError where the folder is of another run: a field differs that has a part in its numbers."""
    if different := differing_fields(read_config(folder), run, FREE):
        raise RunFolderError(
            f"run folder {folder}: is of another run: {'; '.join(different)}. Resume the run it is of"
            f" (jaxvision train {folder}/config.json --run-dir {folder} --resume), or give another --run-dir."
        )


def require_same_data(
    environment: dict[str, Any], fingerprint: str, examples: bytes | None, folder: epath.Path
) -> None:
    """Raises RunFolderError where the data is not what the run was begun with, by its fingerprint or by content."""
    before, now = environment["data_fingerprint"], fingerprint
    kept, changed = read_examples(folder), ""
    if kept is not None and examples is not None:
        changed = str(compare(kept, Record.unpacked(examples)).differences)
    if before != now or changed:
        changed = changed or f"its fingerprint was {before[:12]}, now {now[:12]}"
        raise RunFolderError(
            f"run folder {folder}: the data has changed since the run was begun; a run on both would be neither. Bring"
            f" the old data back, or start a new run. Received: {changed}."
        )


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What has changed between two environment.json that may change the numbers, a line each."""
    old, new = (dict(fields({name: document.get(name) for name in COMPARED})) for document in (before, now))
    found = [f"{name}: {old.get(name)} -> {new.get(name)}" for name in {**old, **new} if old.get(name) != new.get(name)]
    cores = before.get("cpu_count"), now.get("cpu_count")
    if now.get("backend") == "cpu" and None not in cores and cores[0] != cores[1]:
        found.append(f"cpu_count: {cores[0]} -> {cores[1]}; on a CPU, sums are split over the cores and rounded so")
    return found


def cut_records(folder: epath.Path, place: Place) -> None:
    """Leaves the lines of metrics.jsonl that there were at a place: those after them will be written again.

    Raises: RunFolderError: they are not what was written.
    """
    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = b"".join(lines[: place.records])
    if hashlib.sha256(kept).hexdigest() != place.records_sha256:
        raise RunFolderError(
            f"{path}: damaged: its first {place.records} lines are not those that the run had written when it was"
            f" saved. Bring the file back from a copy; or remove {folder}/training, and --resume starts the run over."
        )
    write_whole(path, kept)


def cut_last_line(path: epath.Path) -> None:
    """Takes off what a killed process left of a line, so that the next one does not go on in it."""
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        write_whole(path, content[: content.rfind(b"\n") + 1])


def start_over(folder: epath.Path) -> None:
    """Removes what a run left that was stopped before it saved anything to go on from."""
    for name in ("checkpoints", "training", "tensorboard"):
        if (folder / name).exists():
            (folder / name).rmtree()
    for name in ("metrics.jsonl", "timing.jsonl", "curves.png"):
        (folder / name).unlink(missing_ok=True)
