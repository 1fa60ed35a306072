"""One picture file to one array, without TensorFlow; and the reasons not to trust a picture file."""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxvision.errors import DataError

MAX_PIXELS = 2**26
"""Pictures with more pixels are refused before they are decoded: a 1 MB file can hold a 2 GB picture."""

EXTENSIONS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".gif": "GIF", ".bmp": "BMP"}
"""Endings that a folder dataset reads, as Keras does, and the format each promises."""

SIGNATURES = (
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"RIFF", "a WebP picture, a sound or a film"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"PK\3\4", "a zip archive"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a gzip archive"),
)

PNG_END = b"IEND\xae\x42\x60\x82"


@dataclass(frozen=True)
class PictureCheck:
    """What a full decode of one file showed; `fault` is None where the file can be trusted."""

    fault: str | None
    notes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    """Height and width in pixels, where the header could be read."""


class FaultError(Exception):
    """Why a file is no picture we read, to those who name the file; the message completes 'FILE: ...'."""


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
    What the file holds decides how it is read, not its name; of an animation, the first picture. Orientation marks
    (EXIF) are ignored, as TensorFlow does. Raises DataError naming the file where it is missing, empty, damaged or no
    picture.
    """
    if channels not in (None, 1, 3):
        raise DataError(f"A picture is read with 1 or 3 channels. Received: channels={channels}.")
    if not os.path.exists(path):
        raise DataError(f"{path}: there is no such file. Received: {os.fspath(path)!r} (seen from {Path.cwd()}).")
    try:
        content = file_content(Path(path))
        image = open_image(content)
        if channels == 1 and image.format == "JPEG":
            image.draft("L", image.size)  # takes the brightness channel that JPEG stores, as TensorFlow does
        decode_image(image, content)
        pixels = _pixels(image, channels)
    except FaultError as fault:
        raise DataError(f"{path}: {fault}. Received: no readable picture. Replace or remove this file.") from None
    if image_size is None:
        return pixels
    return np.rint(resize_bilinear(pixels, image_size, resize)).astype(np.uint8)


def picture_fault(path: str | os.PathLike[str]) -> str | None:
    """Why the file cannot be trusted as a picture, after decoding all of it; None where it can."""
    return check_picture(path).fault


def check_picture(path: str | os.PathLike[str]) -> PictureCheck:
    """Decode the whole file and say what is wrong with it (`fault`) and what is unusual about it (`notes`)."""
    size = None
    try:
        content = file_content(Path(path))
        image = open_image(content)
        size = (image.height, image.width)
        notes = _notes(image, content)
        decode_image(image, content)
        _pixels(image, None)
    except FaultError as fault:
        return PictureCheck(str(fault), size=size)
    ending = Path(path).suffix.lower()
    promised, held = EXTENSIONS.get(ending), "JPEG" if image.format == "MPO" else image.format
    if promised not in (None, held):
        return PictureCheck(f"mislabelled: named {ending} but holds a {held} picture", notes, size)
    return PictureCheck(None, notes, size)


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


def file_content(path: Path) -> bytes:
    """All bytes of a file that has some. Raises FaultError."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FaultError("there is no such file") from None
    except IsADirectoryError:
        raise FaultError("a folder, not a picture file") from None
    except OSError as error:
        raise FaultError(f"cannot be read: {error.strerror}") from None
    if not content:
        raise FaultError("empty: zero bytes")
    return content


def open_image(content: bytes) -> Image.Image:
    """Header only. Raises FaultError for what is no picture, and pictures too large to decode."""
    too_large = f"more than {MAX_PIXELS} pixels: refused before decoding (a decompression bomb?)"
    try:
        image = Image.open(io.BytesIO(content))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise FaultError(too_large) from None
    except UnidentifiedImageError:
        kind = looks_like(content)
        if kind.endswith("picture"):
            raise FaultError(f"starts as {kind} but its header is truncated or damaged") from None
        raise FaultError(f"not a picture: it looks like {kind}") from None
    except Exception as error:  # decoders of damaged files raise errors of every type
        raise _damage(error) from None
    if image.width * image.height > MAX_PIXELS:
        raise FaultError(f"{image.width} x {image.height}, {too_large}")
    return image


@contextlib.contextmanager
def opened_header(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """A picture file of which only the header is read. Raises FaultError."""
    try:
        image: Image.Image = Image.open(path)
    except Exception:  # of every type, for damaged files
        image = open_image(file_content(Path(path)))  # says what is wrong
    with image:
        yield image


def decode_image(image: Image.Image, content: bytes) -> None:
    """Decode to the last byte. Raises FaultError."""
    try:
        if image.format == "PNG":
            Image.open(io.BytesIO(content)).verify()  # checksums, which decoding alone passes over
            if PNG_END not in content:
                raise OSError("truncated: no end mark")
        image.load()
    except Exception as error:  # decoders of damaged files raise errors of every type
        raise _damage(error) from None


def _damage(error: Exception) -> FaultError:
    reason = str(error) or type(error).__name__
    if "truncated" in reason.lower():
        return FaultError(f"truncated: the file ends before its picture does ({reason})")
    return FaultError(f"damaged: {reason}")


def _pixels(image: Image.Image, channels: int | None) -> np.ndarray:
    """A decoded image as uint8 (H, W, C)."""
    if image.mode.startswith("I;16"):
        pixels = (np.asarray(image) >> 8).astype(np.uint8)  # the high byte, as TensorFlow takes it
        return np.repeat(pixels[..., None], channels or 1, axis=-1)
    if image.mode in ("I", "F"):
        raise FaultError("32 bits a pixel; 8 or 16 can be read")
    if channels is None:
        channels = 1 if image.mode in ("1", "L", "LA") else 3
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[..., None] if channels == 1 else pixels


def _notes(image: Image.Image, content: bytes) -> tuple[str, ...]:
    try:
        orientation = image.getexif().get(0x0112, 1)
    except Exception:  # a damaged EXIF block does not touch the picture
        orientation = 1
    unusual = {
        "animated: only the first picture is read": image.format != "MPO" and getattr(image, "is_animated", False),
        "16 bits a channel: read as 8": image.mode.startswith("I;16") or (image.format == "PNG" and content[24] == 16),
        "CMYK colours: converted to RGB": image.mode == "CMYK",
        "transparent: the transparency is dropped": image.has_transparency_data,
        "EXIF orientation: ignored, the picture is read as stored": orientation not in (0, 1),
    }
    return tuple(note for note, holds in unusual.items() if holds)


def looks_like(content: bytes) -> str:
    """What the first bytes of a file look like, in words: 'a GIF picture', 'an HTML page', 'text', ..."""
    for signature, kind in SIGNATURES:
        if content.startswith(signature):
            return kind
    if content[4:8] == b"ftyp":
        return "a HEIC or AVIF picture or a film"
    if not content.strip(b"\0"):
        return "nothing but zero bytes"
    start = content[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page (a download that failed?)"
    if b"<svg" in start:
        return "an SVG drawing"
    printable = set(range(32, 127)) | set(b"\t\r\n\f")
    return "text" if set(start) <= printable else "unknown binary data"
