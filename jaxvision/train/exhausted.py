"""A device that has not memory enough."""

import contextlib
import re
from collections.abc import Iterator

import jax

from jaxvision.config import Run
from jaxvision.errors import OutOfMemoryError


@contextlib.contextmanager
def steps_in_memory(run: Run, members: int = 1) -> Iterator[None]:
    """Around training and evaluation, of so many runs together. OutOfMemoryError where the device has too little: says
    what would need less."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not _is_exhausted(error):
            raise
        batch, pieces = run.data.batch_size, run.accumulate
        more = next((n for n in range(2 * pieces, batch + 1) if batch % n == 0), None)
        help = "Lower data.batch_size or data.image_size"
        if members > 1:
            help = f"Train fewer of these {members} runs together"
        elif more is not None:
            help = f"Set accumulate to {more}: the same step on the batch in {more} pieces of {batch // more} (but for"
            help += " BatchNorm, which takes each piece alone); or lower data.batch_size"
        if run.rematerialize == "none":
            help += ". rematerialize=blocks keeps each block's input alone, and is slower"
        raise OutOfMemoryError(
            f"the device ran out of memory{_asked(error)}. {help}. precision=bfloat16 halves what layers keep;"
            f" evaluation has evaluation.batch_size. Received: data.batch_size={batch}, accumulate={pieces},"
            f" evaluation.batch_size={run.evaluation.batch_size}, precision={run.precision},"
            f" rematerialize={run.rematerialize}"
        ) from error


@contextlib.contextmanager
def pictures_in_memory(run: Run) -> Iterator[None]:
    """Around the moving of whole parts to the device. OutOfMemoryError where they do not fit."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not _is_exhausted(error):
            raise
        raise OutOfMemoryError(
            f"the decoded pictures do not fit on the device{_asked(error)}. Set data.residence to stream, or"
            f" data.resident_mb to less. Received: data.residence={run.data.residence},"
            f" data.resident_mb={run.data.resident_mb}"
        ) from error


def _is_exhausted(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error)


def _asked(error: Exception) -> str:
    found = re.search(r"allocat\w* (\d+) bytes", str(error))
    return f" (another {int(found[1]) / 2**20:,.0f} MB were asked for)" if found else ""
