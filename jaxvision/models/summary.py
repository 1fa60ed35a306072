"""The book's table of a model: layers, output shapes, parameters. Nothing is allocated or computed for it."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flax import nnx

from jaxvision.models.layers import layer_name, layer_outputs
from jaxvision.nn import Chain
from jaxvision.nn.watch import Path

Trainable = Callable[[Any, Any], bool]


@dataclass(frozen=True)
class LayerRow:
    """One layer: its path in the model, its class, the shape of its output without the batch, its parameter counts. Or
    a variable that a block holds by itself: its path, its class, its own shape."""

    path: str
    kind: str
    output_shape: tuple[int, ...]
    trainable: int
    frozen: int
    is_variable: bool = False


@dataclass(frozen=True)
class Summary:
    """Layers in the order they run, a block's own variables after its layers. Frozen parameters are stored statistics
    and what `summarize` was told is frozen."""

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
                    str(row.output_shape) if row.is_variable else _shape_text(row.output_shape),
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
    modules, layers = dict(nnx.iter_modules(model)), layer_outputs(model, input_shape)
    variables = {path: v for path, v in nnx.to_flat_state(nnx.state(model)) if not isinstance(v, nnx.RngState)}
    whole = {layer.path for layer in layers if not layer.is_block}
    # Variables that are in no layer's row: a block's own, and those of layers that do not run in a prediction.
    bare = {path: v for path, v in variables.items() if not any(path[:n] in whole for n in range(len(path)))}
    rows: list[LayerRow] = []

    def add_bare(paths: Iterable[Path]) -> None:
        for path in paths:
            variable = bare.pop(path)
            trained = isinstance(variable, nnx.Param) and (trainable is None or trainable(path, variable))
            size = math.prod(variable.shape)
            trainable_size, frozen_size = (size, 0) if trained else (0, size)
            kind, shape = type(variable).__name__, tuple(variable.shape)
            rows.append(LayerRow(layer_name(path), kind, shape, trainable_size, frozen_size, is_variable=True))

    for layer in layers:
        add_bare([path for path in bare if layer.is_block and _owner(path, modules) == layer.path])
        # A block's layers have rows of their own. A chain of nothing is a model without a head.
        if not layer.is_block and not issubclass(layer.kind, Chain):
            counts = _count(modules[layer.path], layer.path, trainable)
            rows.append(LayerRow(layer.name, layer.kind.__name__, layer.shape, *counts))
    add_bare(list(bare))
    return Summary(type(model).__name__, tuple(input_shape), tuple(rows), *_count(model, (), trainable))


def _owner(path: Path, modules: Mapping[Path, nnx.Module]) -> Path:
    """The path of the module that holds a variable."""
    return next(path[:length] for length in range(len(path) - 1, -1, -1) if path[:length] in modules)


def _count(module: nnx.Module, path: Path, trainable: Trainable | None) -> tuple[int, int]:
    """Numbers in trained parameters, and in other stored values; random-number state is neither."""
    trained = frozen = 0
    for below, variable in nnx.to_flat_state(nnx.state(module)):
        if isinstance(variable, nnx.Param) and (trainable is None or trainable((*path, *below), variable)):
            trained += math.prod(variable.shape)
        elif not isinstance(variable, nnx.RngState):
            frozen += math.prod(variable.shape)
    return trained, frozen
