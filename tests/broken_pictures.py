"""Files as they turn up in real folders, good ones and bad. Each function writes one and returns its path."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int = 0, size: tuple[int, int] = (40, 60)) -> Image.Image:
    """A picture of smooth colours (height, width), so that JPEG keeps it well."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return Image.fromarray(corners).resize(size[::-1], Image.Resampling.BICUBIC)


def encoded(kind: str, seed: int = 0, size: tuple[int, int] = (40, 60)) -> bytes:
    buffer = io.BytesIO()
    picture(seed, size).save(buffer, kind)
    return buffer.getvalue()


def good(path: Path, seed: int = 0, size: tuple[int, int] = (40, 60)) -> Path:
    kind = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".gif": "GIF", ".bmp": "BMP"}[path.suffix.lower()]
    return _written(path, encoded(kind, seed, size))


def zero_byte(path: Path) -> Path:
    return _written(path, b"")


def truncated_jpeg(path: Path) -> Path:
    content = encoded("JPEG")
    return _written(path, content[: len(content) * 3 // 4])


def html_as_jpg(path: Path) -> Path:
    return _written(path, b"<!DOCTYPE html>\n<html><body>403 - Forbidden</body></html>\n")


def gif_as_jpg(path: Path) -> Path:
    return _written(path, encoded("GIF"))


def png_as_jpg(path: Path) -> Path:
    return _written(path, encoded("PNG"))


def corrupt_png(path: Path) -> Path:
    content = bytearray(encoded("PNG"))
    content[len(content) // 2] ^= 0xFF
    return _written(path, bytes(content))


def png_bomb(path: Path) -> Path:
    """A file of a few kilobytes with the header of a 20000 x 20000 picture."""
    return _png(path, struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0), b"\0" * 100_000)


def whole_png_bomb(path: Path) -> Path:
    """20000 x 20000 pixels of a bit each, all there: 1.2 GB when decoded to three colours."""
    return _png(path, struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0), b"\0" * (2501 * 20000))


def _png(path: Path, header: bytes, rows: bytes) -> Path:
    chunks = (b"IHDR" + header, b"IDAT" + zlib.compress(rows), b"IEND")
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return _written(path, b"\x89PNG\r\n\x1a\n" + b"".join(framed))


def flipped_bits(path: Path) -> Path:
    """A JPEG with one bit flipped in its pixels, which decodes to another picture."""
    content = bytearray(path.read_bytes())
    content[-40] ^= 4
    return _written(path, bytes(content))


def turned_back(upright: np.ndarray, mark: int) -> tuple[Image.Image, np.ndarray, Image.Exif]:
    """A gray picture and a mask stored so that the EXIF mark turns them to `upright` (H, W); and that EXIF."""
    back = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # numbers of Image.Transpose, those that undo the mark
    image = Image.fromarray(upright)
    image = image if mark == 1 else image.transpose(Image.Transpose(back[mark]))
    exif = Image.Exif()
    exif[0x0112] = mark
    return image, np.asarray(image), exif


def _written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
