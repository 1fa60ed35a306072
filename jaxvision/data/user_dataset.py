"""Parts from a stream of examples: a tf.data.Dataset that the user made, or the records of a TFDS split."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxvision import config
from jaxvision.data.arrays import GRAY_WEIGHTS, labels, warn_if_rescaled
from jaxvision.data.cache import cached_target, open_cache
from jaxvision.data.parts import ArrayPart, SequentialPart
from jaxvision.data.pipeline import cropped, decoded_batches, mapped, reading, resized, tensorflow
from jaxvision.errors import DataError


def dataset_part(given: Any, where: str, data: config.Data) -> ArrayPart | SequentialPart:
    """A part from a tf.data.Dataset of (picture, label), batched or not; pictures (H, W, C) or (H, W), 0..255.

    It is read once from beginning to end: into memory where the decoded pictures fit (`data.residence`,
    `data.resident_mb`; what its own `map` does at random is then drawn once), else for the labels alone.
    """
    tf = tensorflow()
    spec = given.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2 or not all(isinstance(item, tf.TensorSpec) for item in spec):
        raise DataError(f"{where}: a tf.data.Dataset must give (picture, label) pairs. Received: {spec}.")
    if int(given.cardinality()) == tf.data.INFINITE_CARDINALITY:
        raise DataError(
            f"{where}: the tf.data.Dataset never ends. Received: infinite cardinality. "
            "Remove repeat(): jaxvision counts epochs itself."
        )
    picture, label = spec
    if label.shape.rank not in (0, 1) or not label.dtype.is_integer:
        raise DataError(
            f"{where}: labels must be whole class numbers, one for each picture. "
            f"Received: {label.dtype.name} of shape {label.shape}. (Keras' folder reader: label_mode='int'; "
            "one-hot labels: map tf.argmax over them.)"
        )
    rank = picture.shape.rank and picture.shape.rank - label.shape.rank
    if rank not in (None, 2, 3):
        raise DataError(
            f"{where}: pictures must be (H, W, C), with labels of shape () if not batched, else "
            f"(B, H, W, C) with labels (B,). Received: pictures {picture.shape}, labels {label.shape}."
        )
    if picture.dtype != tf.uint8 and not picture.dtype.is_floating:
        raise DataError(f"{where}: pictures must be uint8 or float, values 0..255. Received: {picture.dtype.name}.")
    stored = given.unbatch() if label.shape.rank == 1 else given
    return stream_part(lambda: stored, lambda picture: picture, where, data)


def stream_part(
    stored: Callable[[], Any], decode: Callable[[Any], Any], where: str, data: config.Data, identity: str | None = None
) -> ArrayPart | SequentialPart:
    """A SequentialPart; or, of examples that may not be the same at a second reading, an ArrayPart if they fit.

    stored: gives a tf.data.Dataset of (stored picture, label). decode: stored picture -> (H, W[, C]).
    identity: what decides the stored examples; None where that cannot be known, and they cannot be cached.
    """
    tf = tensorflow()
    cache = None
    if identity is not None:
        identity = f"{identity} {data.image_size} {data.channels} {data.resize}"
        cache = open_cache(data)
    with reading(where):
        first = next(iter(stored().take(1)), None)
        if first is None:
            raise DataError(f"{where} is empty. Received: 0 examples.")
        picture = decode(first[0])
    if picture.shape.rank not in (2, 3):
        raise DataError(f"{where}: pictures must be (H, W, C) or (H, W). Received: shape {tuple(picture.shape)}.")
    layout = (None, None, *picture.shape[2:])
    picture = _fit(picture, data, where)
    shape, dtype = tuple(picture.shape), np.dtype(picture.dtype.as_numpy_dtype)
    if dtype == np.float32:
        warn_if_rescaled(float(np.max(picture)), where)

    def fitted(picture: Any) -> Any:
        picture = _fit(tf.ensure_shape(decode(picture), layout), data, where)
        message = f"its size is not {shape} as the first one's; set data.image_size to resize all"
        with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(picture), shape, message=message)]):
            return tf.ensure_shape(picture, shape)

    room = data.resident_mb * 2**20 // (math.prod(shape) * dtype.itemsize)
    fits = data.residence != "stream" and int(stored().cardinality()) <= room  # unknown cardinality is negative
    if identity is None and fits and (part := _decoded(stored(), fitted, where, room)) is not None:
        return part
    target = None if identity is None or cache is None else cached_target(cache, identity)
    if target is None:
        with reading(where):
            only_labels = list(mapped(stored(), lambda picture, label: label).batch(1024).as_numpy_iterator())
        target = labels(np.concatenate(only_labels), where)
    return SequentialPart(where, stored, fitted, np.arange(len(target)), target, shape, dtype, identity, cache)


def _decoded(stored: Any, decode: Callable[[Any], Any], where: str, room: int) -> ArrayPart | None:
    """All examples in memory; None where there are more than `room`."""
    pictures, target, count = [], [], 0
    stored = mapped(stored.enumerate(), lambda index, example: (index, *example))
    for _, batch, label in decoded_batches(stored, decode, 64, lambda index: f"{where}, example {index}"):
        pictures.append(batch)
        target.append(label)
        count += len(label)
        if count > room:
            return None
    return ArrayPart(np.concatenate(pictures), labels(np.concatenate(target), where))


def _fit(picture: Any, data: config.Data, where: str) -> Any:
    """(H, W, C) uint8 or float32, of data.image_size and data.channels."""
    tf = tensorflow()
    if picture.shape.rank == 2:
        picture = picture[..., None]
    if picture.dtype != tf.uint8:
        picture = tf.cast(picture, tf.float32)
    stored = picture.shape[-1]
    if data.channels and stored != data.channels:
        if {stored, data.channels} != {1, 3}:
            raise DataError(
                f"{where}: pictures of {stored} channels cannot become {data.channels}. "
                f"Received: data.channels={data.channels}; leave it out."
            )
        if data.channels == 3:
            picture = tf.repeat(picture, 3, axis=-1)
        else:
            gray = tf.tensordot(tf.cast(picture, tf.float32), GRAY_WEIGHTS, 1)
            picture = gray if picture.dtype == tf.float32 else tf.cast(tf.round(gray), tf.uint8)
    if data.image_size is None:
        return picture
    return resized(cropped(picture, data.image_size) if data.resize == "crop" else picture, data.image_size)
