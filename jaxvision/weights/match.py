"""Which layer of a file is which layer of a model."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from jaxvision.weights.contents import FileLayer, FileTensor, automatic_kind, comes_before, numbered_alike
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
    """Pairs in the order of the model; what is left of the model (`missing`) and of the file (`extra`).

    uncertain: pairs of layers of equal shapes that nothing but their order tells apart, where that is not known.
    """

    pairs: tuple[Pair, ...]
    missing: tuple[ModelLayer, ...]
    extra: tuple[FileLayer, ...]
    uncertain: tuple[tuple[Pair, ...], ...]

    @property
    def whole(self) -> bool:
        """Nothing is left over, everything fits, and each layer is identified."""
        return not (self.missing or self.extra or self.uncertain) and all(pair.fits for pair in self.pairs)


def match_layers(ours: Sequence[ModelLayer], theirs: Sequence[FileLayer]) -> Match:
    """Finds for each layer of the model the file's.

    First by name ("/" in old files' names is "_" now). Names that Keras made up (conv2d_7, dense_1) are no evidence,
    for a session counts on from model to model: such layers of one kind are told apart by their shapes, and those of
    equal shapes by their order. Layers that were given other names than ours are taken so too, if number and shapes of
    all that is left of that kind fit.
    """
    named = {layer.name.replace("/", "_"): layer for layer in theirs if not automatic_kind(layer.name)}
    found = {layer.name: named[layer.name] for layer in ours if layer.name in named}
    taken = {id(layer) for layer in found.values()}
    uncertain: list[tuple[Pair, ...]] = []
    for kind in dict.fromkeys(layer.kind for layer in ours):
        mine = [layer for layer in ours if layer.kind == kind and layer.name not in found]
        left = [layer for layer in theirs if layer.kind == kind and id(layer) not in taken]
        automatic = [layer for layer in left if automatic_kind(layer.name)]
        given = left if Counter(map(_shapes, mine)) == Counter(map(_shapes, left)) else automatic
        for both in _by_shapes(mine, given):
            found |= {layer.name: other for layer, other in both}
            taken |= {id(other) for _, other in both}
            if not _is_certain(both):
                uncertain.append(tuple(pair(*one) for one in both))
    return Match(
        pairs=tuple(pair(layer, found[layer.name]) for layer in ours if layer.name in found),
        missing=tuple(layer for layer in ours if layer.name not in found),
        extra=tuple(layer for layer in theirs if id(layer) not in taken),
        uncertain=tuple(uncertain),
    )


Both = list[tuple[ModelLayer, FileLayer]]


def _by_shapes(ours: Sequence[ModelLayer], theirs: Sequence[FileLayer]) -> Iterator[Both]:
    """The layers in pairs, those of equal shapes together; last those of which the model and the file have unequally
    many, in their order, so that a message can show what does not fit."""
    count, their_count = Counter(map(_shapes, ours)), Counter(map(_shapes, theirs))
    equal = [shapes for shapes in count if count[shapes] == their_count[shapes]]
    for shapes in equal:
        mine = [layer for layer in ours if _shapes(layer) == shapes]
        yield list(zip(mine, [layer for layer in theirs if _shapes(layer) == shapes], strict=True))
    rest = [layer for layer in ours if _shapes(layer) not in equal]
    for both in zip(rest, [layer for layer in theirs if _shapes(layer) not in equal], strict=False):
        yield [both]


def _shapes(layer: ModelLayer | FileLayer) -> tuple[tuple[int, ...], ...]:
    return tuple(sorted(tensor.shape for tensor in layer.tensors))


def _is_certain(both: Both) -> bool:
    """Whether the order of layers of equal shapes is known, in the model and in the file.

    Where the file's list of a model is in no certain order, numbers in the names that increase along it are taken as
    one: only layers that were used in another order than they were made in, and then frozen so that the list follows
    their numbers again, would be mistaken. They tell nothing of layers of different models, each made by itself.
    """

    def is_known(one: FileLayer, other: FileLayer) -> bool:
        numbered = one.rank[:-1] == other.rank[:-1] and numbered_alike([one.name, other.name])
        return comes_before(one.rank, other.rank) or numbered

    return all(
        comes_before(ours.rank, our_next.rank) and is_known(theirs, their_next)
        for (ours, theirs), (our_next, their_next) in pairwise(both)
    )


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
    for one, other in combinations(sorted(pairs, key=lambda pair: place[id(pair.theirs)]), 2):
        crossed = one.ours.stage and other.ours.stage and other.ours.stage < one.ours.stage
        if crossed and comes_before(one.theirs.rank, other.theirs.rank):
            return one, other
    return None
