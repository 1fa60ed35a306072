"""What it takes to go on with a run as if it had never stopped, on disk."""

import dataclasses
import json
import os
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.options import MultiprocessingOptions

from jaxvision.bucket import absolute
from jaxvision.errors import RunFolderError
from jaxvision.processes import is_writer, on_writer, process_index
from jaxvision.train.checkpoint import STATES, Saved
from jaxvision.train.manifest import faults, write_manifest
from jaxvision.train.saving import saving
from jaxvision.train.state import TrainState

ASIDE = "damaged-"
"""What the names of states begin with that were set aside."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run stands. phase: which is going on. epoch: the one of the phase that is going on or comes next, from 1.
    step, epochs: done in the whole run. first_step: steps before the phase. stopped: the phase ended early. evaluating:
    an evaluation was going on. best: the state of its `BestMetric`. checkpoints: the best ones so far. records: lines
    in metrics.jsonl, records_sha256: of these lines. seconds: spent.
    """

    phase: int
    epoch: int
    step: int
    epochs: int
    first_step: int
    stopped: bool
    evaluating: bool
    best: tuple[float, float, int]
    checkpoints: tuple[Saved, ...]
    records: int
    records_sha256: str
    seconds: float


class StoredState(NamedTuple):
    """A training state on disk: its number among those of the run, and the place it was taken at."""

    number: int
    place: Place

    def to_json(self) -> str:
        """For `from_json`, in another process."""
        return json.dumps([self.number, place_document(self.place)])

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The state that `to_json` told of."""
        number, document = json.loads(text)
        return cls(number, place_of(document))


def place_document(place: Place) -> dict[str, Any]:
    """A place as JSON has it."""
    return dataclasses.asdict(place) | {"checkpoints": [saved._asdict() for saved in place.checkpoints]}


def place_of(document: dict[str, Any]) -> Place:
    """The place of a document."""
    checkpoints = tuple(Saved(**saved) for saved in document["checkpoints"])
    return Place(**{**document, "best": tuple(document["best"]), "checkpoints": checkpoints})


class TrainingStates:
    """Keeps the newest training states of a run in RUN/training, each checked by a manifest when it is read.

    Raises: RunFolderError: a state cannot be written (disk full); those written before stay.
    """

    def __init__(self, run_dir: str | os.PathLike[str], *, alone: bool = False):
        """alone: of several processes only this one is here, to read or set aside."""
        self._folder = absolute(run_dir) / "training"
        if alone:
            self._folder.mkdir(parents=True, exist_ok=True)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=STATES,
            enable_async_checkpointing=False,
            # Orbax removes them in the background, which only a save waits for: a reader could remove them at the same
            # time (see `resume.start_over`).
            cleanup_tmp_directories=not alone,
            create=not alone,
            multiprocessing_options=MultiprocessingOptions(
                active_processes={process_index()} if alone else None,
                barrier_sync_key_prefix="alone" if alone else None,
            ),
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, place: Place, state: TrainState) -> None:
        """Writes a state, whole, before an older one goes."""
        names, leaves = _named_leaves(state)
        document = {
            "place": place_document(place),
            "leaves": [[name, str(leaf.dtype), list(leaf.shape)] for name, leaf in zip(names, leaves, strict=True)],
        }
        number = 1 + max(self._manager.all_steps(), default=0)
        arrays = ocp.args.StandardSave({f"{index:05d}": leaf for index, leaf in enumerate(leaves)})
        with saving(self._folder, leaves):
            self._manager.save(number, args=ocp.args.Composite(state=arrays, place=ocp.args.JsonSave(document)))
            self._manager.wait_until_finished()
            if is_writer():
                write_manifest(self._folder / str(number))

    def remove(self) -> None:
        """All of them: of a run that is done there is nothing to resume."""
        on_writer(self._folder.rmtree)

    def newest(self) -> tuple[StoredState | None, list[str]]:
        """The newest state that is as it was written, or None; and what is wrong with newer ones, which are set aside
        as damaged-N."""
        said: list[str] = []
        for number in sorted(self._manager.all_steps(), reverse=True):
            folder = self._folder / str(number)
            wrong = faults(folder)
            if not wrong:
                return StoredState(number, self._place(number)), said
            aside = self._set_aside(folder)
            said.append(f"{folder}: damaged ({'; '.join(wrong[:3])}); set aside as {aside.name}")
        return None, said

    def load(self, number: int, like: TrainState) -> TrainState:
        """A state, bit for bit, in the structure of `like`.

        Raises: RunFolderError: it is of another model or optimizer.
        """
        names, leaves = _named_leaves(like)
        ours = [[name, str(leaf.dtype), list(leaf.shape)] for name, leaf in zip(names, leaves, strict=True)]
        theirs = self._document(number)["leaves"]
        different = [f"{a} beside {b}" for a, b in zip(theirs, ours, strict=False) if a != b]
        if different or len(ours) != len(theirs):
            raise RunFolderError(
                f"{self._folder}/{number}: of another model, optimizer or version of the code:"
                f" {len(theirs)} arrays, here {len(ours)}. {'; '.join(different[:3])}"
            )
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        template = {
            f"{index:05d}": jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device)
            for index, leaf in enumerate(leaves)
        }
        args = ocp.args.Composite(state=ocp.args.StandardRestore(template))
        restored = self._manager.restore(number, args=args).state
        values = [restored[name] for name in template]
        _, structure = jax.tree.flatten(like)
        return jax.tree.unflatten(structure, list(map(_as_key, values, jax.tree.leaves(like))))

    def _place(self, number: int) -> Place:
        return place_of(self._document(number)["place"])

    def _document(self, number: int) -> dict[str, Any]:
        return self._manager.restore(number, args=ocp.args.Composite(place=ocp.args.JsonRestore())).place

    def _set_aside(self, folder: epath.Path) -> epath.Path:
        aside = folder.parent / f"{ASIDE}{folder.name}"
        if aside.exists():
            aside.rmtree()
        folder.rename(aside)
        self._manager.reload()
        return aside

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()


def _named_leaves(state: TrainState) -> tuple[list[str], list[jax.Array]]:
    """Path and value of every array of a state; of random keys the numbers in them."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return [jax.tree_util.keystr(path) for path, _ in leaves], [_data(leaf) for _, leaf in leaves]


def _data(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _as_key(data: jax.Array, like: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(like)) if _is_key(like) else data


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
