"""One picture file to one array, without TensorFlow."""

import os
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from jaxvision.bucket import expanded
from jaxvision.data.orientation import turned
from jaxvision.data.picture_file import (
    MAX_PIXELS,
    FaultError,
    decode_image,
    file_content,
    image_orientation,
    is_deep,
    open_image,
)
from jaxvision.errors import DataError

__all__ = ["MAX_PIXELS", "central_window", "pixels_of", "read_picture", "resize_bilinear"]


def read_picture(
    path: str | os.PathLike[str],
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: Literal["stretch", "crop"] = "stretch",
) -> np.ndarray:
    """The picture in `path` as uint8 (H, W, C), resized to `image_size` (height, width) where one is given.

    channels: 1 (grey), 3 (red, green, blue) or None for as many as the file holds; transparency is dropped.
    resize: stretch the picture, or cut it to the aspect ratio of `image_size` about its middle first (crop).
    What the file holds decides how it is read, not its name; of an animation, the first picture. A JPEG or PNG is
    turned as its EXIF mark says (see `orientation`), before anything is cut or resized. Raises DataError naming the
    file where it is missing, empty, damaged, no picture, or of more than MAX_PIXELS.
    """
    if channels not in (None, 1, 3):
        raise DataError(f"A picture is read with 1 or 3 channels. Received: channels={channels}.")
    path = expanded(path)
    if not os.path.exists(path):
        raise DataError(f"{path}: there is no such file. Received: {path!r} (seen from {Path.cwd()}).")
    try:
        pixels, deep = decoded(path, channels)
    except FaultError as fault:
        raise DataError(f"{path}: {fault}. Received: no readable picture. Replace or remove this file.") from None
    if deep and np.ptp(pixels) < 16:
        warnings.warn(
            f"{path}: an image of 16 bits a channel is read by its upper 8 bits, which hardly differ in this one: "
            f"{pixels.min()} to {pixels.max()} of 255. Spread its values as those of the training images.",
            stacklevel=2,
        )
    if image_size is None:
        return pixels
    return np.rint(resize_bilinear(pixels, image_size, resize)).astype(np.uint8)


def decoded(path: str | os.PathLike[str], channels: int | None) -> tuple[np.ndarray, bool]:
    """`read_picture` in the file's size, and whether it holds 16 bits a channel. Raises FaultError."""
    content = file_content(path)
    image = open_image(content)
    if channels == 1 and image.format == "JPEG":
        image.draft("L", image.size)  # takes the brightness channel that JPEG stores, as TensorFlow does
    decode_image(image, content)
    return turned(pixels_of(image, channels), image_orientation(image, content)), is_deep(image, content)


def central_window(height: int, width: int, image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the largest window about the middle with the aspect ratio of `image_size`.

    Rounded as by Keras' `crop_to_aspect_ratio`.
    """
    window_height = max(min(height, width * image_size[0] // image_size[1]), 1)
    window_width = max(min(width, height * image_size[1] // image_size[0]), 1)
    return (height - window_height) // 2, (width - window_width) // 2, window_height, window_width


def resize_bilinear(
    pictures: np.ndarray, image_size: tuple[int, int], resize: Literal["stretch", "crop"] = "stretch"
) -> np.ndarray:
    """(..., H, W, C) pictures of any number dtype, stretched or cropped to `image_size`; float32, in the units given.

    Half-pixel centres, no antialiasing: what `tf.image.resize` and Keras' folder reader compute.
    """
    if resize == "crop":
        top, left, height, width = central_window(pictures.shape[-3], pictures.shape[-2], image_size)
        pictures = pictures[..., top : top + height, left : left + width, :]
    pictures = pictures.astype(np.float32)
    for axis, new in ((-3, image_size[0]), (-2, image_size[1])):
        old = pictures.shape[axis]
        if old == new:
            continue
        position = (np.arange(new, dtype=np.float32) + 0.5) * np.float32(old / new) - 0.5
        below = np.floor(position)
        weight = (position - below).reshape((-1,) + (1,) * (-axis - 1))
        low = pictures.take(np.maximum(below, 0).astype(np.int64), axis)
        high = pictures.take(np.minimum(np.ceil(position), old - 1).astype(np.int64), axis)
        pictures = low + (high - low) * weight
    return pictures


def pixels_of(image: Image.Image, channels: int | None) -> np.ndarray:
    """A decoded image as uint8 (H, W, C), as stored. Raises FaultError."""
    if image.mode.startswith("I;16"):
        pixels = (np.asarray(image) >> 8).astype(np.uint8)  # the high byte, as TensorFlow takes it
        return np.repeat(pixels[..., None], channels or 1, axis=-1)
    if image.mode in ("I", "F"):
        raise FaultError("unsupported: 32 bits a pixel; 8 or 16 can be read")
    if channels is None:
        channels = 1 if image.mode in ("1", "L", "LA") else 3
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[..., None] if channels == 1 else pixels
