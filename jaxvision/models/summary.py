"""The book's table of a model: layers, output shapes, parameters. Nothing is allocated or computed for it."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn import Chain

Path = tuple[Any, ...]
Trainable = Callable[[Any, Any], bool]


@dataclass(frozen=True)
class LayerRow:
    """One layer: its path in the model, its class, the shape of its output without the batch, its parameter counts."""

    path: str
    kind: str
    output_shape: tuple[int, ...]
    trainable: int
    frozen: int


@dataclass(frozen=True)
class Summary:
    """Layers in the order they run. Frozen parameters are stored statistics and what `summarize` was told is frozen."""

    model: str
    input_shape: tuple[int, ...]
    layers: tuple[LayerRow, ...]
    trainable_params: int
    frozen_params: int

    @property
    def total_params(self) -> int:
        return self.trainable_params + self.frozen_params

    def __str__(self) -> str:
        head = ("Layer", "Output shape", "Parameters", "Trainable")
        rows = [("input", _shape_text(self.input_shape), "0", "-")]
        for row in self.layers:
            trainable = "-" if not row.trainable + row.frozen else "yes" if row.trainable else "no"
            rows.append(
                (
                    f"{row.path} ({row.kind})",
                    _shape_text(row.output_shape),
                    f"{row.trainable + row.frozen:,}",
                    trainable,
                )
            )
        widths = [max(len(line[column]) for line in (head, *rows)) for column in range(4)]
        lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in (head, *rows)]
        rule = "-" * max(map(len, lines))
        totals = [
            f"Total parameters: {self.total_params:,} ({self.total_params * 4 / 2**20:.2f} MB in float32)",
            f"Trainable: {self.trainable_params:,}    Not trainable: {self.frozen_params:,}",
        ]
        return "\n".join([self.model, lines[0], rule, *lines[1:], rule, *totals])


def _shape_text(shape: tuple[int, ...]) -> str:
    return "(" + ", ".join(("batch", *map(str, shape))) + ")"


def summarize(model: nnx.Module, input_shape: tuple[int, ...], *, trainable: Trainable | None = None) -> Summary:
    """Table of `model` for inputs of `input_shape`, (H, W, C) without the batch. `model` may be abstract
    (`nnx.eval_shape`): shapes are inferred, nothing runs.

    trainable: NNX filter of the parameters that are trained, such as `jaxvision.train.freeze.select` gives; None: all.
    """
    graphdef, state = nnx.split(model)
    outputs: list[tuple[Path, tuple[int, ...]]] = []

    def forward(state, images):
        merged = nnx.merge(graphdef, state)
        with _recorded_calls(merged, outputs):
            return merged(images)

    jax.eval_shape(forward, state, jax.ShapeDtypeStruct((1, *input_shape), jnp.uint8))
    modules = dict(nnx.iter_modules(model))
    rows = []
    for path, shape in outputs:
        if any(other[: len(path)] == path and other != path for other, _ in outputs):
            continue  # a container: its layers have rows of their own
        if isinstance(modules[path], Chain):
            continue  # a container of nothing: a model without a head
        counts = _count(modules[path], path, trainable)
        rows.append(LayerRow("/".join(map(str, path)), type(modules[path]).__name__, tuple(shape[1:]), *counts))
    return Summary(type(model).__name__, tuple(input_shape), tuple(rows), *_count(model, (), trainable))


@contextlib.contextmanager
def _recorded_calls(model: nnx.Module, outputs: list[tuple[Path, tuple[int, ...]]]) -> Iterator[None]:
    """Appends (path, shape of the output) for each call of a layer of `model` inside the block, in the order of calls.

    `nnx.capture` would name the same outputs, in alphabetical order.
    """
    paths = {id(module): path for path, module in nnx.iter_modules(model)}
    originals = {type(module): type(module).__call__ for _, module in nnx.iter_modules(model) if callable(module)}

    def recording(original):
        def call(self, *args, **kwargs):
            result = original(self, *args, **kwargs)
            if id(self) in paths:
                outputs.append((paths[id(self)], result.shape))
            return result

        return call

    try:
        for kind, original in originals.items():
            kind.__call__ = recording(original)  # type: ignore[method-assign]
        yield
    finally:
        for kind, original in originals.items():
            kind.__call__ = original  # type: ignore[method-assign]


def _count(module: nnx.Module, path: Path, trainable: Trainable | None) -> tuple[int, int]:
    """Numbers in trained parameters, and in other stored values; random-number state is neither."""
    trained = frozen = 0
    for below, variable in nnx.to_flat_state(nnx.state(module)):
        if isinstance(variable, nnx.Param) and (trainable is None or trainable((*path, *below), variable)):
            trained += math.prod(variable.shape)
        elif not isinstance(variable, nnx.RngState):
            frozen += math.prod(variable.shape)
    return trained, frozen
