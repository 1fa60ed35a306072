"""A full look at one picture file: whether it can be trusted, what is unusual about it, and what it holds."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from jaxvision.data.levels import Levels
from jaxvision.data.orientation import turned
from jaxvision.data.picture import pixels_of
from jaxvision.data.picture_file import (
    EXTENSIONS,
    FaultError,
    decode_image,
    file_content,
    image_orientation,
    is_deep,
    open_image,
)

DEEP = "16 bits a channel: read as 8"
"""The note of such an image."""


@dataclass(frozen=True)
class PictureCheck:
    """What a full decode of one file showed; `fault` is None where the file can be trusted."""

    fault: str | None
    """Why not: one of `picture_file.KINDS`, a colon, and more."""
    notes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    """Height and width in pixels as stored, where the header could be read."""
    mark: int = 1
    """How it is to be turned; see `orientation`."""
    sha256: str | None = None
    """Of the file's bytes, where it could be read."""
    pixels: str | None = None
    """sha256 of shape and pixels as they are meant to be seen, in grey or RGB; None where they cannot be decoded."""
    levels: Levels = Levels()
    """What of 0..255 the pixels use."""


def picture_fault(path: str | os.PathLike[str]) -> str | None:
    """Why the file cannot be trusted as a picture, after decoding all of it; None where it can."""
    return check_picture(path).fault


def check_picture(path: str | os.PathLike[str]) -> PictureCheck:
    """Decode the whole file and say what is wrong with it (`fault`) and what is unusual about it (`notes`)."""
    size = sha256 = None
    mark = 1
    try:
        content = file_content(path)
        sha256 = hashlib.sha256(content).hexdigest()
        image = open_image(content)
        size = (image.height, image.width)
        notes = _notes(image, content)
        decode_image(image, content)
        mark = image_orientation(image, content)
        seen = turned(pixels_of(image, None), mark)
    except FaultError as error:
        return PictureCheck(str(error), size=size, mark=mark, sha256=sha256)
    notes += ("EXIF orientation: turned as it says",) if mark != 1 else ()
    pixels = hashlib.sha256(f"{seen.shape}".encode())
    pixels.update(seen.data)
    ending = Path(path).suffix.lower()
    promised, held = EXTENSIONS.get(ending), "JPEG" if image.format == "MPO" else image.format
    fault = f"mislabelled: named {ending} but holds a {held} picture" if promised not in (None, held) else None
    return PictureCheck(fault, notes, size, mark, sha256, pixels.hexdigest(), Levels.of(seen))


def _notes(image: Image.Image, content: bytes) -> tuple[str, ...]:
    unusual = {
        "animated: only the first picture is read": _is_animated(image),
        DEEP: is_deep(image, content),
        "CMYK colours: converted to RGB": image.mode == "CMYK",
        "transparent: the transparency is dropped": image.has_transparency_data,
    }
    return tuple(note for note, holds in unusual.items() if holds)


def _is_animated(image: Image.Image) -> bool:
    """An MPO's other images are the same one, in other sizes or from beside."""
    try:
        return image.format != "MPO" and getattr(image, "is_animated", False)
    except Exception:  # of every type, where what is beside the first image is damaged
        return False
