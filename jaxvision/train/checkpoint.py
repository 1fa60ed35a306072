"""A run's best checkpoints on disk, one for each phase: whole models with all that is needed to use them."""

import dataclasses
import json
import os
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from flax import nnx

from jaxvision.bucket import absolute, require_reachable
from jaxvision.config import Run
from jaxvision.errors import RunFolderError
from jaxvision.models import abstract_model, create_model
from jaxvision.processes import is_writer, on_writer
from jaxvision.serialize import from_json, to_json
from jaxvision.train.manifest import NAME as MANIFEST
from jaxvision.train.manifest import faults, write_manifest
from jaxvision.train.saving import saving
from jaxvision.train.task import monitor_direction


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What a checkpoint says beside its arrays: enough to rebuild the model and to name its outputs."""

    run: Run
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    num_outputs: int

    def build(self, *, abstract: bool = False) -> nnx.Module:
        """The model with fresh parameters, or with shapes only."""
        make = abstract_model if abstract else create_model
        run = self.run
        return make(
            run.model.name,
            self.image_shape,
            self.num_outputs,
            seed=run.seed,
            dtype=jnp.dtype(run.precision),
            conv=run.conv,
            rematerialize=run.rematerialize,
            **run.model.options,
        )


@dataclasses.dataclass(frozen=True)
class RestoredRun:
    """A trained model and its card. `step`: of training, when the checkpoint was taken; `phase`: which it was in."""

    model: nnx.Module
    card: ModelCard
    step: int
    phase: int


STATES = 2
"""Training states that a run keeps: the newest, and the one before it, for when the newest is damaged."""


class Saved(NamedTuple):
    """A checkpoint: phase it was taken in, value of the monitored metric (None: nothing is monitored, or the metric was
    not measured, and the latest is kept), step."""

    phase: int
    value: float | None
    step: int


class BestCheckpoints:
    """Keeps each phase's best checkpoint; a new one replaces the old only once it is written whole.

    Orbax writes the arrays.
    """

    def __init__(self, run_dir: epath.PathLike, card: ModelCard):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(_folder(run_dir), options=options)
        self._card = card
        self._of_phase: dict[int, Saved] = {}
        self._needed: list[set[int]] = []

    def save(self, saved: Saved, variables: nnx.State) -> None:
        """Writes the model as it is after training step `saved.step`: the best so far of its phase.

        Raises: RunFolderError: it cannot be written (disk full); what was kept before stays.
        """
        document = {
            **dataclasses.asdict(self._card),
            "run": json.loads(to_json(self._card.run)),
            "saved": saved._asdict(),
        }
        arrays = ocp.args.StandardSave(nnx.to_pure_dict(variables))
        folder = epath.Path(self._manager.directory)
        with saving(folder, jax.tree.leaves(variables)):
            args = ocp.args.Composite(model=arrays, card=ocp.args.JsonSave(document))
            assert self._manager.save(saved.step, args=args), "Orbax passes over a step that is not the newest"
            if is_writer():
                write_manifest(folder / str(saved.step))
        self._of_phase[saved.phase] = saved
        self._delete_others()

    def _delete_others(self) -> None:
        """All that are neither the best of a phase nor known to a training state."""
        needed = set[int]().union({saved.step for saved in self.kept}, *self._needed)
        for step in set(self._manager.all_steps()) - needed:
            self._manager.delete(step)

    def state_saved(self) -> None:
        """To be called when a training state was saved: a run that goes on from it needs the checkpoints kept now, and
        one that goes on from the state before it those kept then."""
        self._needed = [*self._needed, {saved.step for saved in self.kept}][-STATES:]
        self._delete_others()

    def finish(self) -> None:
        """Leaves only the best: no training state is left."""
        self._needed = []
        self._delete_others()

    @property
    def kept(self) -> tuple[Saved, ...]:
        """The checkpoints kept, one for each phase so far."""
        return tuple(self._of_phase.values())

    def resume(self, kept: Iterable[Saved]) -> None:
        """Goes on from these. What was saved after them goes: the run comes there again.

        Raises: RunFolderError: one of them is damaged, or gone.
        """
        kept = tuple(kept)
        folder = epath.Path(self._manager.directory)
        on_writer(lambda: _require_all_whole([folder / str(saved.step) for saved in kept]))
        self._of_phase = {saved.phase: saved for saved in kept}
        self._needed = [{saved.step for saved in kept}]
        self._delete_others()

    def of_phase(self, phase: int) -> Saved | None:
        """The checkpoint kept of a phase; None before the first."""
        return self._of_phase.get(phase)

    @property
    def best(self) -> Saved | None:
        """The best of all phases: the run's result. None before the first."""
        return _best(self._of_phase.values(), self._card.run, self._card.class_names)

    def restore(self, phase: int, like: nnx.State) -> nnx.State:
        """All variables of the model as they were at the best of a phase, into a state such as `like`."""
        return _restore_variables(self._manager, self._of_phase[phase].step, like)

    def describe(self) -> str:
        """Which step is kept, in words."""
        return "none was saved yet" if self.best is None else f"step {self.best.step} in {self._manager.directory}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()


def restore_best(run_dir: str | os.PathLike[str], *, phase: int | None = None) -> RestoredRun:
    """The best checkpoint of a run, or of one of its phases (counted from 0), as a model ready for `model(images)`.

    Needs neither the data nor TensorFlow.

    Raises:
      RunFolderError: no run folder, no checkpoint (of that phase) in it yet, or one whose files have changed since.
    """
    require_reachable(run_dir)
    folder = _folder(run_dir)
    if not folder.is_dir():
        raise RunFolderError(f"{os.fspath(run_dir)}: not a run folder (no checkpoints/ in it). Give runs/NAME.")
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(create=False)) as manager:
        steps = [step for step in manager.all_steps() if not _is_foreign(folder / str(step))]
        for step in steps:
            _require_whole(folder / str(step))
        cards = {
            step: manager.restore(step, args=ocp.args.Composite(card=ocp.args.JsonRestore())).card for step in steps
        }
        if not cards:
            raise RunFolderError(f"{folder}: no finished checkpoint in it; the run has not saved one yet.")
        if not all("saved" in card for card in cards.values()):
            raise RunFolderError(
                f"{folder}: written before version 0.1 of jaxvision, whose checkpoints are not read any more. Train the"
                " run again."
            )
        kept = [Saved(**card["saved"]) for card in cards.values()]
        step, document = next(iter(cards.items()))
        run = from_json(json.dumps(document["run"]), where=f"{folder}/{step}/card")
        of_phase = [saved for saved in kept if phase in (None, saved.phase)]
        best = _best(of_phase, run, document["class_names"])
        if best is None:
            raise RunFolderError(
                f"{folder}: no checkpoint of phase {phase} in it, only of {sorted({saved.phase for saved in kept})}."
            )
        card = ModelCard(
            run=run,
            class_names=tuple(document["class_names"]),
            image_shape=tuple(document["image_shape"]),
            num_outputs=document["num_outputs"],
        )
        graph, variables = nnx.split(card.build(abstract=True))
        model = nnx.merge(graph, _restore_variables(manager, best.step, variables))
    return RestoredRun(model, card, best.step, best.phase)


def _is_foreign(folder: epath.Path) -> bool:
    """Whether a folder with a checkpoint's name is none of ours; it is passed over with a warning."""
    if any((folder / name).exists() for name in ("card", "model", MANIFEST)):
        return False
    warnings.warn(f"{folder}: no checkpoint of ours, passed over.", stacklevel=3)
    return True


def _require_all_whole(folders: Iterable[epath.Path]) -> None:
    for folder in folders:
        _require_whole(folder)


def _require_whole(folder: epath.Path) -> None:
    # Where a process was killed just before it wrote the manifest, the checkpoint is whole: Orbax moves it into place.
    if (folder / "card").exists() and not (folder / MANIFEST).exists():
        warnings.warn(
            f"{folder}: has no {MANIFEST}, so whether its files are as they were written is not known.", stacklevel=3
        )
        return
    if wrong := faults(folder):
        raise RunFolderError(
            f"{folder}: damaged: {'; '.join(wrong[:3])}. Bring the folder back from a copy; or remove it, and a"
            " checkpoint of another phase is used, if there is one."
        )


def _best(saved: Iterable[Saved], run: Run, class_names: Sequence[str]) -> Saved | None:
    """The checkpoint with the best value, of those of several phases; the latest of equal ones, or if none has any."""
    ranked = sorted(saved, key=lambda s: s.step, reverse=True)
    measured = [s for s in ranked if s.value is not None]
    if len(measured) < 2:
        return next(iter(measured or ranked), None)
    sign = 1 if monitor_direction(run, class_names) == "max" else -1
    return max(measured, key=lambda s: sign * s.value)  # type: ignore[operator]


def _restore_variables(manager: ocp.CheckpointManager, step: int, like: nnx.State) -> nnx.State:
    # On the first device of this process, whatever the run was trained on.
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    pure = nnx.to_pure_dict(like)
    template = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), pure)
    saved = manager.restore(step, args=ocp.args.Composite(model=ocp.args.StandardRestore(template))).model
    restored = jax.tree.map(lambda leaf: leaf, like)
    nnx.replace_by_pure_dict(restored, saved)
    return restored


def _folder(run_dir: epath.PathLike) -> epath.Path:
    return absolute(run_dir) / "checkpoints"
