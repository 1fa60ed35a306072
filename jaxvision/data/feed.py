"""Feeds: a part of a dataset as batches on the device, epoch after epoch."""

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision.data.cache import cached
from jaxvision.data.order import epoch_order
from jaxvision.data.parts import ArrayPart, FilePart, Part, SequentialPart, decoded_bytes, in_memory
from jaxvision.data.prefetch import prefetch
from jaxvision.mesh import on_each, one_device, own_rows, spread
from jaxvision.types import Array, Batch, Stretch


class Feed(Protocol):
    """Batches of a part, on the device. Every example comes once an epoch."""

    num_examples: int
    batch_size: int
    resident: bool

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch, the last and smaller one included."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, as `types.Batch` says; inputs uint8 or float32 as stored."""

    def stretches(self, epoch: int, lengths: Sequence[int], start: int = 0) -> Iterator[Stretch]:
        """The same for training, `lengths` steps at a time; only a resident feed can do more than one at a time, and
        an epoch's last step, which may be smaller, stands alone."""


@dataclass(frozen=True)
class Plan:
    """Which examples form which batch: a pure function of (seed, epoch, step)."""

    num_examples: int
    batch_size: int
    seed: int | None
    shuffle: bool

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_examples // self.batch_size)

    def order(self, epoch: int, start: int) -> np.ndarray:
        """Indices of the epoch's examples from step `start` on."""
        if not 0 <= start <= self.steps_per_epoch:
            raise ValueError(f"start must be 0 to {self.steps_per_epoch}. Received: {start}.")
        if self.seed is None or not self.shuffle:
            order = np.arange(self.num_examples)
        else:
            order = epoch_order(self.seed, epoch, self.num_examples)
        return order[start * self.batch_size :]

    def padding(self, count: int) -> int:
        """Rows to add to a batch of `count` examples: evaluation (no seed) keeps one shape."""
        return self.batch_size - count if self.seed is None else 0


def open_feed(
    part: Part,
    *,
    batch_size: int,
    seed: int | None,
    residence: str,
    resident_mb: int,
    shuffle: bool = True,
    mesh: Mesh | None = None,
) -> Feed:
    """A feed of `part`.

    seed: an integer for training (a new order each epoch unless `shuffle` is False; the last batch is smaller);
    None for evaluation (in order; the last batch is padded by repeating its last example, `valid` False).
    residence: "device" keeps all pictures on the device, "stream" brings each batch, "auto" keeps up to
    `resident_mb` MB (2**20 bytes). Both give the same batches, bit for bit, except for a SequentialPart: streamed,
    it can only be shuffled within a buffer, and starting inside an epoch reads past what comes before.
    mesh: devices to spread each batch over (pictures that stay on the device are on each); None: the first device of
    this process. Of a mesh of several processes each reads and decodes only the rows of its own devices (of a
    SequentialPart all).
    Pictures that the part's decoded cache holds are read from there: the same batches (a SequentialPart's as if it had
    random access) without decoding.
    """
    if not isinstance(part, ArrayPart):
        part = cached(part) or part
    plan = Plan(len(part.target), batch_size, seed, shuffle)
    mesh = one_device() if mesh is None else mesh
    return (ResidentFeed if stays_resident(part, residence, resident_mb) else StreamedFeed)(part, plan, mesh)


def stays_resident(part: Part, residence: str, resident_mb: int) -> bool:
    """Whether all pictures of a part are kept on the device, as `open_feed` says."""
    return residence == "device" or (residence == "auto" and decoded_bytes(part) <= resident_mb * 2**20)


class ResidentFeed:
    """All examples stay on the device; a batch is a gather."""

    resident = True

    def __init__(self, part: Part, plan: Plan, mesh: Mesh) -> None:
        if not isinstance(part, ArrayPart):
            from jaxvision.data.pipeline import decode

            part = decode(part)
        self.plan, self._mesh = plan, mesh
        self.num_examples, self.batch_size = plan.num_examples, plan.batch_size
        self.inputs = on_each(mesh, in_memory(part.inputs))
        self.target = on_each(mesh, in_memory(part.target))

    @property
    def steps_per_epoch(self) -> int:
        return self.plan.steps_per_epoch

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        order = self.plan.order(epoch, start).astype(np.int32)
        for begin in range(0, len(order), self.batch_size):
            chosen = order[begin : begin + self.batch_size]
            padding = self.plan.padding(len(chosen))
            rows = self._rows(np.pad(chosen, (0, padding), mode="edge"))
            inputs, target = _gather(self.inputs, self.target, rows)
            yield Batch(inputs, target, spread(self._mesh, _valid(len(chosen), padding)))

    def stretches(self, epoch: int, lengths: Sequence[int], start: int = 0) -> Iterator[Stretch]:
        order, begin = self.plan.order(epoch, start).astype(np.int32), 0
        for length in lengths:
            chosen = order[begin : begin + length * self.batch_size]
            begin += len(chosen)
            yield Stretch(self.inputs, self.target, self._rows(chosen.reshape(length, -1), axis=1))

    def with_seed(self, seed: int) -> "ResidentFeed":
        """The same examples, not copied, in the order that a run of this seed sees them in."""
        feed = copy.copy(self)
        feed.plan = replace(self.plan, seed=seed)
        return feed

    def _rows(self, chosen: np.ndarray, axis: int = 0) -> Array:
        # To one device a program brings these few numbers along faster than they could be sent.
        return chosen if self._mesh.size == 1 else spread(self._mesh, chosen, axis)


@jax.jit
def _gather(inputs: jax.Array, target: jax.Array, chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
    return inputs.at[chosen].get(mode="promise_in_bounds"), target.at[chosen].get(mode="promise_in_bounds")


class StreamedFeed:
    """Each batch is read, decoded and sent to the device by a background thread, two ahead."""

    resident = False

    def __init__(self, part: Part, plan: Plan, mesh: Mesh) -> None:
        self.part, self.plan, self._mesh = part, plan, mesh
        self.num_examples, self.batch_size = plan.num_examples, plan.batch_size

    @property
    def steps_per_epoch(self) -> int:
        return self.plan.steps_per_epoch

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return prefetch(self._prepared(epoch, start), depth=2)

    def stretches(self, epoch: int, lengths: Sequence[int], start: int = 0) -> Iterator[Stretch]:
        for _, batch in zip(lengths, self.batches(epoch, start), strict=True):
            yield Stretch(batch.inputs, batch.target, None)

    def _prepared(self, epoch: int, start: int) -> Iterator[Batch]:
        order = self.plan.order(epoch, start)
        if not len(order):  # the run was stopped with the epoch's last step
            return
        batches = [order[begin : begin + self.batch_size] for begin in range(0, len(order), self.batch_size)]
        for chosen, (inputs, target) in zip(batches, self._read(batches, epoch), strict=True):
            padding = self.plan.padding(len(chosen))
            rows = len(chosen) + padding
            share = own_rows(self._mesh, rows)
            lacking = share.stop - share.start - len(target)
            inputs, target = _padded(inputs, lacking), _padded(target, lacking)
            own = inputs, target, _valid(len(chosen), padding)[share]
            yield Batch(*(spread(self._mesh, array, rows=rows) for array in own))

    def _own(self, chosen: np.ndarray) -> np.ndarray:
        """Those of a batch that are for this process, or the last where there is only padding for it."""
        own = chosen[own_rows(self._mesh, len(chosen) + self.plan.padding(len(chosen)))]
        return own if len(own) else chosen[-1:]

    def _read(self, batches: Sequence[np.ndarray], epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """This process' examples of each batch."""
        match self.part:
            case ArrayPart(inputs=inputs, target=target):
                for chosen in map(self._own, batches):
                    yield inputs[chosen], target[chosen]
            case FilePart() as part:
                from jaxvision.data.pipeline import file_batches

                own = list(map(self._own, batches))
                # The last may be larger, where it is whole on each device.
                size = len(own[0])
                cut = len(own) - (len(own[-1]) > size)
                yield from file_batches(part, np.concatenate(own[:cut]), size)
                for larger in own[cut:]:
                    yield from file_batches(part, larger, len(larger))
            case SequentialPart() as part:
                from jaxvision.data.pipeline import sequence_batches

                skip = self.num_examples - sum(map(len, batches))
                if skip:
                    warnings.warn(
                        f"{part.where} has no random access: reading past {skip} examples to start at step"
                        f" {skip // self.batch_size}.",
                        stacklevel=2,
                    )
                seed = None
                if self.plan.seed is not None and self.plan.shuffle:
                    seed = int(epoch_order(self.plan.seed, epoch, 2**16)[0])
                read = sequence_batches(part, self.batch_size, shuffle_seed=seed, skip=skip)
                for inputs, target in read:
                    rows = self._own(np.arange(len(target)))
                    yield inputs[rows], target[rows]


def _padded(rows: np.ndarray, padding: int) -> np.ndarray:
    return np.pad(rows, [(0, padding)] + [(0, 0)] * (rows.ndim - 1), mode="edge") if padding else rows


def _valid(count: int, padding: int) -> np.ndarray:
    return np.arange(count + padding) < count
