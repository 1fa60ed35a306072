"""Which layer of a file is which layer of a model."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxvision.weights.contents import FileLayer, FileTensor, automatic_kind
from jaxvision.weights.names import ModelLayer, ModelTensor


@dataclass(frozen=True)
class Pair:
    """A layer of the model with the file's, and their tensors: beside each other, or where one has none beside None."""

    ours: ModelLayer
    theirs: FileLayer
    tensors: tuple[tuple[ModelTensor | None, FileTensor | None], ...]

    @property
    def fits(self) -> bool:
        """Every tensor has its like, of the same shape."""
        return all(ours and theirs and ours.shape == theirs.shape for ours, theirs in self.tensors)


@dataclass(frozen=True)
class Match:
    """Pairs in the order of the model; what is left of the model (`missing`) and of the file (`extra`)."""

    pairs: tuple[Pair, ...]
    missing: tuple[ModelLayer, ...]
    extra: tuple[FileLayer, ...]

    @property
    def whole(self) -> bool:
        """Nothing is left over, and everything fits."""
        return not self.missing and not self.extra and all(pair.fits for pair in self.pairs)


def match_layers(ours: Sequence[ModelLayer], theirs: Sequence[FileLayer]) -> Match:
    """Finds for each layer of the model the file's.

    First by name ("/" in old files' names is "_" now). Names that Keras made up (conv2d_7, dense_1) are no evidence,
    for a session counts on from model to model: such layers are taken in their order among those of their kind. Layers
    that were given other names than ours are taken so too, if number and shapes of all that is left of that kind fit.
    """
    named = {layer.name.replace("/", "_"): layer for layer in theirs if not automatic_kind(layer.name)}
    found = {layer.name: named[layer.name] for layer in ours if layer.name in named}
    taken = {id(layer) for layer in found.values()}
    for kind in dict.fromkeys(layer.kind for layer in ours):
        mine = [layer for layer in ours if layer.kind == kind and layer.name not in found]
        left = [layer for layer in theirs if layer.kind == kind and id(layer) not in taken]
        automatic = [layer for layer in left if automatic_kind(layer.name)]
        in_order = left if _all_fit(mine, left) else automatic
        for layer, other in zip(mine, in_order, strict=False):
            found[layer.name] = other
            taken.add(id(other))
    return Match(
        pairs=tuple(pair(layer, found[layer.name]) for layer in ours if layer.name in found),
        missing=tuple(layer for layer in ours if layer.name not in found),
        extra=tuple(layer for layer in theirs if id(layer) not in taken),
    )


def _all_fit(ours: Sequence[ModelLayer], theirs: Sequence[FileLayer]) -> bool:
    return len(ours) == len(theirs) and all(pair(*both).fits for both in zip(ours, theirs, strict=True))


def pair(ours: ModelLayer, theirs: FileLayer) -> Pair:
    """The tensors of two layers beside each other: by name where the file uses ours, else by Keras' order of them."""
    names = [tensor.name.rpartition("/")[2].split(":")[0] for tensor in theirs.tensors]
    called = {_alias(name, ours.kind): tensor for name, tensor in zip(names, theirs.tensors, strict=True)}
    wanted = [tensor.name for tensor in ours.tensors]
    if set(wanted) & set(called):
        rest = [tensor for name, tensor in called.items() if name not in wanted]
        beside = [(tensor, called.get(tensor.name)) for tensor in ours.tensors]
    else:
        rest = list(theirs.tensors[len(wanted) :])
        some: list[FileTensor | None] = [*theirs.tensors[: len(wanted)]]
        beside = list(zip(ours.tensors, some + [None] * (len(wanted) - len(some)), strict=True))
    return Pair(ours, theirs, (*beside, *((None, tensor) for tensor in rest)))


def _alias(name: str, kind: str) -> str:
    """What DepthwiseConv2D calls its kernel has changed between Keras 2 and 3."""
    return "kernel" if (kind, name) == ("depthwise_conv2d", "depthwise_kernel") else name


def out_of_order(pairs: Sequence[Pair], theirs: Sequence[FileLayer]) -> tuple[Pair, Pair] | None:
    """Two pairs that the file lists in this order, and the model's chain has in the other; None where the orders agree.

    The links of a chain each use the one before, so a file of the same architecture lists them in the same order,
    however Keras sorts the branches inside a link. Only layers whose order the file tells are compared.
    """
    place = {id(layer): number for number, layer in enumerate(theirs)}
    last: dict[str, Pair] = {}
    for one in sorted(pairs, key=lambda pair: place[id(pair.theirs)]):
        sequence, stage = one.theirs.sequence, one.ours.stage
        if sequence is None or stage is None:
            continue
        before = last.setdefault(sequence, one)
        assert before.ours.stage is not None
        if stage < before.ours.stage:
            return before, one
        last[sequence] = one
    return None
