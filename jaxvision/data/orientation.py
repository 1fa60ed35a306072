"""How a picture is to be turned, by the EXIF mark that cameras and phones leave in it instead of turning its pixels.

The mark is read from the bytes alone, so that training (TensorFlow) and prediction (Pillow) turn alike.
"""

import struct
from collections.abc import Iterator

import numpy as np

HEAD = 2**18
"""Bytes at the start of a file in which the mark is looked for; its block comes first, or nearly so."""

TURNS = {2: (0, 1), 3: (1, 1), 4: (1, 0), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}
"""Whether rows and whether columns are reversed, after 5 to 8 have swapped the two (EXIF 2.32, tag 274)."""

_NUMBERS = {1: "B", 3: "H", 4: "I"}
"""Types of whole numbers in EXIF."""


def orientation(content: bytes) -> int:
    """1 (as stored) to 8, of a JPEG (APP1) or a PNG (eXIf before the pixels); 1 of all others, and without a mark."""
    block = _jpeg_block(content) if content.startswith(b"\xff\xd8") else _png_block(content)
    try:
        return _mark(block)
    except struct.error:  # cut off
        return 1


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


def _jpeg_block(content: bytes) -> bytes:
    """The TIFF structure in the first EXIF segment; empty where there is none."""
    for kind, begin, end in jpeg_segments(content):
        if kind == 0xE1 and content[begin : begin + 6] == b"Exif\0\0":
            return content[begin + 6 : end]
    return b""


def _png_block(content: bytes) -> bytes:
    place = 8 if content.startswith(b"\x89PNG\r\n\x1a\n") else len(content)
    while place + 8 <= len(content) and (kind := content[place + 4 : place + 8]) != b"IDAT":
        length = int.from_bytes(content[place : place + 4], "big")
        if kind == b"eXIf":
            return content[place + 8 : place + 8 + length]
        place += 12 + length
    return b""


def _mark(block: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None:
        return 1
    (directory,) = struct.unpack_from(f"{order}I", block, 4)
    (entries,) = struct.unpack_from(f"{order}H", block, directory)
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from(f"{order}HH", block, place)
        if tag == 0x0112 and kind in _NUMBERS:
            (mark,) = struct.unpack_from(order + _NUMBERS[kind], block, place + 8)
            return mark if mark in TURNS else 1
    return 1
