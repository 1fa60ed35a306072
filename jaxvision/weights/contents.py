"""What a file of weights holds, whatever its format: layers with tensors, not read until asked for."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

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
_AUTOMATIC = re.compile(rf"({'|'.join((*_KINDS, *_KERAS_1))})(_\d+)?")


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
    sequence: layers of the same sequence are listed in the order that their model has them; None: no order is known.
    """

    name: str
    kind: str | None
    tensors: tuple[FileTensor, ...]
    sequence: str | None = ""


@dataclass(frozen=True)
class WeightsFile:
    """All layers of a file that have tensors; `format` in words, `model` as the file itself calls it, where it does."""

    path: str
    format: str
    layers: tuple[FileLayer, ...]
    model: str | None = None


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


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorts names as people count: conv2d, conv2d_1, conv2d_2, ..., conv2d_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
