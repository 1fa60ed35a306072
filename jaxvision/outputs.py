"""What commands write: never over what is there."""

from pathlib import Path

from jaxvision.errors import ConfigError


def require_absent(path: Path) -> None:
    """ConfigError where there is something at `path`: nothing is written over."""
    if path.exists() or path.is_symlink():
        raise ConfigError(f"{path}: already there; nothing is written over. Give another file to write, or remove it.")
