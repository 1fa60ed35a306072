"""Decoding by tf.data. TensorFlow is imported here, when pictures are really read by it, and nowhere else."""

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxvision.cores import available_cores
from jaxvision.data.parts import (
    ArrayPart,
    FilePart,
    Part,
    SequentialPart,
    aligned_empty,
    describe,
    image_shape,
)
from jaxvision.errors import DataError

SHUFFLE_BYTES = 2**28
"""Memory of the buffer in which a SequentialPart is shuffled, counted in decoded pictures."""

JPEG_MARGIN = 2
"""Pixels decoded beyond a crop of a JPEG: where colours are stored at half the size, its edge takes in one more."""

Numpys = tuple[np.ndarray, np.ndarray]


def tensorflow() -> Any:
    """TensorFlow, quiet, and kept off the accelerator's memory."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":  # what JAX sets where the user has not
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # our own message says what is wrong, and with which file
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # not used to decode, and it announces itself on the terminal
    try:
        import tensorflow as tf
    except ImportError as error:
        raise DataError(
            f"Folders, TFDS and tf.data sources are read by TensorFlow, which cannot be imported. Received: {error}. "
            "Install it (pip install tensorflow-cpu), or train from arrays (.npz)."
        ) from error
    with contextlib.suppress(RuntimeError):  # raised where the user has already used TensorFlow on its GPUs
        tf.config.set_visible_devices([], "GPU")
    return tf


def mapped(stored: Any, function: Callable[..., Any], **options: Any) -> Any:
    """stored.map(function), traced as it stands: AutoGraph need not rewrite it (and warns where it cannot)."""
    return stored.map(tensorflow().autograph.experimental.do_not_convert(function), **options)


def cropped(picture: Any, image_size: tuple[int, int]) -> Any:
    """The largest part of a picture (H, W, C) about its middle that has the aspect ratio of `image_size`."""
    tf = tensorflow()
    corner, extent = _window(tf.shape(picture)[:2], image_size)
    return _cut(picture, corner, extent)


def resized(picture: Any, image_size: tuple[int, int]) -> Any:
    """Stretch a picture as Keras' folder reader does (bilinear, no antialias); uint8 is rounded back to uint8."""
    tf = tensorflow()
    stretched = tf.image.resize(picture, image_size)
    return tf.cast(tf.round(stretched), tf.uint8) if picture.dtype == tf.uint8 else stretched


def decode_file(path: Any, image_size: tuple[int, int], channels: int, resize: str = "stretch") -> Any:
    """One picture file (JPEG, PNG, BMP, first frame of a GIF) as uint8 (H, W, C); see `config.Data.resize`."""
    tf = tensorflow()
    picture = tf.io.decode_image(tf.io.read_file(path), channels=channels, expand_animations=False)
    picture.set_shape((None, None, channels))
    return resized(cropped(picture, image_size) if resize == "crop" else picture, image_size)


def decode_jpeg_crop(path: Any, image_size: tuple[int, int], channels: int) -> Any:
    """`decode_file` with resize="crop" of a JPEG: decodes only what the crop shows, to the same pixels."""
    tf = tensorflow()
    content = tf.io.read_file(path)
    shape = tf.io.extract_jpeg_shape(content)[:2]
    corner, extent = _window(shape, image_size)
    start = tf.maximum(corner - JPEG_MARGIN, 0)
    end = tf.minimum(corner + extent + JPEG_MARGIN, shape)
    picture = tf.io.decode_and_crop_jpeg(content, tf.concat((start, end - start), 0), channels=channels)
    return resized(_cut(picture, corner - start, extent), image_size)


def _window(shape: Any, image_size: tuple[int, int]) -> tuple[Any, Any]:
    """`picture.central_window` of int32 tensors: (top, left) and (height, width)."""
    tf = tensorflow()
    size = np.asarray(image_size, np.int32)
    extent = tf.maximum(tf.minimum(shape, shape[::-1] * size // size[::-1]), 1)
    return (shape - extent) // 2, extent


def _cut(picture: Any, corner: Any, extent: Any) -> Any:
    tf = tensorflow()
    channels = picture.shape[2]
    part = tf.slice(picture, tf.concat((corner, [0]), 0), tf.concat((extent, [channels]), 0))
    return tf.ensure_shape(part, (None, None, channels))


def file_batches(part: FilePart, order: np.ndarray, batch_size: int) -> Iterator[Numpys]:
    """Batches (uint8 pictures, int32 labels) of the examples at `order`; the last one may be smaller."""
    tf = tensorflow()
    paths = [os.fsencode(part.paths[index]) for index in order]
    stored = tf.data.Dataset.from_tensor_slices((order, paths, part.target[order]))

    # Without a branch for each picture, which takes longer than it saves.
    crops = part.resize == "crop" and all(path.lower().endswith((".jpg", ".jpeg")) for path in part.paths)

    def decode(path: Any) -> Any:
        if crops:
            return decode_jpeg_crop(path, part.image_size, part.channels)
        return decode_file(path, part.image_size, part.channels, part.resize)

    for _, pictures, labels in decoded_batches(stored, decode, batch_size, lambda index: describe(part, index)):
        yield pictures, labels


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
    for index, pictures, labels in decoded_batches(stored.skip(skip), part.decode, batch_size, name):
        expected = part.target[index]
        if not np.array_equal(labels, expected):
            wrong = int(np.flatnonzero(labels != expected)[0])
            raise DataError(
                f"{name(int(index[wrong]))}: the dataset gives its examples in another order than when it was opened. "
                f"Received: label {labels[wrong]} where it was {expected[wrong]}. Remove shuffle() from it (jaxvision "
                "shuffles by itself), or let it be read once: data.residence=auto and a larger data.resident_mb."
            )
        count += len(index)
        yield pictures, labels.astype(np.int32)
    if count != len(part.target):
        raise DataError(
            f"{part.where}: the dataset ended early. Received: {count} examples where there were {len(part.target)}."
        )


def decode_in_order(part: FilePart | SequentialPart) -> Iterator[Numpys]:
    """Batches (pictures, labels) of all the part's examples, from the first to the last."""
    if isinstance(part, FilePart):
        return file_batches(part, np.arange(len(part.target)), 64)
    return sequence_batches(part, 64)


def decode(part: Part) -> ArrayPart:
    """The part with all its pictures decoded in memory, by parallel tf.data."""
    if isinstance(part, ArrayPart):
        return part
    inputs = aligned_empty((len(part.target), *image_shape(part)), part.dtype)
    done = 0
    for pictures, _ in decode_in_order(part):
        inputs[done : done + len(pictures)] = pictures
        done += len(pictures)
    return ArrayPart(inputs, part.target, part.paths if isinstance(part, FilePart) else None)


def decoded_batches(
    stored: Any, decode: Callable[[Any], Any], batch_size: int, name: Callable[[int], str]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Decode a tf.data.Dataset of (index, stored picture, label) in parallel and in order; batches of the same three.

    DataError names the example that cannot be decoded.
    """
    tf = tensorflow()
    batches = mapped(
        stored,
        lambda index, picture, label: (index, decode(picture), label),
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
            raise _culprit(stored.skip(delivered), decode, name, error) from error
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


def _culprit(stored: Any, decode: Callable[[Any], Any], name: Callable[[int], str], error: Exception) -> DataError:
    """tf.data does not say which example failed: decode one after the other to find it."""
    tf = tensorflow()
    last = "the start"
    try:
        for index, picture, _ in stored:
            last = name(int(index))
            try:
                decode(picture)
            except tf.errors.OpError as reason:
                if picture.dtype == tf.string and os.path.isfile(picture.numpy()):
                    size = f"a file of {os.path.getsize(picture.numpy())} bytes"
                elif picture.dtype == tf.string:
                    size = f"{len(picture.numpy())} bytes"
                else:
                    size = f"shape {tuple(picture.shape)}"
                return DataError(f"{last}: the picture cannot be used: {_short(reason)}. Received: {size}.")
    except tf.errors.OpError as reason:
        return DataError(f"After {last}: the dataset cannot be read on. Received: {_short(reason)}.")
    return DataError(f"Before or after {last}: reading failed, but not when tried again. Received: {_short(error)}.")


def _short(error: Any) -> str:
    """The first sentence of a TensorFlow error, without the names of its graph nodes."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:.*?\].*|name:.*", "", error.message.strip().splitlines()[0])
    return text.strip().rstrip(".")
