"""Files written: whole or not at all, and by commands never over what is there."""

import uuid
from pathlib import Path

from etils import epath

from jaxvision.errors import ConfigError


def require_absent(path: Path) -> None:
    """ConfigError where there is something at `path`: nothing is written over."""
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path}: already there; nothing is written over. Give another file to write, or remove it.")


def write_whole(path: epath.PathLike, content: bytes | memoryview) -> None:
    """What is at `path` afterwards is all of `content`; or what was there before, and an OSError."""
    target = epath.Path(path)
    partial = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        partial.write_bytes(content)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
