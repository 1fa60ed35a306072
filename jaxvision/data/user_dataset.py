"""Parts from a stream of examples: a tf.data.Dataset that the user made, or the records of a TFDS split."""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from jaxvision import config
from jaxvision.data.arrays import GRAY_WEIGHTS, check_values, refuse_channels_first
from jaxvision.data.cache import cached_target, open_cache
from jaxvision.data.mask import MaskRule
from jaxvision.data.mask_stream import StreamedMasks, mask_decoder
from jaxvision.data.parts import ArrayPart, SequentialPart
from jaxvision.data.pipeline import decoded_batches, reading
from jaxvision.data.targets import array_target
from jaxvision.data.tf_picture import cropped, mapped, resized, resized_nearest, tensorflow
from jaxvision.errors import DataError

FIRST = 16
"""Examples of a stream whose pixels are looked at before it is used."""

MOST = 2**18
"""Examples that are read of a dataset that does not say how many it has."""

MOST_TIMES = 16
"""How many times what `data.resident_mb` holds is read of such a dataset."""

QUIET = 10.0
"""Seconds of reading between two lines about it."""


class Progress:
    """Says from time to time how much of a stream was read. limit: examples after which it may never end; None: any."""

    def __init__(self, where: str, limit: int | None) -> None:
        self.where, self.limit = where, limit
        self._told = time.monotonic()

    def reached(self, count: int) -> None:
        """So many examples were read. DataError: more than the limit."""
        if self.limit is not None and count >= self.limit:
            raise DataError(
                f"{self.where}: the tf.data.Dataset does not say how many examples it has, and may never end. "
                f"Received: {count:,} examples and more. Say how many there are: "
                "dataset.apply(tf.data.experimental.assert_cardinality(N)); or take some: dataset.take(N)."
            )
        if time.monotonic() - self._told > QUIET:
            self._told = time.monotonic()
            unknown = "" if self.limit is None else "; the dataset does not say how many it has"
            print(f"{self.where}: {count:,} examples read{unknown}", file=sys.stderr, flush=True)


class StoredMasks(NamedTuple):
    """The masks of a stream of `total` examples. decode: stored mask -> (h, w[, 1])."""

    decode: Callable[[Any], Any]
    rule: MaskRule
    total: int


def dataset_part(given: Any, where: str, data: config.Data) -> ArrayPart | SequentialPart:
    """A part from a tf.data.Dataset of (picture, target), batched or not; pictures (H, W, C) or (H, W), 0..255.

    target: a class number; 0 and 1 for each class, float (K,); or a mask, integers (H, W) or (H, W, 1).
    It is read once from beginning to end: into memory where the decoded pictures fit (`data.residence`,
    `data.resident_mb`; what its own `map` does at random is then drawn once), as masks must, else for labels alone.
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
    batched, kind = _form(picture, label, where)
    if picture.dtype != tf.uint8 and not picture.dtype.is_floating:
        raise DataError(f"{where}: pictures must be uint8 or float, values 0..255. Received: {picture.dtype.name}.")
    stored = given.unbatch() if batched else given
    ends = int(given.cardinality()) >= 0
    if kind == "labels" and (data.label_offset or data.label_values):
        stored = mapped(stored, lambda picture, label: (picture, _class_number(label, data)))
        data = replace(data, label_offset=0, label_values=())
    return stream_part(lambda: stored, lambda picture: picture, where, data, has_masks=kind == "masks", ends=ends)


def _class_number(label: Any, data: config.Data) -> Any:
    """A label as stored by `data.label_offset` or `data.label_values`."""
    tf = tensorflow()
    label = tf.cast(label, tf.int64)
    matches = tf.equal(label, tf.constant(data.label_values or (), tf.int64))
    known = tf.reduce_any(matches) if data.label_values else label >= data.label_offset
    field = f"data.label_values {data.label_values}" if data.label_values else f"data.label_offset {data.label_offset}"
    with tf.control_dependencies([tf.debugging.Assert(known, [f"a label does not fit {field}:", label])]):
        return tf.argmax(matches) if data.label_values else label - data.label_offset


def _form(picture: Any, label: Any, where: str) -> tuple[bool, str]:
    """Whether the examples come in batches; and 'labels', 'multiple labels' or 'masks'."""
    ranks = picture.shape.rank, label.shape.rank
    column = ranks[1] in (3, 4) and label.shape[-1] == 1  # a mask with a channel
    whole, wide = label.dtype.is_integer, label.dtype.is_floating
    # Whole numbers beside rank 3 are a batch of gray pictures with a class each, where they can be.
    many = ranks == (3, 1) and None not in (picture.shape[0], label.shape[0]) and picture.shape[0] != label.shape[0]
    forms = {
        "labels": whole and not many and ranks in ((2, 0), (3, 0), (None, 0), (3, 1), (4, 1), (None, 1)),
        "multiple labels": (wide and ranks in ((2, 1), (3, 1), (4, 2))) or (whole and (many or ranks == (4, 2))),
        "masks": whole and (ranks in ((2, 2), (3, 2), (4, 3)) or (column and ranks in ((3, 3), (4, 4)))),
    }
    kind = next((kind for kind, holds in forms.items() if holds), None)
    if kind is None:
        raise DataError(
            f"{where}: pictures must be (H, W, C) and labels must be whole class numbers of shape (), 0.0 and 1.0 of "
            f"shape (K,), or masks, integers (H, W); or batches of these. Received: pictures {picture.shape}, labels "
            f"{label.dtype.name} of shape {label.shape}. (Keras' folder reader: label_mode='int'; one-hot labels: map "
            "tf.argmax over them.)"
        )
    if kind == "masks":
        return ranks in ((4, 3), (4, 4)), kind
    return ranks[1] == (1 if kind == "labels" else 2), kind


def stream_part(
    stored: Callable[[], Any],
    decode: Callable[[Any], Any],
    where: str,
    data: config.Data,
    identity: str | None = None,
    *,
    masks: StoredMasks | None = None,
    has_masks: bool = False,
    ends: bool = True,
) -> ArrayPart | SequentialPart:
    """A SequentialPart; or, of examples that may not be the same at a second reading, an ArrayPart if they fit.

    stored: gives a tf.data.Dataset of (stored picture, label or mask). decode: stored picture -> (H, W[, C]).
    identity: what decides the stored examples; None where that cannot be known, and they cannot be cached.
    masks: of what has an identity; else `has_masks` tells that the targets are masks. ends: whether the stream is known
    to end; one that is not is read up to a bound.
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
    if picture.shape.rank == 3:
        refuse_channels_first(picture.shape, where)
    layout = (None, None, *picture.shape[2:])
    picture = _fit(picture, data, where)
    shape, dtype = tuple(picture.shape), np.dtype(picture.dtype.as_numpy_dtype)

    def fitted(picture: Any) -> Any:
        picture = _fit(tf.ensure_shape(decode(picture), layout), data, where)
        message = f"its size is not {shape} as the first one's; set data.image_size to resize all"
        with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(picture), shape, message=message)]):
            return tf.ensure_shape(picture, shape)

    def fitted_mask(mask: Any) -> Any:
        return _fit_mask(mask, data)

    if masks is not None:
        numbers = mask_decoder(masks.decode, masks.rule, fitted_mask, shape[:2])
        positions = np.arange(masks.total)
        lazy = StreamedMasks(stored, numbers, positions, shape[:2], masks.rule)
        return SequentialPart(where, stored, fitted, positions, lazy, shape, dtype, identity, cache)
    size = math.prod(shape) * dtype.itemsize + (math.prod(shape[:2]) * first[1].dtype.size if has_masks else 0)
    room = data.resident_mb * 2**20 // size
    fits = data.residence != "stream" and int(stored().cardinality()) <= room  # unknown cardinality is negative
    progress = Progress(where, None if ends else min(MOST, MOST_TIMES * room))
    if identity is None and fits:
        as_stored = mask_decoder(lambda mask: mask, None, fitted_mask, shape[:2]) if has_masks else None
        if (part := _decoded(stored(), fitted, where, room, data, as_stored, progress)) is not None:
            return part
    if has_masks:
        raise DataError(
            f"{where}: masks of a tf.data.Dataset are kept in memory, where they do not fit. Received: data.residence="
            f"{data.residence}, data.resident_mb={data.resident_mb}. Set residence=auto and a larger resident_mb, or "
            "write pictures and masks to a folder (data.source=masks)."
        )
    if dtype == np.float32:
        with reading(where):
            some = mapped(stored().take(FIRST), lambda picture, label: fitted(picture)).batch(FIRST)
            check_values(next(some.as_numpy_iterator()), f"{where}, its first examples")
    target = None if identity is None or cache is None else cached_target(cache, identity)
    if target is None:
        only_labels, count = [], 0
        with reading(where):
            for labels in mapped(stored(), lambda picture, label: label).batch(1024).as_numpy_iterator():
                only_labels.append(labels)
                count += len(labels)
                progress.reached(count)
        target = array_target(np.concatenate(only_labels), where, data)
    return SequentialPart(where, stored, fitted, np.arange(len(target)), target, shape, dtype, identity, cache)


def _decoded(
    stored: Any,
    decode: Callable[[Any], Any],
    where: str,
    room: int,
    data: config.Data,
    decode_mask: Callable[[Any], Any] | None,
    progress: Progress,
) -> ArrayPart | None:
    """All examples in memory; None where there are more than `room`."""
    pictures, target, count = [], [], 0
    stored = mapped(stored.enumerate(), lambda index, example: (index, *example))
    named = decoded_batches(stored, decode, 64, lambda index: f"{where}, example {index}", decode_mask)
    for _, batch, label in named:
        pictures.append(batch)
        target.append(label)
        count += len(label)
        if count > room:
            return None
        progress.reached(count)
    inputs = np.concatenate(pictures)
    if inputs.dtype == np.float32:
        check_values(inputs, where)
    return ArrayPart(inputs, array_target(np.concatenate(target), where, data))


def _fit_mask(mask: Any, data: config.Data) -> Any:
    """A mask (h, w, 1) as `_fit` does its picture, by nearest."""
    if data.image_size is None:
        return mask
    return resized_nearest(cropped(mask, data.image_size) if data.resize == "crop" else mask, data.image_size)


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
                f"Received: data.channels={data.channels}. Leave it out, or give images of 1 or 3 channels."
            )
        if data.channels == 3:
            picture = tf.repeat(picture, 3, axis=-1)
        else:
            gray = tf.tensordot(tf.cast(picture, tf.float32), GRAY_WEIGHTS, 1)
            picture = gray if picture.dtype == tf.float32 else tf.cast(tf.round(gray), tf.uint8)
    if data.image_size is None:
        return picture
    return resized(cropped(picture, data.image_size) if data.resize == "crop" else picture, data.image_size)
