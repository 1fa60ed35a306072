"""Our tensors under Keras' names: which layer, which tensor of it, in which shape; in the order of a Keras model."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from flax import nnx

from jaxvision.errors import ConfigError
from jaxvision.nn import Chain, ConvTranspose, DepthwiseConv, SeparableConv
from jaxvision.weights.contents import Rank, natural_key

Path = tuple[Any, ...]

_PARTS = ("preprocessing", "base", "head")
"""A classifier's parts, which are not in a layer's Keras name: base/conv2_block1/1_conv is conv2_block1_1_conv."""


@dataclass(frozen=True)
class ModelTensor:
    """A variable of a model, and the name and shape that Keras has it in; the numbers are in the same order (C)."""

    name: str
    shape: tuple[int, ...]
    variable: nnx.Variable

    def values(self) -> np.ndarray:
        """The variable's numbers in Keras' shape."""
        return np.asarray(self.variable[...]).reshape(self.shape)


@dataclass(frozen=True)
class ModelLayer:
    """A layer with its tensors in Keras' order.

    kind: the Keras class in snake case. stage: the place of the link of the model's chain that the layer is in, base
    before head; None where the model is no such chain. rank: where the layer is, as far as the model's classes tell.
    settings: how it computes, in Keras' words: strides, dilation_rate, epsilon.
    """

    name: str
    kind: str
    tensors: tuple[ModelTensor, ...]
    in_head: bool
    stage: tuple[int, int] | None
    rank: Rank
    settings: Mapping[str, Any]


def model_layers(model: nnx.Module) -> tuple[ModelLayer, ...]:
    """All layers of `model` that have tensors, random-number state left out, in the order of a Keras model's layers.

    A layer's name is its path below base or head, joined by `_`, or what `keras_names` of the module that it is in
    calls that attribute. The order is that of the layers in a `Chain`, and `keras_order` where a module has it (names
    of attributes); otherwise that in which the attributes were set. `model` may be abstract.

    Raises: ConfigError: a layer that Keras keeps in another form, or two layers of one name.
    """
    modules = dict(nnx.iter_modules(model))
    variables = {
        path: node
        for path, node in nnx.iter_graph(model)
        if isinstance(node, nnx.Variable) and not isinstance(node, nnx.RngState)
    }
    owners: dict[Path, dict[str, nnx.Variable]] = {}
    for path, variable in variables.items():
        separable = isinstance(modules.get(path[:-2]), SeparableConv)
        owner = path[:-2] if separable else path[:-1]
        name = "_".join(map(str, path[len(owner) :]))
        owners.setdefault(owner, {})[name] = variable
    ranks = {path: _rank(path, modules) for path in owners}
    layers = tuple(
        _layer(path, modules.get(path), owners[path], modules) for path in sorted(owners, key=lambda path: ranks[path])
    )
    names = [layer.name for layer in layers]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"model: two layers are called {', '.join(twice)}; weights are found by name, so rename one.")
    return layers


def _rank(path: Path, modules: Mapping[Path, nnx.Module]) -> list[tuple[int, list[tuple[int, str]]]]:
    """Sorts paths: at each level by the place in the module's order, then as people count."""
    return [
        (_place(modules.get(path[:depth]), path[depth]), natural_key(str(path[depth]))) for depth in range(len(path))
    ]


def _place(module: nnx.Module | None, key: Any) -> int:
    order = list(_order(module))
    return order.index(key) if key in order else len(order)


def _order(module: nnx.Module | None) -> Iterator[Any]:
    if module is None:
        return
    if hasattr(module, "keras_order"):
        yield from module.keras_order
    elif isinstance(module, Chain):
        yield from module.names
    else:
        attributes = list(vars(module))
        # Sorted attributes are those of a module that was taken apart and merged: how they were set is not known.
        public = [name for name in attributes if not name.startswith("_")]
        if public != sorted(public):
            yield from (*(name for name in _PARTS if name in public), *attributes)
        else:
            yield from (name for name in _PARTS if name in public)


def _levels(path: Path, modules: Mapping[Path, nnx.Module]) -> Rank:
    """The layer's rank. The order in which a class set its attributes is no evidence: merging a model sorts them."""
    return tuple(_level(modules.get(path[:depth]), path[depth]) for depth in range(len(path)))


def _level(module: nnx.Module | None, key: Any) -> tuple[str, int]:
    if isinstance(module, Chain) or hasattr(module, "keras_order"):
        order = list(_order(module))
        if key in order:
            return ("side" if key in getattr(module, "keras_side", ()) else "", order.index(key))
    if isinstance(key, int):
        return ("", key)
    if key in _PARTS:
        return ("", _PARTS.index(key))
    stem, number = re.fullmatch(r"(.*?)(\d*)", str(key)).groups()  # type: ignore[union-attr]
    return (stem.rstrip("_"), int(number or -1))


def _layer(
    path: Path, module: nnx.Module | None, variables: dict[str, nnx.Variable], modules: Mapping[Path, nnx.Module]
) -> ModelLayer:
    below = path[1:] if path[:1] and path[0] in _PARTS else path
    given = dict(getattr(modules.get(path[:-1]), "keras_names", ()))
    name = given.get(path[-1] if path else None) or "_".join(map(str, below or path)) or "model"
    kind, names = _kind(name, module, variables)
    tensors = tuple(
        ModelTensor(keras, _keras_shape(ours, variables[ours], module), variables[ours])
        for ours, keras in names.items()
        if ours in variables
    )
    return ModelLayer(
        name, kind, tensors, path[:1] == ("head",), _stage(path, modules), _levels(path, modules), _settings(module)
    )


def _settings(module: nnx.Module | None) -> dict[str, Any]:
    layer: Any = getattr(module, "depthwise", module)
    found: dict[str, Any] = {"epsilon": layer.epsilon} if hasattr(layer, "epsilon") else {}
    for ours, keras in (("strides", "strides"), ("dilation", "dilation_rate"), ("kernel_dilation", "dilation_rate")):
        value = getattr(layer, ours, None)
        if value is not None:  # flax' own layers may have one number for both
            found[keras] = (value, value) if isinstance(value, int) else tuple(value)
    return found


def _kind(name: str, module: nnx.Module | None, variables: dict[str, nnx.Variable]) -> tuple[str, dict[str, str]]:
    """Keras' class of a layer with such variables, and its name for each of them in its order."""
    has = set(variables)
    if isinstance(module, nnx.ConvTranspose):
        raise ConfigError(
            f"model: {name} is a flax ConvTranspose, whose kernel Keras keeps flipped and with its channels swapped;"
            " weights of such layers cannot be ported."
        )
    if isinstance(module, SeparableConv):
        return "separable_conv2d", {
            "depthwise_kernel": "depthwise_kernel",
            "pointwise_kernel": "pointwise_kernel",
            "pointwise_bias": "bias",
        }
    if isinstance(module, DepthwiseConv):
        return "depthwise_conv2d", {"kernel": "kernel", "bias": "bias"}
    if isinstance(module, ConvTranspose):
        return "conv2d_transpose", {"kernel": "kernel", "bias": "bias"}
    if has in ({"kernel"}, {"kernel", "bias"}):
        rank = len(variables["kernel"].shape)
        return "dense" if rank == 2 else f"conv{rank - 2}d", {"kernel": "kernel", "bias": "bias"}
    if {"mean", "var"} <= has <= {"scale", "bias", "mean", "var"}:
        return "batch_normalization", {
            "scale": "gamma",
            "bias": "beta",
            "mean": "moving_mean",
            "var": "moving_variance",
        }
    if has == {"scale", "bias"}:
        return "layer_normalization", {"scale": "gamma", "bias": "beta"}
    if has == {"mean", "variance", "count"}:
        return "normalization", {"mean": "mean", "variance": "variance", "count": "count"}
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(module).__name__).lower()
    return kind, {variable: variable for variable in sorted(has, key=natural_key)}


def _keras_shape(name: str, variable: nnx.Variable, module: nnx.Module | None) -> tuple[int, ...]:
    """Depthwise kernels are (kh, kw, C, multiplier) in Keras, (kh, kw, 1, C * multiplier) here; all others agree."""
    shape = tuple(variable.shape)
    depthwise = module.depthwise if isinstance(module, SeparableConv) and name == "depthwise_kernel" else module
    if isinstance(depthwise, DepthwiseConv) and name.endswith("kernel"):
        return (*shape[:2], depthwise.groups, shape[3] // depthwise.groups)
    return shape


def _stage(path: Path, modules: Mapping[Path, nnx.Module]) -> tuple[int, int] | None:
    chain = modules.get(path[:1])
    if len(path) < 2 or path[0] not in ("base", "head") or not isinstance(chain, Chain):
        return None
    return (_PARTS.index(path[0]), chain.names.index(path[1])) if path[1] in chain.names else None
