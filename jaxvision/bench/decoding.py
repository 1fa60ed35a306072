"""How fast pictures are decoded: our streamed feed beside bare tf.data, and our second pass from the decoded cache."""

import contextlib
import os
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxvision.bench.turns import PeerFailedError, PeerProcess, interleaved
from jaxvision.errors import DataError

READERS = {
    "jaxvision": "jaxvision",
    "tf.data": "bare tf.data",
    "cached": "jaxvision, from its cache",
}

Rates = dict[str, tuple[float, ...]]
"""{reader: pictures a second of each turn}."""


def run_decoding(
    folder: str | os.PathLike[str],
    *,
    image_size: tuple[int, int],
    batch_size: int,
    repeats: int,
    seconds: float,
    threads: int,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[int, Rates]:
    """Pictures in the training part of a folder, and the rates of the readers, which take turns of `seconds`.

    Each turn begins at the first picture, for `cached` after a pass that filled a new cache.

    Raises:
      DataError: the folder cannot be read.
    """
    with contextlib.ExitStack() as stack:
        cache = stack.enter_context(tempfile.TemporaryDirectory())
        task: dict[str, Any] = {"folder": str(Path(folder).absolute()), "image_size": image_size}
        task |= {"batch_size": batch_size, "cache": cache}
        processes, pictures = {}, 0
        rates: Rates = dict.fromkeys(READERS, ())
        try:
            for reader in READERS:
                progress(f"{reader} starts")
                process = PeerProcess("jaxvision.bench.peers.decode", (reader,), threads=threads)
                processes[reader] = stack.enter_context(process)
                pictures = processes[reader].ask(task)["pictures"]
            for repeat, reader in interleaved(list(READERS), repeats):
                progress(f"{reader}, turn {repeat} of {repeats}")
                answer = processes[reader].ask({"seconds": seconds})
                rates[reader] = (*rates[reader], answer["pictures"] / answer["seconds"])
        except PeerFailedError as error:
            raise DataError(f"bench input: {folder}: {str(error).removeprefix('DataError: ')}") from error
    return pictures, rates


def as_dict(rates: Rates) -> dict[str, Any]:
    """JSON values: of each reader min, median, max, turns, and the ratio of our median to its."""
    ours = statistics.median(rates["jaxvision"])
    return {
        reader: {
            "pictures_per_second": {"min": min(turns), "median": statistics.median(turns), "max": max(turns)},
            "turns": turns,
            "ratio": ours / statistics.median(turns),
        }
        for reader, turns in rates.items()
    }
