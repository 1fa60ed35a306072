"""A run's best checkpoint on disk: the whole model with all that is needed to use it. Orbax writes the arrays."""

import dataclasses
import json
import os
from typing import Any, Self

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from etils import epath
from flax import nnx

from jaxvision.config import Run
from jaxvision.errors import RunFolderError
from jaxvision.models import abstract_model, create_model
from jaxvision.serialize import from_json, to_json
from jaxvision.train.state import partition


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
            **run.model.options,
        )


@dataclasses.dataclass(frozen=True)
class RestoredRun:
    """A trained model and its card. `step` is the training step the checkpoint was taken at."""

    model: nnx.Module
    card: ModelCard
    step: int


class BestCheckpoint:
    """Keeps the one checkpoint that is the run's result; a new one replaces the old only once it is written whole."""

    def __init__(self, run_dir: epath.PathLike, card: ModelCard):
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(_folder(run_dir), options=options)
        self._card = card

    def save(self, step: int, params: nnx.State, stats: nnx.State) -> None:
        """Writes the model as it is after training step `step`."""
        document = {**dataclasses.asdict(self._card), "run": json.loads(to_json(self._card.run))}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                model=ocp.args.StandardSave(_pure(params, stats)), card=ocp.args.JsonSave(document)
            ),
        )

    @property
    def step(self) -> int | None:
        """The training step of the checkpoint that is kept; None before the first."""
        return self._manager.latest_step()

    def describe(self) -> str:
        """Which step is kept, in words."""
        return "none was saved yet" if self.step is None else f"step {self.step} in {self._manager.directory}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()


def restore_best(run_dir: str | os.PathLike[str]) -> RestoredRun:
    """The best checkpoint of a run as a model ready for `model(images)`. Needs neither the data nor TensorFlow.

    Raises:
      RunFolderError: no run folder, or no checkpoint in it yet.
    """
    folder = _folder(run_dir)
    if not folder.is_dir():
        raise RunFolderError(f"{os.fspath(run_dir)}: not a run folder (no checkpoints/ in it). Give runs/NAME.")
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(create=False)) as manager:
        step = manager.latest_step()
        if step is None:
            raise RunFolderError(f"{folder}: no finished checkpoint in it; the run has not saved one yet.")
        document = manager.restore(step, args=ocp.args.Composite(card=ocp.args.JsonRestore())).card
        card = ModelCard(
            run=from_json(json.dumps(document["run"]), where=f"{folder}/{step}/card"),
            class_names=tuple(document["class_names"]),
            image_shape=tuple(document["image_shape"]),
            num_outputs=document["num_outputs"],
        )
        model = card.build(abstract=True)
        graph, params, stats = partition(model)
        # On the first device of this machine, whatever the run was trained on.
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        template = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=device), _pure(params, stats))
        saved = manager.restore(step, args=ocp.args.Composite(model=ocp.args.StandardRestore(template))).model
    nnx.replace_by_pure_dict(params, saved["params"])
    nnx.replace_by_pure_dict(stats, saved["stats"])
    return RestoredRun(nnx.merge(graph, params, stats), card, step)


def _folder(run_dir: epath.PathLike) -> epath.Path:
    return epath.Path(os.fspath(run_dir)).resolve() / "checkpoints"


def _pure(params: nnx.State, stats: nnx.State) -> dict[str, Any]:
    return {"params": nnx.to_pure_dict(params), "stats": nnx.to_pure_dict(stats)}
