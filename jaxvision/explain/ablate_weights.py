"""What a trained network's result owes to each of its blocks: measured without what the block has learned."""

import math
import os
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from rich.console import Console
from rich.progress import Progress

from jaxvision.data import take
from jaxvision.data.order import choose
from jaxvision.errors import ConfigError
from jaxvision.explain.chance import chance_level
from jaxvision.models.layers import layer_outputs
from jaxvision.nn.watch import Path
from jaxvision.train.checkpoint import ModelCard
from jaxvision.train.evaluate import RunPart, evaluate_feed, open_run_part
from jaxvision.train.freeze import params_matching
from jaxvision.train.memory import keep_memory
from jaxvision.train.step import make_eval_step

How = Literal["zero", "random"]


@dataclass(frozen=True)
class AblatedBlock:
    """One block's turn. parameters: how many numbers it has learned by gradients. metrics: of the whole network
    without it, for each seed. mean, std: of the headline metric over the seeds (sample, n - 1; None for one).
    difference: the mean less the intact network's; below 0 the block is missed.
    """

    name: str
    parameters: int
    metrics: tuple[dict[str, float], ...]
    mean: float
    std: float | None
    difference: float


@dataclass(frozen=True)
class BlockAblation:
    """run: its folder. part, examples: what was measured on. headline: the metric the run is judged by, larger is
    better. intact: all metrics of the whole network. chance: headline of one that says the same of every picture.
    """

    run: str
    part: str
    examples: int
    how: How
    seeds: tuple[int, ...]
    headline: str
    chance: float
    intact: dict[str, float]
    blocks: tuple[AblatedBlock, ...]


def ablate_weights(
    run_dir: str | os.PathLike[str],
    *,
    how: How = "zero",
    blocks: Sequence[str] = (),
    part: str | None = None,
    data: Any = None,
    limit: int | None = None,
    seeds: int = 3,
    progress: bool = True,
) -> BlockAblation:
    """Evaluates a run's best checkpoint, and again without what each block has learned, the others as they are.

    "zero": the block's parameters become 0, so that a convolution or dense layer gives its activation of 0, and
    BatchNorm 0 whatever its statistics are. A residual block hands on its input then, or nothing where its shortcut has
    parameters. In a plain chain nothing gets past such a block: the network says the same of every picture, and all
    blocks look alike. "random": the block becomes that of a fresh model, as before training: parameters drawn by the
    model's own initializers, BatchNorm's statistics the initial ones (mean 0, variance 1). It is done for `seeds`
    fresh models, of the seeds that follow the run's.

    Args:
      blocks: each a pattern as in `phase.trainable`, all that it matches taken together ("block1_*", "base[-4:]");
        "block1+block3" is two patterns at once. None given: the direct children with parameters of the model's base and
        head (or of the model), in the order they run.
      part, data: as of `evaluate`; part None is the validation part, or where there is none the test part.
      limit: evaluate on this many examples, drawn at random by data.split_seed.
      progress: show a bar on the terminal.

    Raises: ConfigError: no such block or part, or limit, seeds, how are wrong. Others as `evaluate`.
    """
    if how not in get_args(How):
        raise ConfigError(f"how: must be {' or '.join(get_args(How))}. Received: {how!r}")
    for name, value in (("seeds", seeds), ("limit", limit)):
        if value is not None and value < 1:
            raise ConfigError(f"{name}: must be at least 1. Received: {value}")
    keep_memory()
    opened = _limited(open_run_part(run_dir, part=part, data=data), limit)
    task, card, model = opened.task, opened.restored.card, opened.restored.model
    chosen = {name: _named(model, name) for name in blocks} or model_blocks(model, card.image_shape)
    graph, variables = nnx.split(model)
    feed, eval_step = opened.feed(), make_eval_step(graph, task)
    drawn = tuple(card.run.seed + 1 + number for number in range(seeds)) if how == "random" else ()
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
        turns = bar.add_task("evaluations", total=1 + len(chosen) * max(1, len(drawn)))
        intact = evaluate_feed(task, eval_step, variables, feed)
        bar.advance(turns)
        for fresh in _fresh_models(card, drawn):
            for name, params in chosen.items():
                changed = zeroed(variables, params) if fresh is None else replaced(variables, params, fresh)
                measured[name].append(evaluate_feed(task, eval_step, changed, feed))
                bar.advance(turns)
    sizes = {path: math.prod(variable.shape) for path, variable in nnx.to_flat_state(variables)}
    return BlockAblation(
        run=os.fspath(run_dir),
        part=opened.name,
        examples=feed.num_examples,
        how=how,
        seeds=drawn,
        headline=task.headline,
        chance=chance_level(opened.part.target, len(card.class_names)),
        intact=intact,
        blocks=tuple(
            _ablated(name, sum(sizes[path] for path in params), measured[name], task.headline, intact)
            for name, params in chosen.items()
        ),
    )


def model_blocks(model: nnx.Module, image_shape: tuple[int, int, int]) -> dict[str, frozenset[Path]]:
    """Paths of the parameters of each direct child of the model's base and of its head, by the child's path, in the
    order they run; a base or head without children is one, and so are other children of the model.

    image_shape: (H, W, C) of its pictures. Children that are never called come last.
    """
    params = [path for path, variable in nnx.to_flat_state(nnx.state(model)) if isinstance(variable, nnx.Param)]
    parts = {path[0] for path in params if path[0] in ("base", "head") and len(path) > 2}
    turns: dict[Path, int] = {}
    for turn, layer in enumerate(layer_outputs(model, image_shape)):
        for length in (1, 2):
            turns.setdefault(layer.path[:length], turn)
    blocks: dict[Path, set[Path]] = {}
    for path in params:
        blocks.setdefault(path[:2] if path[0] in parts else path[:1], set()).add(path)
    in_order = sorted(blocks, key=lambda block: turns.get(block, len(turns)))
    return {"/".join(map(str, block)): frozenset(blocks[block]) for block in in_order}


def zeroed(variables: nnx.State, params: frozenset[Path]) -> nnx.State:
    """The model's variables with these parameters 0."""
    return _with(
        variables, {path: jnp.zeros_like(value) for path, value in _values(variables).items() if path in params}
    )


def replaced(variables: nnx.State, params: frozenset[Path], fresh: nnx.State) -> nnx.State:
    """The model's variables with these parameters as in `fresh`; and so the statistics of layers and blocks all of
    whose parameters these are."""
    flat = nnx.to_flat_state(variables)
    others = {path for path, variable in flat if isinstance(variable, nnx.Param)} - params
    whole = _above(params) - _above(others)
    statistics_of = {path for path, variable in flat if isinstance(variable, nnx.BatchStat) and _above([path]) & whole}
    return _with(variables, {path: v for path, v in _values(fresh).items() if path in params | statistics_of})


def _values(variables: nnx.State) -> dict[Path, jax.Array]:
    return {path: variable[...] for path, variable in nnx.to_flat_state(variables)}


def _above(paths: Iterable[Path]) -> set[Path]:
    """The paths of all layers and blocks that these variables are in, the model itself apart."""
    return {path[:length] for path in paths for length in range(1, len(path))}


def _with(variables: nnx.State, values: Mapping[Path, jax.Array]) -> nnx.State:
    """New variables, of these values where there are any."""
    changed = []
    for path, variable in nnx.to_flat_state(variables):
        if path in values:
            # On the device of the old one: elsewhere, it would be an argument of another program, compiled anew.
            variable = variable.replace(jax.device_put(values[path], variable[...].sharding))
        changed.append((path, variable))
    return nnx.from_flat_state(changed)


def _fresh_models(card: ModelCard, seeds: Sequence[int]) -> Iterator[nnx.State | None]:
    """The variables of a new model of each seed, one at a time; None, once, where there are no seeds."""
    for seed in seeds:
        yield nnx.state(replace(card, run=replace(card.run, seed=seed)).build())
    if not seeds:
        yield None


def _named(model: nnx.Module, block: str) -> frozenset[Path]:
    return frozenset().union(*(params_matching(model, pattern, where="blocks") for pattern in block.split("+")))


def _limited(opened: RunPart, limit: int | None) -> RunPart:
    """The part, cut as `data.limit_*` cuts it."""
    if limit is None:
        return opened
    count = len(opened.part.target)
    if limit > count:
        raise ConfigError(f"limit: the {opened.name} part has {count} examples. Received: {limit}")
    rows = choose(opened.settings.split_seed, f"limit {opened.name}", count, limit)
    return replace(opened, part=take(opened.part, rows))


def _ablated(
    name: str, parameters: int, metrics: Sequence[dict[str, float]], headline: str, intact: dict[str, float]
) -> AblatedBlock:
    values = [each[headline] for each in metrics]
    mean = statistics.fmean(values)
    std = statistics.stdev(values) if len(values) > 1 else None
    return AblatedBlock(name, parameters, tuple(metrics), mean, std, mean - intact[headline])
