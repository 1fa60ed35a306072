"""Where files that only save time are kept: decoded pictures, compiled programs, what a library was found to do."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path | None:
    """$JAXVISION_CACHE/NAME, else $XDG_CACHE_HOME/jaxvision/NAME or ~/.cache/jaxvision/NAME; not made yet.

    None where no home folder is known.
    """
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "jaxvision")
    try:
        return Path(os.environ.get("JAXVISION_CACHE") or user, name).expanduser().absolute()
    except RuntimeError:
        return None
