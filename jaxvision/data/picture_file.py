"""What a picture file holds, and the reasons not to trust it; each reason begins with its kind and a colon."""

import contextlib
import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from jaxvision.data.orientation import HEAD, TAIL, TURNS, intact, jpeg_segments, orientation, png_chunks

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

COMMON_FRAMES = {0xC0, 0xC1, 0xC2}
"""Those that every decoder knows: with Huffman codes, of pixels that come once or progressively."""

PNG_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row and column, and steps between them, of the seven images that an interlaced PNG holds."""

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
        if (frame := _jpeg_frame(content)) is not None and frame.bits != 8:
            raise FaultError(f"unsupported: a JPEG of {frame.bits} bits a channel; 8 can be read") from None
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
    """What the first and last bytes of an image file tell.

    size: height and width as stored. mark: how it is to be turned (see `orientation`). for_pillow: whether TensorFlow
    would read it otherwise than Pillow, by more than the rounding of JPEGs. deep: whether it is a PNG of 16 bits a
    channel, of which the upper 8 are read.
    """

    size: tuple[int, int]
    mark: int
    for_pillow: bool
    deep: bool


def picture_header(path: str | os.PathLike[str]) -> Header:
    """Of an image file, reading no more than it takes.

    Raises: FaultError: it cannot be read, is no image, or is too large.
    """
    tail = b""
    try:
        _require_file(path)
        with open(path, "rb", buffering=0) as file:
            head = file.read(FIRST)
            if _goes_on(head):
                head += file.read(HEAD - FIRST)
            if head.startswith(b"\x89PNG"):
                file.seek(-min(TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
                tail = file.read()
    except OSError as error:
        raise unreadable(error) from None
    frame = _jpeg_frame(head)
    size = stored_size(head) if frame is None else frame.size
    if 0 in size:
        with opened_header(path) as image:
            size = image.height, image.width
    if size[0] * size[1] > MAX_PIXELS:
        raise FaultError(too_large(size))
    return Header(
        size, orientation(head, tail), _for_pillow(head, frame), head.startswith(b"\x89PNG") and head[24] == 16
    )


def is_deep(image: Image.Image, content: bytes) -> bool:
    """Whether an image has 16 bits a channel, of which the upper 8 are read."""
    return image.mode.startswith("I;16") or (image.format == "PNG" and content[24] == 16)


def image_orientation(image: Image.Image, content: bytes) -> int:
    """1 (as stored) to 8, of a decoded image: by `orientation`, as training has it, or of other formats by Pillow."""
    if image.format in (*EXTENSIONS.values(), "MPO"):
        return orientation(content[:HEAD], content[-TAIL:])
    try:
        mark = image.getexif().get(0x0112)
    except Exception:  # of every type, where it is damaged
        return 1
    return mark if mark in TURNS else 1


def _goes_on(head: bytes) -> bool:
    """Whether what stands before the pixels of a JPEG or a PNG goes on after `head`."""
    if head.startswith(b"\xff\xd8"):
        end = max((end for _, _, end in jpeg_segments(head)), default=len(head))
        return end + 4 > len(head)
    return head.startswith(b"\x89PNG") and all(kind != b"IDAT" for kind, _, _ in png_chunks(head))


def _for_pillow(head: bytes, frame: "_Frame | None") -> bool:
    """Whether TensorFlow and Pillow differ about the file that starts so.

    TensorFlow takes a BMP's palette indices for colours, decodes all images of a GIF to give the first, takes CMYK
    without Adobe's mark for its opposite, knows no rare kinds of JPEG, and reads PNGs that Pillow, and so `check` and
    `predict`, refuse: damaged before the pixels, or with a broken animation.
    """
    if frame is not None:
        return frame.kind not in COMMON_FRAMES or frame.bits != 8 or frame.channels == 4
    for kind, begin, end in png_chunks(head):
        if kind == b"acTL" or (kind == b"iCCP" and head[begin:end].partition(b"\0")[2][:1] != b"\0"):
            return True
        if kind != b"IDAT" and end + 4 <= len(head) and not intact(head, begin, end):
            return True
    return head.startswith((b"GIF8", b"BM"))


class _Frame(NamedTuple):
    """What a JPEG tells of its pixels. kind: see JPEG_FRAMES. bits: of a channel."""

    kind: int
    bits: int
    size: tuple[int, int]
    channels: int


def _jpeg_frame(content: bytes) -> _Frame | None:
    """None where it is no JPEG, or ends before."""
    for kind, begin, _ in jpeg_segments(content) if content.startswith(b"\xff\xd8") else ():
        if kind in JPEG_FRAMES and begin + 6 <= len(content):
            bits, height, width, channels = struct.unpack_from(">BHHB", content, begin)
            return _Frame(kind, bits, (height, width), channels)
    return None


def stored_size(content: bytes) -> tuple[int, int]:
    """(height, width) that the start of a JPEG, PNG, GIF or BMP tells; (0, 0) where it does not."""
    if (frame := _jpeg_frame(content)) is not None:
        return frame.size
    width = height = 0
    with contextlib.suppress(struct.error):  # cut off
        if content.startswith(b"\x89PNG"):
            width, height = struct.unpack_from(">II", content, 16)
        elif content.startswith(b"GIF8"):
            width, height = struct.unpack_from("<HH", content, 6)
        elif content.startswith(b"BM"):
            old = content[14:18] == b"\x0c\0\0\0"  # the header of OS/2 1.x has two bytes for each
            width, height = map(abs, struct.unpack_from("<HH" if old else "<ii", content, 18))
    return height, width


def decode_image(image: Image.Image, content: bytes) -> None:
    """Decode to the last byte. Raises FaultError."""
    try:
        if image.format == "PNG":
            Image.open(io.BytesIO(content)).verify()  # checksums, which decoding alone passes over
            if PNG_END not in content:
                raise OSError("truncated: no end mark")
            _require_rows(content)
        image.load()
    except Exception as error:  # decoders of damaged files raise errors of every type
        raise _damage(error) from None


def _require_rows(content: bytes) -> None:
    """Raises OSError where a PNG holds fewer rows than it says, which Pillow fills with zeros, or an unknown part.

    A decoder must not pass over a part whose name begins with a capital letter.
    """
    width, height, bits, colour, interlaced = struct.unpack_from(">IIBB2xB", content, 16)
    depth = bits * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    passes = PNG_PASSES if interlaced else ((0, 0, 1, 1),)
    sizes = [((height - y + dy - 1) // dy, (width - x + dx - 1) // dx) for y, x, dy, dx in passes]
    expected = sum(rows * (1 + (columns * depth + 7) // 8) for rows, columns in sizes if columns)
    found, rows = 0, zlib.decompressobj()
    for kind, begin, end in png_chunks(content):
        if kind == b"IDAT":
            data = content[begin:end]
            while (data and not rows.eof) and found < expected:
                found += len(rows.decompress(data, 2**20))
                data = rows.unconsumed_tail
        elif kind == b"IEND":
            break
        elif kind[:1].isupper() and kind not in (b"IHDR", b"PLTE"):
            raise OSError(f"a part that must be understood is unknown: {kind.decode('latin-1')}")
    if found < expected and found + len(rows.flush()) < expected:
        raise OSError(f"truncated: {found} of {expected} bytes of its pixels")


def too_large(size: tuple[int, int]) -> str:
    """What to say of a picture of that height and width."""
    shown = f"{size[1]} x {size[0]} (width x height), more than"
    if size[0] * size[1] <= MAX_PIXELS:  # the first image of a GIF may be larger than its screen
        shown = "an image larger than the file's own size, and than"
    return f"too large: {shown} {MAX_PIXELS} pixels: refused before decoding (a decompression bomb?)"


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
