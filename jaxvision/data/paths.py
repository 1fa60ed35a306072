"""The path of a source that reads files."""

from pathlib import Path

from jaxvision import config
from jaxvision.errors import ConfigError, DataError


def existing_path(data: config.Data) -> Path:
    """`data.path` with ~ expanded; it must be there."""
    if data.path is None:
        raise ConfigError(f"data.path is needed with data.source={data.source}. Received: None.")
    path = Path(data.path).expanduser()
    if not path.exists():
        raise DataError(f"data.path does not exist. Received: {path} (seen from {Path.cwd()}).")
    return path
