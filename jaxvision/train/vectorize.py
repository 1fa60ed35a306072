"""Several runs in one compiled program, by `jax.vmap` over their states and over the numbers in which they differ."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from jaxvision.changes import flat
from jaxvision.config import Run
from jaxvision.errors import ConfigError
from jaxvision.mesh import MEMBERS
from jaxvision.models import model_options
from jaxvision.nn.dropout import dropout_rates, other_rates
from jaxvision.train.checkpoint import ModelCard
from jaxvision.train.metrics import Totals
from jaxvision.train.state import TrainState
from jaxvision.train.step import EvalStep, Forward, TrainStep, TrainStretch, compiler_options, steps_of
from jaxvision.types import Batch, Stretch
from jaxvision.varied import may_vary, with_numbers

Tree = TypeVar("Tree")
Axes = tuple[int | None, ...]
Path = tuple[Any, ...]

OWN = ("name", "seed")
"""Fields in which runs that are trained together may differ at will."""
OPTIONS = "model.options."
ONE_BY_ONE = "runs that differ {} cannot be trained together; train them one by one."


class Numbers(NamedTuple):
    """In what runs that are trained together differ, float32 (M,) each, or of one of them (). fields: by the dotted
    field of the run. rates: of dropout, by the path of the layer."""

    fields: dict[str, Any]
    rates: dict[Path, Any]

    def run(self, run: Run) -> Run:
        """The run with its numbers."""
        return with_numbers(run, self.fields)

    def forward(self, forward: Forward) -> Forward:
        """The forward pass with its rates of dropout."""

        def with_rates(model: nnx.Module, inputs: Any, train: bool, rngs: nnx.Rngs | None) -> jax.Array:
            with other_rates(model, self.rates) if self.rates else contextlib.nullcontext():
                return forward(model, inputs, train, rngs)

        return with_rates


@dataclass(frozen=True)
class Alike:
    """What runs that can be trained together have in common, and in what they differ. model: shapes only, with a layer
    of dropout where any of the runs has one."""

    numbers: Numbers
    model: nnx.Module


def alike(cards: Sequence[ModelCard]) -> Alike:
    """How runs are trained together.

    Raises: ConfigError: they differ in something that cannot be an argument of one program.
    """
    described = [flat(card.run) for card in cards]
    defaults = {f"{OPTIONS}{name}": value for name, value in model_options(cards[0].run.model.name).items()}
    fields, options = {}, {}
    for name in dict.fromkeys(name for each in described for name in each):
        values = [each.get(name, defaults.get(name)) for each in described]
        if name in OWN or all(value == values[0] for value in values):
            continue
        if name.startswith(OPTIONS):
            options[name.removeprefix(OPTIONS)] = values
        elif may_vary(name, values):
            fields[name] = jnp.asarray(values, jnp.float32)
        else:
            received = ", ".join(dict.fromkeys(map(repr, values)))
            raise ConfigError(f"{name}: {ONE_BY_ONE.format('in it')} Received: {received}")
    model, rates = _rates(cards, options)
    return Alike(Numbers(fields, rates), model)


def _rates(cards: Sequence[ModelCard], options: dict[str, list[Any]]) -> tuple[nnx.Module, dict[Path, Any]]:
    """The model with all layers of dropout, and the rates of those layers that have others in other runs. options:
    those that differ, of each run."""
    built: dict[tuple[Any, ...], nnx.Module] = {}

    def build(*values: Any) -> nnx.Module:
        if values not in built:
            run = cards[0].run
            changed = replace(run.model, options={**run.model.options, **dict(zip(options, values, strict=True))})
            built[values] = replace(cards[0], run=replace(run, model=changed)).build(abstract=True)
        return built[values]

    message = f"model.options: {ONE_BY_ONE.format('in more of their models than rates of dropout')} Received: {options}"
    if not all(type(value) in (int, float) and 0 <= value < 1 for values in options.values() for value in values):
        raise ConfigError(message)
    highest = [max(values) for values in options.values()]
    full = build(*highest)
    # An option that changes a rate changes nothing else of the model; at 0 there may be no such layer.
    probe = build(*(value / 2 for value in highest)) if options else full
    models = [build(*values) for values in zip(*options.values(), strict=True)] if options else [full] * len(cards)
    if _structure(full) != _structure(probe) or any(_variables(each) != _variables(full) for each in models):
        raise ConfigError(message)
    of_models = [dropout_rates(model) for model in models]
    rates = {path: [each.get(path, 0.0) for each in of_models] for path in dropout_rates(full)}
    return full, {path: jnp.asarray(each, jnp.float32) for path, each in rates.items() if len(set(each)) > 1}


def _structure(model: nnx.Module) -> Any:
    """All of a model but its values and its rates of dropout."""
    with other_rates(model, dict.fromkeys(dropout_rates(model), 0.0)):
        return nnx.split(model)[0], _variables(model)


def _variables(model: nnx.Module) -> list[Any]:
    return [(path, leaf.shape, leaf.dtype) for path, leaf in nnx.to_flat_state(nnx.state(model))]


def stack(trees: Sequence[Tree], mesh: Mesh) -> Tree:
    """Pytrees of M runs, a multiple of the devices, as one with an axis of them in front, cut over the devices."""
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    return jax.device_put(stacked, jax.sharding.NamedSharding(mesh, PartitionSpec(MEMBERS)))


def member_of(tree: Tree, number: int) -> Tree:
    """One run's part of what `stack` made."""
    return jax.tree.map(lambda leaf: leaf[number], tree)


def train_stretches(
    build: Callable[[Numbers], TrainStep], numbers: Numbers, mesh: Mesh, *, deterministic: bool = False
) -> TrainStretch:
    """`make_train_stretch` for M runs: state and losses with an axis of M in front, and so the stretch's rows.

    build: the step of a run with these numbers.
    """

    def of_one(
        numbers: Numbers, state: TrainState, rows: Any, inputs: Any, target: Any
    ) -> tuple[TrainState, jax.Array]:
        return steps_of(build(numbers))(state, Stretch(inputs, target, rows))

    program = _for_each(of_one, (0, 0, 0, None, None), mesh, donated=1, deterministic=deterministic)
    return lambda state, stretch: program(numbers, state, stretch.rows, stretch.inputs, stretch.target)


def eval_steps(
    build: Callable[[Numbers], EvalStep], numbers: Numbers, mesh: Mesh, *, deterministic: bool = False
) -> EvalStep:
    """`make_eval_step` for M runs: variables and totals with an axis of M in front; all see the same batch."""

    def of_one(numbers: Numbers, variables: nnx.State, totals: Totals, batch: Batch) -> Totals:
        return build(numbers)(variables, totals, batch)

    program = _for_each(of_one, (0, 0, 0, None), mesh, donated=None, deterministic=deterministic)
    return lambda variables, totals, batch: program(numbers, variables, totals, batch)


def _for_each(
    function: Callable[..., Any], axes: Axes, mesh: Mesh, *, donated: int | None, deterministic: bool
) -> Callable[..., Any]:
    """The function for all runs in one program. axes: of its arguments, 0 for that of the runs or None."""
    together = over_runs(function, axes)
    if mesh.size > 1:
        # Each device trains its runs as if it were alone; the partitioner would cut through their convolutions.
        specs = tuple(PartitionSpec() if axis is None else PartitionSpec(MEMBERS) for axis in axes)
        # Unchecked, since a step's own loops begin from constants, which the check takes for the same on all devices.
        together = jax.shard_map(together, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(MEMBERS), check_vma=False)
    donate = () if donated is None else (donated,)
    return jax.jit(together, donate_argnums=donate, compiler_options=compiler_options(deterministic))


def over_runs(function: Callable[..., Any], axes: Axes) -> Callable[..., Any]:
    """`jax.vmap`; on a CPU, the runs beside each other in the program. There nothing is won by larger operations, and
    much lost by those that are not made for an axis more (a step of the MNIST convnet takes 2.7 times as long), while
    the runtime gives the cores operations of several runs at once."""
    if jax.default_backend() != "cpu":
        return jax.vmap(function, in_axes=axes)

    def beside(*arguments: Any) -> Any:
        count = next(
            jax.tree.leaves(a)[0].shape[0]
            for a, axis in zip(arguments, axes, strict=True)
            if axis == 0 and jax.tree.leaves(a)
        )
        results = [
            function(*(a if axis is None else member_of(a, number) for a, axis in zip(arguments, axes, strict=True)))
            for number in range(count)
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)

    return beside


def is_finite(values: Any) -> np.ndarray:
    """bool (M,): whether all of each run's values (M, ...) are finite; waits for the device."""
    return np.isfinite(np.asarray(values)).reshape(len(values), -1).all(axis=1)
