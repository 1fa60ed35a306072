"""Which parameters a phase trains: names, blocks and the last layers of a model, and what becomes of BatchNorm."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import optax
from flax import nnx

from jaxvision.config import Group, Phase
from jaxvision.errors import ConfigError, nearest
from jaxvision.nn import BatchNorm, Chain, TrainingAware
from jaxvision.nn.mode import freeze, holds_foreign

Path = tuple[Any, ...]
_SLICE = re.compile(r"(.+)\[(-?\d*):(-?\d*)\]")


@dataclass(frozen=True)
class Selection:
    """What a phase trains. paths: of the trained parameters. frozen: of layers that run as in evaluation, with all
    below them."""

    paths: frozenset[Path]
    frozen: frozenset[Path]

    def __call__(self, path: Path, variable: Any) -> bool:
        """Whether a variable is trained: an NNX filter."""
        return path in self.paths

    def apply(self, model: nnx.Module) -> None:
        """Tells the layers of `model` whether they are frozen."""
        # The calls of a module of the user's do not heed `TrainingAware.frozen`, as those of a chain do.
        is_foreign = holds_foreign(model)
        for path, layer in list(nnx.iter_modules(model)):
            if isinstance(layer, TrainingAware):
                layer.frozen = path in self.frozen
            if is_foreign:
                freeze(layer, any(path[:length] in self.frozen for length in range(len(path) + 1)))


def select(model: nnx.Module, phase: Phase, *, where: str = "phase.trainable") -> Selection:
    """What `phase` trains of `model`, whose arrays are not looked at.

    A pattern is the name of a module or tensor, or a path of such names, with `*` for anything; it stands for all
    that is below. `base[-4:]` stands for layers of a chain, counted as Python counts: in VGG16 each convolution and
    pool, as in Keras' `conv_base.layers[-4:]`; in other models a block of several layers is one.

    A layer or block of which nothing is trained runs as in evaluation: BatchNorm uses its stored statistics and keeps
    them, dropout drops nothing. In fine-tuning (where anything is frozen) BatchNorm is frozen in all of the base, also
    inside blocks that are trained, unless `phase.batch_norm` is "trained" (Chollet, 8.3.2). Plain Flax layers too.

    Raises:
      ConfigError: a pattern that matches nothing, or nothing is left to train; `where` is the field it names.
    """
    params = _params(model)
    chosen = set(params)
    if phase.trainable is not None:
        chosen = set().union(*(_matching(model, params, pattern, where) for pattern in phase.trainable))
    keeps_norms = phase.batch_norm == "auto" and len(chosen) < len(params)
    is_foreign = holds_foreign(model)
    layers = [(path, each) for path, each in nnx.iter_modules(model) if is_foreign or isinstance(each, TrainingAware)]
    frozen = {
        path
        for path, layer in layers
        if isinstance(layer, BatchNorm | nnx.BatchNorm)
        and (phase.batch_norm == "frozen" or (keeps_norms and path[0] == "base"))
    }
    chosen -= {param for path in frozen for param in _below(params, path)}
    if not chosen:
        raise ConfigError(f"{where}: nothing is left to train. Received: {phase.trainable}")
    frozen |= {path for path, _ in layers if (below := _below(params, path)) and not below & chosen}
    return Selection(frozenset(chosen), frozenset(frozen))


def scale_groups(
    model: nnx.Module, selection: Selection, groups: Sequence[Group], *, where: str = "phase.groups"
) -> optax.GradientTransformation:
    """Updates times the `learning_rate_scale` of the first group that matches.

    Raises: ConfigError: a group matches nothing, or nothing that is trained.
    """
    scales: dict[Path, float] = {}
    for group in groups:
        trained = _matching(model, _params(model), group.pattern, where) & selection.paths
        if not trained:
            raise ConfigError(f"{where}: all that the group matches is frozen. Received: {group.pattern!r}")
        for path in trained:
            scales.setdefault(path, group.learning_rate_scale)

    def update(updates: nnx.State, state: optax.EmptyState, params: Any = None) -> tuple[nnx.State, optax.EmptyState]:
        scaled = [
            (path, value.replace(value[...] * scales.get(path, 1.0))) for path, value in nnx.to_flat_state(updates)
        ]
        return nnx.from_flat_state(scaled), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def params_matching(model: nnx.Module, pattern: str, *, where: str) -> frozenset[Path]:
    """Paths of the parameters that a pattern stands for, see `select`; `where` as there.

    Raises: ConfigError: it matches nothing.
    """
    return frozenset(_matching(model, _params(model), pattern, where))


def only_in(selection: Selection, part: str) -> bool:
    """Whether all that is trained is in that part of the model ("head")."""
    return all(path[0] == part for path in selection.paths)


def _params(model: nnx.Module) -> list[Path]:
    return [path for path, variable in nnx.to_flat_state(nnx.state(model)) if isinstance(variable, nnx.Param)]


def _below(params: list[Path], path: Path) -> set[Path]:
    return {param for param in params if param[: len(path)] == path}


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
