"""Which parameters a phase trains: names, blocks and the last layers of a model, and what becomes of BatchNorm."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import optax
from flax import nnx

from jaxvision.config import Group, Phase
from jaxvision.errors import ConfigError, nearest
from jaxvision.nn import BatchNorm, Chain

Path = tuple[Any, ...]
_SLICE = re.compile(r"(.+)\[(-?\d*):(-?\d*)\]")


@dataclass(frozen=True)
class Selection:
    """What a phase trains. paths: of the trained parameters. frozen_norms: of BatchNorms that keep their statistics."""

    paths: frozenset[Path]
    frozen_norms: frozenset[Path]

    def __call__(self, path: Path, variable: Any) -> bool:
        """Whether a variable is trained: an NNX filter."""
        return path in self.paths

    def apply(self, model: nnx.Module) -> None:
        """Tells the BatchNorms of `model` which of them are frozen."""
        for path, norm in _batch_norms(model):
            norm.frozen = path in self.frozen_norms


def select(model: nnx.Module, phase: Phase, *, where: str = "phase.trainable") -> Selection:
    """What `phase` trains of `model`, whose arrays are not looked at.

    A pattern is the name of a module or tensor, or a path of such names, with `*` for anything; it stands for all
    that is below. `base[-4:]` stands for layers of a chain, counted as Python counts: in VGG16 each convolution and
    pool, as in Keras' `conv_base.layers[-4:]`; in other models a block of several layers is one.

    A BatchNorm that is not trained uses its stored statistics in training too and keeps them. In fine-tuning (where
    `phase.trainable` freezes something) that holds for all of the base, also inside blocks that are trained, unless
    `phase.batch_norm` is "trained" (Chollet, 8.3.2).

    Raises:
      ConfigError: a pattern that matches nothing, or nothing is left to train; `where` is the field it names.
    """
    params = [path for path, variable in nnx.to_flat_state(nnx.state(model)) if isinstance(variable, nnx.Param)]
    chosen = set(params)
    if phase.trainable is not None:
        chosen = set().union(*(_matching(model, params, pattern, where) for pattern in phase.trainable))
    frozen_norms = set()
    for path, _ in _batch_norms(model):
        below = {param for param in params if param[: len(path)] == path}
        tuned = phase.batch_norm == "auto" and phase.trainable is not None and path[0] == "base"
        if phase.batch_norm == "frozen" or tuned or (phase.trainable is not None and not below & chosen):
            frozen_norms.add(path)
            chosen -= below
    if not chosen:
        raise ConfigError(f"{where}: nothing is left to train. Received: {phase.trainable}")
    return Selection(frozenset(chosen), frozenset(frozen_norms))


def scale_groups(
    model: nnx.Module, groups: Sequence[Group], *, where: str = "phase.groups"
) -> optax.GradientTransformation:
    """Updates times the `learning_rate_scale` of the first group that matches. ConfigError: one matches nothing."""
    params = [path for path, variable in nnx.to_flat_state(nnx.state(model)) if isinstance(variable, nnx.Param)]
    scales: dict[Path, float] = {}
    for group in groups:
        for path in _matching(model, params, group.pattern, where):
            scales.setdefault(path, group.learning_rate_scale)

    def update(updates: nnx.State, state: optax.EmptyState, params: Any = None) -> tuple[nnx.State, optax.EmptyState]:
        scaled = [
            (path, value.replace(value[...] * scales.get(path, 1.0))) for path, value in nnx.to_flat_state(updates)
        ]
        return nnx.from_flat_state(scaled), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def only_in(selection: Selection, part: str) -> bool:
    """Whether all that is trained is in that part of the model ("head")."""
    return all(path[0] == part for path in selection.paths)


def _batch_norms(model: nnx.Module) -> Iterator[tuple[Path, BatchNorm]]:
    return ((path, module) for path, module in nnx.iter_modules(model) if isinstance(module, BatchNorm))


def _matching(model: nnx.Module, params: list[Path], pattern: str, where: str) -> set[Path]:
    if sliced := _SLICE.fullmatch(pattern):
        found = _slice(model, params, sliced, where)
    else:
        found = {path for path in params if _matches(path, pattern)}
    if not found:
        names = {str(name) for path in params for name in path} | {"/".join(map(str, path)) for path in params}
        raise ConfigError(
            f"{where}: no parameter of the model matches.{nearest(pattern, sorted(names))} `jaxvision summary"
            f" NAME` lists the layers. Received: {pattern!r}"
        )
    return found


def _matches(path: Path, pattern: str) -> bool:
    names = [str(name) for name in path]
    spans = ((i, j) for i in range(len(names)) for j in range(i + 1, len(names) + 1))
    return any(fnmatchcase("/".join(names[i:j]), pattern) for i, j in spans)


def _slice(model: nnx.Module, params: list[Path], sliced: re.Match, where: str) -> set[Path]:
    name, first, last = sliced.groups()
    chains = {"/".join(map(str, path)): (path, m) for path, m in nnx.iter_modules(model) if isinstance(m, Chain)}
    if name not in chains:
        raise ConfigError(
            f"{where}: no chain of layers called {name!r} to take the last ones of; there are"
            f" {', '.join(chains) or 'none'}. Received: {sliced.group()!r}"
        )
    path, chain = chains[name]
    names = chain.names[int(first) if first else None : int(last) if last else None]
    return {param for param in params if param[: len(path)] == path and param[len(path)] in names}
