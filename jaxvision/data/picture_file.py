"""What a picture file holds, and the reasons not to trust it; each reason begins with its kind and a colon."""

import contextlib
import io
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from jaxvision.data.orientation import HEAD, jpeg_segments, orientation

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
    (b"\0\5\x16\7", "what macOS keeps beside a file (AppleDouble), not the file"),
)

JPEG_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Kinds of the segments that tell a JPEG's size."""

NO_FILE = "not a picture: a folder, a pipe or a device"
"""Reading one of the latter may never end."""

FIRST = 2**12
"""Bytes that most files tell their size and EXIF mark in."""

PNG_END = b"IEND\xae\x42\x60\x82"

KINDS = (
    "missing",
    "unreadable",
    "empty",
    "not a picture",
    "too large",
    "damaged",
    "truncated",
    "unsupported",
    "mislabelled",
)
"""The kinds of reasons."""


class FaultError(Exception):
    """Why a file is no picture we read, to those who name the file; the message completes 'FILE: ...'."""


def file_content(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a file that has some. Raises FaultError."""
    try:
        _require_file(path)
        content = Path(path).read_bytes()
    except OSError as error:
        raise unreadable(error) from None
    if not content:
        raise FaultError("empty: zero bytes")
    return content


def _require_file(path: str | os.PathLike[str]) -> None:
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise FaultError(NO_FILE)


def unreadable(error: OSError) -> FaultError:
    """Why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return FaultError("missing: there is no such file")
    return FaultError(f"unreadable: {error.strerror}")


def open_image(content: bytes) -> Image.Image:
    """Header only. Raises FaultError for what is no picture, and pictures too large to decode."""
    try:
        image = Image.open(io.BytesIO(content))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise FaultError(too_large(stored_size(content))) from None
    except UnidentifiedImageError:
        kind = looks_like(content)
        if kind.endswith("picture"):
            raise FaultError(f"damaged: it starts as {kind} but its header is truncated or damaged") from None
        raise FaultError(f"not a picture: it looks like {kind}") from None
    except Exception as error:  # decoders of damaged files raise errors of every type
        raise _damage(error) from None
    if image.width * image.height > MAX_PIXELS:
        raise FaultError(too_large((image.height, image.width)))
    return image


@contextlib.contextmanager
def opened_header(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """A picture file of which only the header is read. Raises FaultError."""
    try:
        _require_file(path)
        image: Image.Image = Image.open(path)
    except FaultError:
        raise
    except Exception:  # of every type, for damaged files
        image = open_image(file_content(path))  # says what is wrong
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise FaultError(too_large((image.height, image.width)))
        yield image


class Header(NamedTuple):
    """What the first bytes of a picture tell.

    size: height and width as stored. mark: how it is to be turned (see `orientation`). for_pillow: whether TensorFlow
    would take a palette's indices for colours (BMP), or decode all pictures of an animation to give the first (GIF).
    """

    size: tuple[int, int]
    mark: int
    for_pillow: bool


def picture_header(path: str | os.PathLike[str]) -> Header:
    """Of a picture file, reading no more than it takes.

    Raises: FaultError: it cannot be read, is no picture, or is too large.
    """
    try:
        _require_file(path)
        with open(path, "rb", buffering=0) as file:
            head = file.read(FIRST)
            # A PNG tells its size first; what comes before its pixels may tell how it is to be turned.
            if 0 in stored_size(head) or (head.startswith(b"\x89PNG") and b"IDAT" not in head):
                head += file.read(HEAD - FIRST)
    except OSError as error:
        raise unreadable(error) from None
    size = stored_size(head)
    if 0 in size:
        with opened_header(path) as image:
            size = image.height, image.width
    if size[0] * size[1] > MAX_PIXELS:
        raise FaultError(too_large(size))
    return Header(size, orientation(head), head.startswith((b"GIF8", b"BM")))


def stored_size(content: bytes) -> tuple[int, int]:
    """(height, width) that the start of a JPEG, PNG, GIF or BMP tells; (0, 0) where it does not."""
    width = height = 0
    with contextlib.suppress(struct.error):  # cut off
        if content.startswith(b"\xff\xd8"):
            frames = (begin for kind, begin, _ in jpeg_segments(content) if kind in JPEG_FRAMES)
            if (begin := next(frames, None)) is not None:
                height, width = struct.unpack_from(">HH", content, begin + 1)
        elif content.startswith(b"\x89PNG"):
            width, height = struct.unpack_from(">II", content, 16)
        elif content.startswith(b"GIF8"):
            width, height = struct.unpack_from("<HH", content, 6)
        elif content.startswith(b"BM"):
            width, height = map(abs, struct.unpack_from("<ii", content, 18))
    return height, width


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


def too_large(size: tuple[int, int]) -> str:
    """What to say of a picture of that height and width."""
    return (
        f"too large: {size[1]} x {size[0]} (width x height), more than {MAX_PIXELS} pixels: refused before decoding"
        " (a decompression bomb?)"
    )


def _damage(error: Exception) -> FaultError:
    reason = str(error) or type(error).__name__
    if "truncated" in reason.lower():
        return FaultError(f"truncated: the file ends before its picture does ({reason})")
    return FaultError(f"damaged: {reason}")


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
