"""`jaxvision predict`: classes or masks of pictures, by a finished run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from jaxvision.errors import ConfigError

if TYPE_CHECKING:
    from jaxvision.train.checkpoint import RestoredRun

SURE = 0.5
OF_MASKS = ("out", "overlay", "side_by_side", "masks", "tile", "scale", "overlap")


@dataclass(frozen=True)
class PredictArguments:
    """Classes of pictures with their probabilities; of a segmentation run, masks as PNG files and the share of each
    class. By the run's best checkpoint."""

    run_dir: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="The run folder, runs/NAME.")]
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")]
    """Picture files."""
    json: bool = False
    """Print JSON."""
    top: int | None = None
    """Classes of whole pictures: how many to show. None: 3; all of a multi-label run, with * where over 0.5."""
    out: str | None = None
    """Masks: folder to write to; nothing in it is written over. None: predictions, or predictions-2, ..."""
    overlay: bool = False
    """Masks: also draw each over its picture."""
    side_by_side: bool = False
    """Masks: also draw picture and mask side by side, with a legend."""
    masks: str | None = None
    """Folder of true masks, one for each picture by its name, to draw side by side too."""
    tile: bool = False
    """Masks of large pictures: leave them at their own scale, and predict by tiles with overlap."""
    scale: float = 1.0
    """With --tile: resize pictures by this factor first, where things are larger or smaller than in training."""
    overlap: float = 0.25
    """With --tile: least share of a tile that it has in common with the next."""


def predict_command(argv: list[str]) -> None:
    """jaxvision predict RUN IMAGE... [--top K] [--out DIR] [--overlay] [--side-by-side] [--tile] [--json]"""
    arguments = tyro.cli(PredictArguments, args=argv, prog="jaxvision predict")
    if not arguments.images:
        raise ConfigError("predict: name at least one picture: jaxvision predict RUN IMAGE...")
    if arguments.top is not None and arguments.top < 1:
        raise ConfigError(f"--top: must be at least 1. Received: {arguments.top}")
    from jaxvision.train.checkpoint import restore_best

    restored = restore_best(arguments.run_dir)
    task = restored.card.run.task
    _require_useful(arguments, ("top",) if task == "segmentation" else OF_MASKS, task)
    if task == "segmentation":
        from jaxvision.cli.predict_masks import print_masks

        print_masks(arguments, restored)
    else:
        _print_classes(arguments, restored)


def _require_useful(arguments: PredictArguments, useless: tuple[str, ...], task: str) -> None:
    defaults = {field.name: field.default for field in fields(PredictArguments)}
    for name in useless:
        if getattr(arguments, name) != defaults[name]:
            raise ConfigError(
                f"--{name.replace('_', '-')}: means nothing for a run of task={task!r}. Received: run"
                f" {arguments.run_dir}. Leave it out."
            )


def _print_classes(arguments: PredictArguments, restored: "RestoredRun") -> None:
    from jaxvision.train.predict import classes_of

    multilabel = restored.card.run.task == "multilabel"
    top = arguments.top or (len(restored.card.class_names) if multilabel else 3)
    predictions = classes_of(restored, arguments.images)
    if arguments.json:
        documents = []
        for prediction in predictions:
            classes: list[dict[str, Any]] = [
                {"name": name, "probability": probability} for name, probability in prediction.classes[:top]
            ]
            for entry in classes if multilabel else ():
                entry["predicted"] = entry["probability"] > SURE
            documents.append({"path": prediction.path, "classes": classes})
        print(json.dumps(documents, indent=2))
        return
    rows = []
    for prediction in predictions:
        shown = (
            f"{name} {probability:.3f}{'*' if multilabel and probability > SURE else ''}"
            for name, probability in prediction.classes[:top]
        )
        rows.append((prediction.path, "  ".join(shown)))
    print_columns(rows)


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Each row a line, however long: a path that a terminal's width has cut is of no use."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
