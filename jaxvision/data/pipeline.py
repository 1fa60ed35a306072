"""Decoding by tf.data: batches of a part, in parallel and in order; an error names its example."""

import contextlib
import functools
import math
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxvision.cores import available_cores
from jaxvision.data.check_picture import picture_fault
from jaxvision.data.lazy_masks import LazyMasks
from jaxvision.data.marks import BY_PILLOW
from jaxvision.data.mask_stream import StreamedMasks
from jaxvision.data.parts import (
    ArrayPart,
    FilePart,
    Part,
    SequentialPart,
    aligned_empty,
    describe,
    has_masks,
    image_shape,
)
from jaxvision.data.tf_picture import decode_by_pillow, decode_file, decode_jpeg_crop, mapped, tensorflow
from jaxvision.errors import DataError

SHUFFLE_BYTES = 2**28
"""Memory of the buffer in which a SequentialPart is shuffled, counted in decoded pictures."""

Numpys = tuple[np.ndarray, np.ndarray]


def file_batches(part: FilePart, order: np.ndarray, batch_size: int) -> Iterator[Numpys]:
    """Batches (uint8 pictures, target) of the examples at `order`; the last one may be smaller."""
    tf = tensorflow()
    paths = [os.fsencode(part.paths[index]) for index in order]
    target = part.target
    # Masks are read beside TensorFlow, which meanwhile decodes the pictures of the next batch.
    given = order if isinstance(target, LazyMasks) else np.asarray(target[order])
    marks = part.marks
    some_by_pillow = marks is not None and bool((marks == BY_PILLOW).any())
    files = paths if marks is None else (paths, marks[order])
    stored = tf.data.Dataset.from_tensor_slices((order, files, given))

    # Without a branch for each picture, which takes longer than it saves.
    jpegs = part.true_endings and all(path.lower().endswith((".jpg", ".jpeg")) for path in part.paths)
    crops = jpegs and part.resize == "crop"

    def decode(picture: Any) -> Any:
        path, mark = picture if isinstance(picture, tuple) else (picture, None)

        def by_tensorflow() -> Any:
            if crops:
                return decode_jpeg_crop(path, part.image_size, part.channels, mark)
            return decode_file(path, part.image_size, part.channels, part.resize, mark)

        if not some_by_pillow:
            return by_tensorflow()
        by_pillow = functools.partial(decode_by_pillow, path, part.image_size, part.channels, part.resize)
        return tf.cond(mark == BY_PILLOW, by_pillow, by_tensorflow)

    for chosen, pictures, labels in decoded_batches(stored, decode, batch_size, lambda index: describe(part, index)):
        yield pictures, target[chosen] if isinstance(target, LazyMasks) else labels


def sequence_batches(
    part: SequentialPart, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0
) -> Iterator[Numpys]:
    """Batches of a SequentialPart; the `skip` first examples of the order are read and thrown away.

    The order is the stored one or, with a seed, that of a shuffle buffer of `SHUFFLE_BYTES`.
    """
    tf = tensorflow()
    end = int(part.positions[-1]) + 1
    row = np.full(end, -1, np.int64)
    row[part.positions] = np.arange(len(part.positions))
    row = tf.constant(row)
    stored = part.stored().take(end).enumerate()
    stored = mapped(stored, lambda position, example: (row[position], *example))
    stored = stored.filter(tf.autograph.experimental.do_not_convert(lambda index, *_: index >= 0))
    if shuffle_seed is not None:
        room = max(batch_size, SHUFFLE_BYTES // (math.prod(part.image_shape) * part.dtype.itemsize))
        stored = stored.shuffle(min(room, len(part.target)), seed=shuffle_seed, reshuffle_each_iteration=False)

    def name(index: int) -> str:
        return f"{part.where}, {describe(part, index)}"

    count = skip
    masks = part.target.decode if isinstance(part.target, StreamedMasks) else None
    for index, pictures, labels in decoded_batches(stored.skip(skip), part.decode, batch_size, name, masks):
        if masks is None and not np.array_equal(labels, expected := np.asarray(part.target[index])):
            wrong = int(np.argwhere(labels != expected)[0, 0])
            raise DataError(
                f"{name(int(index[wrong]))}: the dataset gives its examples in another order than when it was opened. "
                f"Received: label {labels[wrong]} where it was {expected[wrong]}. Remove shuffle() from it (jaxvision "
                "shuffles by itself), or let it be read once: data.residence=auto and a larger data.resident_mb."
            )
        if part.dtype == np.float32 and not np.isfinite(pictures.min() + pictures.max()):
            wrong = int(np.argmin(np.isfinite(pictures).all(axis=(1, 2, 3))))
            raise DataError(f"{name(int(index[wrong]))} holds values that are not finite. Received: NaN or infinity.")
        count += len(index)
        yield pictures, labels.astype(part.target.dtype)
    if count != len(part.target):
        raise DataError(
            f"{part.where}: the dataset ended early. Received: {count} examples where there were {len(part.target)}."
        )


def decode_in_order(part: FilePart | SequentialPart) -> Iterator[Numpys]:
    """Batches (pictures, target) of all the part's examples, from the first to the last."""
    if isinstance(part, FilePart):
        return file_batches(part, np.arange(len(part.target)), 64)
    return sequence_batches(part, 64)


def decode(part: Part) -> ArrayPart:
    """The part with all its pictures, and their masks, decoded in memory, by parallel tf.data."""
    if isinstance(part, ArrayPart):
        return part
    inputs = aligned_empty((len(part.target), *image_shape(part)), part.dtype)
    masks = aligned_empty(part.target.shape, part.target.dtype) if has_masks(part) else None
    done = 0
    for pictures, given in decode_in_order(part):
        inputs[done : done + len(pictures)] = pictures
        if masks is not None:
            masks[done : done + len(pictures)] = given
        done += len(pictures)
    target = part.target if masks is None else masks
    return ArrayPart(inputs, target, part.paths if isinstance(part, FilePart) else None)


def decoded_batches(
    stored: Any,
    decode: Callable[[Any], Any],
    batch_size: int,
    name: Callable[[int], str],
    decode_target: Callable[[Any], Any] | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Decode a tf.data.Dataset of (index, stored picture, target) in parallel and in order; batches of the same three.

    decode_target: for targets that are stored masks. DataError names the example that cannot be decoded.
    """
    tf = tensorflow()
    as_stored = decode_target or (lambda target: target)
    batches = mapped(
        stored,
        lambda index, picture, target: (index, decode(picture), as_stored(target)),
        num_parallel_calls=available_cores(),
        deterministic=True,
    )
    options = tf.data.Options()
    # Threads of our own: one picture a core, and none that wait for others of the process.
    options.threading.private_threadpool_size = available_cores()
    options.threading.max_intra_op_parallelism = 1
    batches = iter(batches.batch(batch_size).prefetch(2).with_options(options).as_numpy_iterator())
    delivered = 0
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except tf.errors.OpError as error:
            raise _culprit(stored.skip(delivered), decode, as_stored, name, error) from error
        delivered += len(batch[0])
        yield batch


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns TensorFlow's errors into a DataError about `where`."""
    tf = tensorflow()
    try:
        yield
    except tf.errors.OpError as error:
        raise DataError(f"{where} cannot be read. Received: {_short(error)}.") from error


def _culprit(
    stored: Any,
    decode: Callable[[Any], Any],
    decode_target: Callable[[Any], Any],
    name: Callable[[int], str],
    error: Exception,
) -> DataError:
    """tf.data does not say which example failed: decode one after the other to find it."""
    tf = tensorflow()
    last = "the start"
    try:
        for index, picture, target in stored:
            last = name(int(index))
            try:
                decode_target(target)
            except DataError as reason:
                return DataError(f"{last}: {reason}")
            except tf.errors.OpError as reason:
                return DataError(f"{last}: the mask cannot be used. Received: {_short(reason)}.")
            try:
                decode(picture)
            except tf.errors.OpError as reason:
                why = _short(reason)
                picture = picture[0] if isinstance(picture, tuple) else picture  # a path with its mark
                if picture.dtype == tf.string and (file := os.fsdecode(picture.numpy())) == last:
                    size = f"a file of {os.path.getsize(file)} bytes" if os.path.isfile(file) else "no file"
                    why = picture_fault(file) or why  # TensorFlow's words where Pillow would decode it
                elif picture.dtype == tf.string:
                    size = f"{len(picture.numpy())} bytes"
                else:
                    size = f"shape {tuple(picture.shape)}"
                return DataError(f"{last}: the picture cannot be used: {why}. Received: {size}.")
    except tf.errors.OpError as reason:
        return DataError(f"After {last}: the dataset cannot be read on. Received: {_short(reason)}.")
    return DataError(f"Before or after {last}: reading failed, but not when tried again. Received: {_short(error)}.")


def _short(error: Any) -> str:
    """The first sentence of a TensorFlow error, without the names of its graph nodes."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\].*|name:.*", "", error.message.strip().splitlines()[0])
    return text.strip().rstrip(".")
