"""Features of pictures at any level of a model's base, into one .npz file."""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from rich.console import Console
from rich.progress import Progress

from jaxvision.data.every import Everything, every_example
from jaxvision.errors import ConfigError, nearest
from jaxvision.outputs import require_absent
from jaxvision.train.memory import keep_memory
from jaxvision.train.partial_npz import PartialNpz
from jaxvision.train.ready import ready_model

Pool = Literal["none", "average"]
RESERVED = ("names", "labels", "class_names", "about")
"""Arrays of the file that are not features."""


class Extracted(NamedTuple):
    """path: of the file. shapes: of its arrays of features, (N, ...). resumed: examples an earlier call had done."""

    path: str
    shapes: dict[str, tuple[int, ...]]
    resumed: int


def extract(
    source: str | os.PathLike[str],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    levels: Sequence[str] = (),
    pool: Pool = "none",
    batch_size: int = 32,
    weights: str | os.PathLike[str] | None = None,
    image_size: tuple[int, int] | None = None,
    progress: bool = True,
) -> Extracted:
    """Writes what the base's layers named in `levels` (none named: its last) make of every picture of `data`.

    The file holds float32 `features` (N, h, w, c), or with several levels one array for each, under its name; `names`
    (N,) of the pictures; `labels` int32 (N,), -1 without a class; `class_names`; and `about`, JSON of model, weights,
    levels, versions. It is never all in memory. If the process is stopped, the same call goes on after the last whole
    batch (on a CPU to the same bytes): until the end, what there is stays in OUT.part.

    Args:
      source, weights, image_size: see `ready_model`.
      data: see `every_example`; pictures are resized as the run did, else stretched.
      pool: average over the picture, (N, c).

    Raises:
      DataError: pictures that cannot be read, all listed before anything is computed. ConfigError: no such level; OUT
        is there already, or OUT.part is of another call. Others as `ready_model`.
    """
    path = Path(out).expanduser()
    if path.suffix != ".npz":
        raise ConfigError(f"out: the file to write must be called NAME.npz. Received: {os.fspath(out)!r}")
    require_absent(path)
    if batch_size < 1:
        raise ConfigError(f"batch_size: must be at least 1. Received: {batch_size}")
    keep_memory()
    ready = ready_model(source, weights=weights, image_size=image_size, top=False)
    levels = _check_levels(ready.model, ready.name, levels)
    everything = every_example(data, ready.image_shape, ready.resize)
    program = _Program(ready.model, levels, pool, (batch_size, *ready.image_shape), everything.dtype)
    described = ready.about()
    origin = {"source": os.fspath(source), "weights": described.pop("weights"), "data": os.fspath(data)}
    identity = {
        **described,
        "levels": list(levels),
        "pool": pool,
        "batch_size": batch_size,
        "data_sha256": everything.identity,
        "device": jax.devices()[0].device_kind,
        "program_sha256": program.digest(),
    }
    keys = dict(zip(levels, levels if len(levels) > 1 else ("features",), strict=True))
    shapes = {keys[level]: shape for level, shape in program.shapes().items()}
    total = len(everything.names)
    partial = PartialNpz(path, shapes, total)
    if not partial.is_begun():
        everything.require_readable(progress=progress)
    with (
        partial.open(identity, lambda done: everything.whole_batches(batch_size, done)) as done,
        Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar,
    ):
        task = bar.add_task("features", total=total, completed=done)
        for features in program.batches(everything, batch_size, done):
            partial.append({keys[level]: values for level, values in features.items()})
            bar.advance(task, len(features[levels[0]]))
        about = {**origin, **identity}
        partial.finish(
            {
                "names": np.array(everything.names),
                "labels": everything.labels,
                "class_names": np.array(everything.class_names, np.str_),
                "about": np.array(json.dumps(about, ensure_ascii=False)),
            }
        )
    return Extracted(str(path), {key: (total, *shape) for key, shape in shapes.items()}, done)


def _check_levels(model: Any, name: str, levels: Sequence[str]) -> tuple[str, ...]:
    if not hasattr(model, "base") or not hasattr(model, "features"):
        raise ConfigError(f"extract: the model has no base with levels. Received: {name!r}")
    known = model.base.names
    for level in levels:
        if level not in known:
            raise ConfigError(
                f"level: the base of {name!r} has no such layer.{nearest(level, known)} There are: {', '.join(known)}."
                f" Received: {level!r}"
            )
        if level in RESERVED and len(levels) > 1:
            raise ConfigError(f"level: {level!r} is an array of another meaning in the file; take it alone.")
    return tuple(dict.fromkeys(levels)) or known[-1:]


class _Program:
    """Pictures to features, compiled for one batch size."""

    def __init__(self, model: Any, levels: tuple[str, ...], pool: Pool, shape: tuple[int, ...], dtype: np.dtype):
        graph, self.variables = nnx.split(model)
        self.batch_size = shape[0]

        def features(variables: nnx.State, images: jax.Array) -> dict[str, jax.Array]:
            found = nnx.merge(graph, variables).features(images, levels)
            found = {level: values.astype(jnp.float32) for level, values in found.items()}
            if pool == "average":
                found = {level: jnp.mean(v, axis=(1, 2)) if v.ndim == 4 else v for level, v in found.items()}
            return found

        self._lowered = jax.jit(features).lower(self.variables, jax.ShapeDtypeStruct(shape, dtype))

    def digest(self) -> str:
        """sha256 of the program."""
        return hashlib.sha256(self._lowered.as_text().encode()).hexdigest()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one picture's features, by level."""
        return {level: tuple(info.shape[1:]) for level, info in self._lowered.out_info.items()}

    def batches(self, everything: Everything, batch_size: int, start: int) -> Iterator[dict[str, np.ndarray]]:
        """The features of all examples from `start` on."""
        if start == len(everything.names):
            return
        run = self._lowered.compile()
        waiting: tuple[int, dict[str, jax.Array]] | None = None
        for images in everything.batches(batch_size, start=start):
            # The last batch is filled up: one shape, one program.
            padding = [(0, batch_size - len(images)), *((0, 0),) * 3]
            running = len(images), run(self.variables, np.pad(images, padding))
            # The device computes this batch while the one before is copied and written.
            if waiting is not None:
                yield _rows(*waiting)
            waiting = running
        if waiting is not None:
            yield _rows(*waiting)


def _rows(count: int, features: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    return {level: np.asarray(values)[:count] for level, values in features.items()}
