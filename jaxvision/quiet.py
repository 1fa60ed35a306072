"""Libraries that log what their callers, us, do on purpose."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(name: str, level: int) -> Iterator[None]:
    """Only records of this level and above come from a logger meanwhile."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
