"""Boxes around what pictures show, drawn by hand: what heat maps are measured by."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxvision.bucket import expanded
from jaxvision.errors import DataError, nearest

Box = tuple[float, float, float, float]
"""left, top, right, bottom, in pixels of the picture as it is in its file."""


def read_boxes(path: str | os.PathLike[str], pictures: Sequence[str]) -> list[Box]:
    """The box of each picture, from a JSON file {"boxes": {"FILE NAME": [left, top, right, bottom]}}.

    Raises: DataError: the file is not so, a picture has no box, or a box has no area.
    """
    path = expanded(path)
    try:
        boxes = json.loads(Path(path).read_text(encoding="utf-8"))["boxes"]
        known = {name: tuple(float(edge) for edge in box) for name, box in boxes.items()}
    except OSError as error:
        raise DataError(f"{os.fspath(path)}: cannot be read. Received: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{os.fspath(path)}: must be {{"boxes": {{"FILE NAME": [left, top, right, bottom]}}}}. Received: {error}'
        ) from error
    for name, box in known.items():
        if len(box) != 4 or not (0 <= box[0] < box[2] and 0 <= box[1] < box[3]):
            raise DataError(
                f"{os.fspath(path)}: {name}: a box is left, top, right, bottom in pixels. Received: {list(box)}"
            )
    missing = [picture for picture in pictures if Path(picture).name not in known]
    if missing:
        name = Path(missing[0]).name
        raise DataError(
            f"{os.fspath(path)}: no box for {len(missing)} of the pictures, {name} the first.{nearest(name, known)}"
            f" Received: boxes for {len(known)} pictures."
        )
    return [known[Path(picture).name] for picture in pictures]  # type: ignore[misc]


def require_inside(box: Box, size: tuple[int, int], picture: str) -> None:
    """DataError where a box reaches beyond its picture of (height, width)."""
    if box[2] > size[1] or box[3] > size[0]:
        raise DataError(
            f"{picture}: its box reaches beyond the picture, which is {size[1]} wide and {size[0]} high. Received:"
            f" {list(box)}"
        )


def boxes_table(document: Mapping[str, Any]) -> str:
    """A Markdown table of what was measured by boxes, the best method first, and the boxes' own share last.

    document: {"pictures": [{"box": share of the picture}], "methods": {method: [share of the heat inside]}}.
    """
    means = {method: sum(shares) / len(shares) for method, shares in document["methods"].items()}
    boxes = [picture["box"] for picture in document["pictures"]]
    rows = [f"| `{method}` | {mean:.1%} |" for method, mean in sorted(means.items(), key=lambda item: -item[1])]
    rows.append(f"| the share of the picture that the box is: chance | {sum(boxes) / len(boxes):.1%} |")
    return "\n".join([f"| mean of {len(boxes)} pictures | heat inside the box |", "|---|---|", *rows]) + "\n"
