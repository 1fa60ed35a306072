"""How an image is to be turned, by the mark that cameras, phones and editors leave in it instead of turning its pixels.

The mark is read from the bytes alone, so that training (TensorFlow) and prediction (Pillow) turn alike.
"""

import contextlib
import re
import struct
import zlib
from collections.abc import Iterator

import numpy as np

HEAD = 2**18
"""Bytes at the start of a file in which the mark is looked for; its block comes first, or nearly so."""

TAIL = 2**16
"""Bytes at the end of a PNG in which the mark is looked for too: ExifTool and others write text after the pixels."""

TURNS = {2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
"""Whether rows and whether columns are reversed, after 5 to 8 have swapped the two (EXIF 2.32, tag 274)."""

_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""Types of whole numbers in EXIF."""

_PNG = b"\x89PNG\r\n\x1a\n"

_XMP = re.compile(rb"tiff:Orientation(?:\s*=\s*[\"']|>)\s*([0-9])")
"""The mark in XMP, as an attribute or as an element."""

_EXIF = b"Exif\0\0"

_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"

_RAW_EXIF = b"Raw profile type exif", b"Raw profile type APP1"
"""Keywords under which ImageMagick writes EXIF as text: a name, a length and hexadecimal digits, a line each."""

_TEXT = 2**20
"""Bytes of compressed text that are looked at."""


def orientation(head: bytes, tail: bytes = b"") -> int:
    """1 (as stored) to 8, of a JPEG or a PNG; 1 of all others, and without a mark.

    EXIF decides (APP1 in a JPEG, eXIf or ImageMagick's text in a PNG); where it says nothing, XMP does.
    head: the first bytes, HEAD at most. tail: of a PNG, its last TAIL bytes, or fewer where head holds them.
    """
    exif, xmp = _jpeg_blocks(head) if head.startswith(b"\xff\xd8") else _png_blocks(head, tail)
    try:
        mark = _mark(exif)
    except struct.error:  # cut off
        mark = None
    if mark is None and (found := _XMP.search(xmp)):
        mark = int(found[1])
    return mark if mark in TURNS else 1


def turned(pixels: np.ndarray, mark: int) -> np.ndarray:
    """(H, W) or (H, W, C) as it is meant to be seen."""
    if mark not in TURNS:
        return pixels
    rows, columns = TURNS[mark]
    pixels = pixels.swapaxes(0, 1) if mark >= 5 else pixels
    return np.ascontiguousarray(pixels[:: -1 if rows else 1, :: -1 if columns else 1])


def turned_size(size: tuple[int, int], mark: int) -> tuple[int, int]:
    """Height and width after turning."""
    return size[::-1] if mark >= 5 else size


def jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(kind, begin, end) of what stands before the pixels of a JPEG: the second byte of its marker, and its payload."""
    place = 2
    while content[place : place + 1] == b"\xff" and place + 4 <= len(content):
        kind = content[place + 1]
        if kind == 0xFF:  # a fill byte
            place += 1
            continue
        if kind in (0xD9, 0xDA):  # the end, or the pixels
            return
        end = place + 2 + max(int.from_bytes(content[place + 2 : place + 4], "big"), 2)
        yield kind, place + 4, end
        place = end


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, begin, end) of each chunk of a PNG that starts in `content`: its four letters, and where its data lies."""
    place = len(_PNG) if content.startswith(_PNG) else len(content)
    while place + 8 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        yield content[place + 4 : place + 8], place + 8, end
        place = end + 4


def intact(content: bytes, begin: int, end: int) -> bool:
    """Whether the data of a PNG's chunk that lies wholly in `content` fit their checksum."""
    return zlib.crc32(content[begin - 4 : end]) == int.from_bytes(content[end : end + 4], "big")


def _jpeg_blocks(content: bytes) -> tuple[bytes, bytes]:
    """The TIFF structure in the first EXIF segment, and XMP; empty where there is none."""
    exif = xmp = b""
    for kind, begin, end in jpeg_segments(content):
        if kind == 0xE1 and content.startswith(_EXIF, begin):
            exif = exif or content[begin:end]
        elif kind == 0xE1 and content.startswith(_XMP_SEGMENT, begin):
            xmp = content[begin + len(_XMP_SEGMENT) : end]
    return exif, xmp


def _png_blocks(head: bytes, tail: bytes) -> tuple[bytes, bytes]:
    """As `_jpeg_blocks`, of chunks before and after the pixels."""
    blocks: dict[str, bytes] = {}
    for kind, begin, end in png_chunks(head):
        if kind == b"IDAT":
            break
        _add_block(blocks, kind, head[begin:end])
    for kind, begin, end in _last_chunks(tail):
        _add_block(blocks, kind, tail[begin:end])
    return blocks.get("exif", b""), blocks.get("xmp", b"")


def _last_chunks(tail: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Chunks with text or EXIF in the end of a PNG, wherever that begins; a checksum tells them from pixels."""
    for kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
        place = tail.find(kind, 4)
        while place >= 0:
            end = place + 4 + int.from_bytes(tail[place - 4 : place], "big")
            if end + 4 <= len(tail) and intact(tail, place + 4, end):
                yield kind, place + 4, end
            place = tail.find(kind, place + 4)


def _add_block(blocks: dict[str, bytes], kind: bytes, data: bytes) -> None:
    if kind == b"eXIf":
        blocks["exif"] = data
    elif kind in (b"tEXt", b"zTXt") and data.startswith(_RAW_EXIF):
        text = data.partition(b"\0")[2]
        digits = b"".join((text if kind == b"tEXt" else _unpacked(text[1:])).split()[2:])
        with contextlib.suppress(ValueError):  # no hexadecimal digits
            blocks.setdefault("exif", bytes.fromhex(digits.decode("latin-1")))
    elif kind == b"iTXt" and data.startswith(b"XML:com.adobe.xmp\0"):
        packed, text = data[18:19], data[20:].split(b"\0", 2)[-1]  # after a language and a translated keyword
        blocks["xmp"] = _unpacked(text) if packed == b"\1" else text


def _unpacked(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, _TEXT)
    except zlib.error:
        return b""


def _mark(block: bytes) -> int | None:
    """The mark in a TIFF structure; None where there is none."""
    while block.startswith(_EXIF):  # some writers put it before the structure
        block = block[len(_EXIF) :]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return None
    (directory,) = struct.unpack_from(f"{order}I", block, 4)
    (entries,) = struct.unpack_from(f"{order}H", block, directory)
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(f"{order}HH", block, place)
        if tag == 0x0112 and kind in _NUMBERS:
            (mark,) = struct.unpack_from(order + _NUMBERS[kind], block, place + 8)
            return mark
    return None
