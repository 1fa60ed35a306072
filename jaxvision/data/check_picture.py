"""A full look at one picture file: whether it can be trusted, what is unusual about it, and what it holds."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from jaxvision.data.orientation import HEAD, orientation, turned
from jaxvision.data.picture import pixels_of
from jaxvision.data.picture_file import EXTENSIONS, FaultError, decode_image, file_content, open_image


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
        mark = orientation(content[:HEAD])
        notes = _notes(image, content, mark)
        decode_image(image, content)
        seen = turned(pixels_of(image, None), mark)
    except FaultError as error:
        return PictureCheck(str(error), size=size, mark=mark, sha256=sha256)
    pixels = hashlib.sha256(f"{seen.shape}".encode())
    pixels.update(seen.data)
    ending = Path(path).suffix.lower()
    promised, held = EXTENSIONS.get(ending), "JPEG" if image.format == "MPO" else image.format
    fault = f"mislabelled: named {ending} but holds a {held} picture" if promised not in (None, held) else None
    return PictureCheck(fault, notes, size, mark, sha256, pixels.hexdigest())


def _notes(image: Image.Image, content: bytes, mark: int) -> tuple[str, ...]:
    unusual = {
        "animated: only the first picture is read": image.format != "MPO" and getattr(image, "is_animated", False),
        "16 bits a channel: read as 8": image.mode.startswith("I;16") or (image.format == "PNG" and content[24] == 16),
        "CMYK colours: converted to RGB": image.mode == "CMYK",
        "transparent: the transparency is dropped": image.has_transparency_data,
        "EXIF orientation: turned as it says": mark != 1,
    }
    return tuple(note for note, holds in unusual.items() if holds)
