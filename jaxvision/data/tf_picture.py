"""One picture by TensorFlow, which is imported here, when pictures are really read by it, and nowhere else."""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxvision.data.orientation import TURNS
from jaxvision.data.picture import read_picture
from jaxvision.errors import DataError

JPEG_MARGIN = 2
"""Pixels decoded beyond a crop of a JPEG: where colours are stored at half the size, its edge takes in one more."""

FLIPPED = np.array([TURNS.get(mark, (0, 0)) for mark in range(9)], bool)
"""`orientation.TURNS` by mark."""


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


def resized_nearest(mask: Any, image_size: tuple[int, int]) -> Any:
    """Stretch a mask (H, W, 1) as `resized` does a picture, but each pixel takes the nearest number."""
    return tensorflow().image.resize(mask, image_size, method="nearest")


def decode_file(
    path: Any,
    image_size: tuple[int, int],
    channels: int,
    resize: str = "stretch",
    mark: Any = None,
) -> Any:
    """One image file (JPEG, PNG, BMP, first frame of a GIF) as uint8 (H, W, C); see `config.Data.resize`.

    mark: int32, how to turn it (see `orientation`), which Keras and TensorFlow leave undone; None: as stored.
    """
    tf = tensorflow()
    picture = tf.io.decode_image(tf.io.read_file(path), channels=channels, expand_animations=False)
    picture = tf.ensure_shape(picture, (None, None, channels))
    picture = picture if mark is None else _turned(picture, mark)
    return resized(cropped(picture, image_size) if resize == "crop" else picture, image_size)


def decode_by_pillow(path: Any, image_size: tuple[int, int], channels: int, resize: str = "stretch") -> Any:
    """`decode_file` of an image that Pillow is to read (`marks.BY_PILLOW`), turned as its own mark says."""
    tf = tensorflow()
    picture = tf.numpy_function(lambda path: _pillow(path, channels), [path], tf.uint8, stateful=False)
    picture = tf.ensure_shape(picture, (None, None, channels))
    return resized(cropped(picture, image_size) if resize == "crop" else picture, image_size)


def decode_jpeg_crop(path: Any, image_size: tuple[int, int], channels: int, mark: Any = None) -> Any:
    """`decode_file` with resize="crop" of a JPEG: decodes only what the crop shows, to the same pixels."""
    tf = tensorflow()
    content = tf.io.read_file(path)
    stored = tf.io.extract_jpeg_shape(content)[:2]
    if mark is None:
        corner, extent = _window(stored, image_size)
    else:
        swapped = mark >= 5
        shape = tf.where(swapped, stored[::-1], stored)
        corner, extent = _window(shape, image_size)
        # Where the window lies in the picture as it is stored.
        corner = tf.where(tf.gather(FLIPPED, mark), shape - corner - extent, corner)
        corner, extent = tf.where(swapped, corner[::-1], corner), tf.where(swapped, extent[::-1], extent)
    start = tf.maximum(corner - JPEG_MARGIN, 0)
    end = tf.minimum(corner + extent + JPEG_MARGIN, stored)
    picture = tf.io.decode_and_crop_jpeg(content, tf.concat((start, end - start), 0), channels=channels)
    part = _cut(picture, corner - start, extent)
    return resized(part if mark is None else _turned(part, mark), image_size)


def _pillow(path: Any, channels: int) -> np.ndarray:
    path = np.asarray(path, object).item()  # bytes, or outside of a graph an array of bytes
    return read_picture(os.fsdecode(path), channels=channels)


def _turned(picture: Any, mark: Any) -> Any:
    """`orientation.turned` of a tensor (H, W, C)."""
    tf = tensorflow()

    def turn() -> Any:
        swapped = tf.cond(mark >= 5, lambda: tf.transpose(picture, (1, 0, 2)), lambda: picture)
        return tf.raw_ops.Reverse(tensor=swapped, dims=tf.concat((tf.gather(FLIPPED, mark), [False]), 0))

    return tf.ensure_shape(tf.cond(mark > 1, turn, lambda: picture), (None, None, picture.shape[2]))


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
