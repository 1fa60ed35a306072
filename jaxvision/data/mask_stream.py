"""Masks of examples that can only be read from the first to the last, decoded by TensorFlow beside their pictures."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxvision.data.lazy_masks import LazyMasks
from jaxvision.data.mask import MaskRule
from jaxvision.data.tf_picture import tensorflow
from jaxvision.errors import DataError
from jaxvision.types import IGNORE


class StreamedMasks(LazyMasks):
    """Masks of a SequentialPart. A feed decodes them with their pictures; rows asked for alone cost a pass up to them.

    stored: gives a tf.data.Dataset of (picture, mask) as stored. decode: TensorFlow function from a stored mask to
    class numbers uint8 (H, W). positions: int64 (N,), where the masks stand among what is stored.
    """

    def __init__(
        self,
        stored: Callable[[], Any],
        decode: Callable[[Any], Any],
        positions: np.ndarray,
        image_size: tuple[int, int],
        rule: MaskRule,
    ) -> None:
        super().__init__(len(positions), image_size, rule)
        self.stored, self.decode, self.positions = stored, decode, positions

    def read(self, chosen: np.ndarray) -> np.ndarray:
        wanted = self.positions[chosen]
        masks = np.empty((len(chosen), *self.shape[1:]), np.uint8)
        for position, (_, mask) in enumerate(self.stored().take(int(wanted.max(initial=-1)) + 1)):
            if (rows := np.flatnonzero(wanted == position)).size:
                try:
                    masks[rows] = self.decode(mask).numpy()
                except DataError as error:
                    raise DataError(f"Example {position}: {error}") from None
        return masks

    def rows(self, chosen: np.ndarray) -> "StreamedMasks":
        height, width = self.shape[1:]
        return StreamedMasks(self.stored, self.decode, self.positions[chosen], (height, width), self.rule)


def mask_decoder(
    decode: Callable[[Any], Any], rule: MaskRule | None, fit: Callable[[Any], Any], image_size: tuple[int, int]
) -> Callable[[Any], Any]:
    """TensorFlow function from a stored mask to class numbers uint8 (H, W) by `rule`, of `image_size`.

    decode: stored mask -> (h, w[, 1]) of an integer type. rule: None keeps the numbers and their type as stored.
    fit: resizes (h, w, 1) by nearest.
    """
    tf = tensorflow()

    def class_numbers(mask: Any, rule: MaskRule) -> Any:
        mask = tf.cast(mask, tf.int32)
        if tf.executing_eagerly():  # one alone, to tell what is wrong with it
            return tf.constant(rule.class_numbers(mask.numpy()))
        if rule.thresholds:
            numbers = tf.add_n([tf.cast(mask >= threshold, tf.int32) for threshold in rule.thresholds])
            known = tf.ones_like(mask, tf.bool)
        elif rule.values:
            numbers = tf.add_n([tf.where(mask == value, index + 1, 0) for index, value in enumerate(rule.values)]) - 1
            known = numbers >= 0
        else:
            numbers = mask - rule.label_offset
            known = (numbers >= 0) & (numbers < rule.num_classes)
        if rule.ignore_label is not None:
            ignored = mask == rule.ignore_label
            numbers, known = tf.where(ignored, IGNORE, numbers), known | ignored
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(known), [f"not {rule.expected()}"])]):
            return tf.cast(numbers, tf.uint8)

    def decoded(stored: Any) -> Any:
        mask = decode(stored)
        mask = mask[..., None] if mask.shape.rank == 2 else mask
        mask = fit(mask if rule is None else class_numbers(mask, rule))[..., 0]
        message = "its mask does not have the size of the pictures"
        with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(mask), image_size, message=message)]):
            return tf.ensure_shape(mask, image_size)

    return decoded
