"""What a file of weights holds, whatever its format: layers with tensors, not read until asked for."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

_KERAS_1 = {
    "convolution2d": "conv2d",
    "separableconvolution2d": "separable_conv2d",
    "batchnormalization": "batch_normalization",
}
_KINDS = (
    "conv2d",
    "conv2d_transpose",
    "depthwise_conv2d",
    "separable_conv2d",
    "dense",
    "batch_normalization",
    "layer_normalization",
    "normalization",
)
_KINDS_ALONE = re.compile("|".join((*_KINDS, *_KERAS_1)))
_AUTOMATIC = re.compile(rf"({_KINDS_ALONE.pattern})(_\d+)?")


Rank = tuple[tuple[str, int], ...]
"""Where a layer is in its model: a label and a number at each level of nesting, the outermost level first.

Numbers tell an order only under equal labels; a label that no other layer has says that the order is not known.
"""


def comes_before(one: Rank, other: Rank) -> bool | None:
    """Whether the first layer precedes the other in their model; None where their ranks do not tell."""
    for (label, number), (other_label, other_number) in zip(one, other, strict=False):
        if label != other_label:
            return None
        if number != other_number:
            return number < other_number
    return None


@dataclass(frozen=True)
class FileTensor:
    """One array: its name in the file, shape, the type of its values, and how to read it."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray] = field(repr=False, compare=False)


@dataclass(frozen=True)
class FileLayer:
    """A layer with its tensors in Keras' order of them.

    kind: the Keras class in snake case; None where neither the file says it nor the shapes.
    rank: where the layer is in the file's model.
    within: the model inside the file's model that lists the layer in an order of its own.
    settings: what the file says of how the layer computes, as `layer_settings` gives it; without a configuration, {}.
    is_named: whether the file has the layer's name; early versions of Keras 3 wrote none, and the name is its group's.
    """

    name: str
    kind: str | None
    tensors: tuple[FileTensor, ...]
    rank: Rank
    within: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    is_named: bool = True


@dataclass(frozen=True)
class WeightsFile:
    """All layers of a file that have tensors; `format` in words, `model` as the file itself calls it, where it does."""

    path: str
    format: str
    layers: tuple[FileLayer, ...]
    model: str | None = None


def layer_settings(config: Any) -> dict[str, Any]:
    """strides and dilation_rate (int, int) and epsilon (float), as far as a layer's configuration in Keras has them."""
    given = config if isinstance(config, dict) else {}
    pairs = {key: tuple(value) for key in ("strides", "dilation_rate") if isinstance(value := given.get(key), list)}
    epsilon = given.get("epsilon")
    return pairs | ({"epsilon": float(epsilon)} if isinstance(epsilon, int | float) else {})


def automatic_kind(name: str) -> str | None:
    """The kind of layer that Keras gives such a name when asked for none (conv2d_7, dense); None for a given name."""
    match = _AUTOMATIC.fullmatch(name)
    return match and _KERAS_1.get(match[1], match[1])


def kind_from_tensors(tensors: tuple[FileTensor, ...]) -> str | None:
    """The kind of layer that has such tensors, by their names where they say it, else by their shapes."""
    names = {tensor.name.rsplit("/")[-1].split(":")[0] for tensor in tensors}
    shapes = [tensor.shape for tensor in tensors]
    ranks = sorted((len(shape) for shape in shapes), reverse=True)
    if "pointwise_kernel" in names or (ranks[:2] == [4, 4] and len(ranks) <= 3):
        return "separable_conv2d"
    if "depthwise_kernel" in names:
        return "depthwise_conv2d"
    if "variance" in names and "mean" in names:
        return "normalization"
    if len(set(shapes)) == 1 and ranks == [1, 1, 1, 1]:
        return "batch_normalization"
    return {(4,): "conv2d", (4, 1): "conv2d", (2,): "dense", (2, 1): "dense"}.get(tuple(ranks))


def numbered_alike(names: Sequence[str]) -> bool:
    """Whether the names differ in their numbers alone, which increase: conv2d, conv2d_1, conv2d_4."""
    parts = [re.split(r"(\d+)", f"{name}_0" if _KINDS_ALONE.fullmatch(name) else name) for name in names]
    numbers = [[int(part) for part in each[1::2]] for each in parts]
    return len({tuple(each[::2]) for each in parts}) == 1 and all(a < b for a, b in pairwise(numbers))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts names as people count: conv2d, conv2d_1, conv2d_2, ..., conv2d_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
