"""The path of a source that reads files."""

from pathlib import Path

from jaxvision import config
from jaxvision.bucket import in_bucket
from jaxvision.data.copied import copied
from jaxvision.errors import ConfigError, DataError


def existing_path(data: config.Data) -> Path:
    """`data.path` with ~ expanded, or a copy of what is in a bucket; it must be there."""
    if data.path is None:
        raise ConfigError(f"data.path is needed with data.source={data.source}. Received: None.")
    if in_bucket(data.path):
        return copied(data.path)
    path = Path(data.path).expanduser()
    if not path.exists():
        raise DataError(f"data.path does not exist. Received: {path} (seen from {Path.cwd()}).")
    return path
