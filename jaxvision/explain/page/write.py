"""The page of a run: what its best checkpoint gets wrong and right, with pictures, in one HTML file."""

import os
from pathlib import Path
from typing import Any

from jaxvision.errors import ConfigError
from jaxvision.explain.page.classes import class_sections
from jaxvision.explain.page.examples import heat_layer
from jaxvision.explain.page.judged import Judged, JudgedClasses, JudgedLabels, JudgedMasks, judge
from jaxvision.explain.page.labels import label_sections
from jaxvision.explain.page.masks import mask_sections
from jaxvision.outputs import require_absent, write_whole
from jaxvision.report.page import Child, document, element, facts, share
from jaxvision.train.evaluate import RunPart, open_run_part

PART_WORDS = {"train": "the training part", "validation": "the validation part", "test": "the test part"}
METRIC_WORDS = {
    "classification": {"accuracy": "accuracy", "loss": "loss"},
    "multilabel": {"average_precision": "mean average precision", "f1": "mean F1", "loss": "loss"},
    "segmentation": {"mean_iou": "mean IoU", "accuracy": "pixels right", "dice": "mean Dice", "loss": "loss"},
}
IN_PERCENT = ("accuracy",)


def write_page(
    run_dir: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    part: str | None = None,
    data: Any = None,
    count: int = 12,
    layer: str | None = None,
) -> Path:
    """Writes an HTML page about a finished run: its mistakes, heat maps beside the pictures, its confusion matrix.

    One file that fetches nothing. It is written whole or not at all.

    Args:
      out: the file to write.
      part, data: of which examples; see `open_run_part`.
      count: of pictures shown of each kind, at most.
      layer: that heat maps are made of; None: the deepest one that gives places.

    Returns: the file's path.

    Raises:
      ConfigError: the file is there already or cannot be written; no such part or layer. Others as `open_run_part`.
    """
    path = Path(out).expanduser()
    require_absent(path)
    if not path.parent.is_dir():
        raise ConfigError(
            f"{path}: cannot be written, there is no folder {path.parent}. Make it, or give another file."
        )
    if count < 1:
        raise ConfigError(f"count: must be at least 1. Received: {count}")
    opened = open_run_part(run_dir, part=part, data=data)
    chosen = heat_layer(opened, layer)
    judged = judge(opened)
    match judged:
        case JudgedClasses():
            sections = class_sections(opened, judged, chosen, count)
        case JudgedLabels():
            sections = label_sections(opened, judged, chosen, count)
        case JudgedMasks():
            sections = mask_sections(opened, judged, chosen, count)
    run = opened.restored.card.run
    title = f"{run.name} on {PART_WORDS.get(opened.name, 'examples handed over')}"
    numbers = facts(_headline(judged, run.task), class_="tiles")
    about = facts(_about(opened, judged, os.path.basename(os.path.abspath(os.fspath(run_dir)))))
    page = document(title, sections, lead=[numbers, about, element("p", chosen.words, class_="soft")])
    require_absent(path)  # still
    try:
        # Names of files that are not UTF-8 hold what no UTF-8 can say; escaping has replaced it.
        write_whole(path, page.encode())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written. Received: {error.strerror or error}") from error
    return path


def _headline(judged: Judged, task: str) -> dict[str, Child]:
    numbers: dict[str, Child] = {}
    for metric, words in METRIC_WORDS[task].items():
        value = judged.metrics[metric]
        numbers[words] = share(value) if metric in IN_PERCENT else f"{value:.4f}"
    return numbers


def _about(opened: RunPart, judged: Judged, folder: str) -> dict[str, Child]:
    restored = opened.restored
    card = restored.card
    height, width, channels = card.image_shape
    return {
        "run folder": folder,
        "model": element("code", card.run.model.name),
        "task": card.run.task,
        "checkpoint": f"step {restored.step:,}",
        "part": opened.name,
        "examples": f"{len(judged.loss):,}",
        "classes": f"{len(card.class_names):,}",
        "pictures": f"{height} x {width}, {'grey' if channels == 1 else 'colour'}",
    }
