"""Pictures that cannot be used, found by decoding all of them before the set of examples is fixed.

So the order of an epoch stays a pure function of seed and number of examples, and the fingerprint is that of what is
used. A picture that breaks later, during training, is an error all the same.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from jaxvision import config
from jaxvision.data.reading import look_at_each
from jaxvision.errors import DataError

MAX_LINES = 20
"""Files that an error or a warning lists before it only counts them."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class LeftOut:
    """A picture of a part that is not used, and why."""

    part: str
    file: str
    reason: str


def without_bad(
    parts: Mapping[str, Sequence[Item]],
    look: Callable[[Item], str | None],
    name: Callable[[Item], str],
    data: config.Data,
    where: str,
) -> tuple[dict[str, list[Item]], tuple[LeftOut, ...]]:
    """The items of each part that are good, and the others, which a warning lists.

    look: what is wrong with an item, or None. name: its picture file.
    Raises: DataError: more than `data.max_bad` of all, or all of a part.
    """
    items = [(part, item) for part, found in parts.items() for item in found]
    console = Console(stderr=True)
    looks = look_at_each(lambda pair: look(pair[1]), items)
    shown = track(looks, "checking", len(items), console=console, transient=True, disable=not console.is_terminal)
    good: dict[str, list[Item]] = {part: [] for part in parts}
    bad = []
    for (part, item), fault in shown:
        if fault is None:
            good[part].append(item)
        else:
            bad.append(LeftOut(part, name(item), fault))
    if len(bad) > data.max_bad * len(items):
        raise DataError(
            f"{where}: {len(bad)} of {len(items)} pictures cannot be used, more than data.max_bad={data.max_bad:g} of "
            f"them. Replace or remove them, or allow more. Received:{listing(bad)}"
        )
    for part, found in good.items():
        if parts[part] and not found:
            raise DataError(f"{where}: no picture of the {part} part can be used. Received:{listing(bad)}")
    warn_left_out(bad, where)
    return good, tuple(bad)


def warn_left_out(bad: Sequence[LeftOut], where: str) -> None:
    """Name the pictures that are not used."""
    if bad:
        warnings.warn(f"{where}: {len(bad)} pictures are left out:{listing(bad)}", stacklevel=4)


def listing(bad: Sequence[LeftOut]) -> str:
    """A line for each, each after a line break, up to MAX_LINES."""
    lines = [f"{one.file}: {one.reason}" for one in bad[:MAX_LINES]]
    lines += [f"and {len(bad) - MAX_LINES} more"] if len(bad) > MAX_LINES else []
    return "".join(f"\n  {line}" for line in lines)
