"""What `jaxvision predict` writes and prints of a segmentation run."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision.cli.predict import PredictArguments, print_columns
from jaxvision.data.mask import MASK_EXTENSIONS, read_mask, rule_of
from jaxvision.data.names import clutter, composed
from jaxvision.data.pairs import pair_fault
from jaxvision.data.picture import read_picture
from jaxvision.errors import ConfigError, DataError
from jaxvision.figures.masks import mask_png, overlay, paint, png
from jaxvision.figures.panels import figure_png, legend_of, plot_panels
from jaxvision.outputs import different_names, output_folder, require_absent, write_output
from jaxvision.train.checkpoint import ModelCard, RestoredRun
from jaxvision.train.predict_masks import MaskPrediction, Tiling, masks_of

OUT = "predictions"
SIDE = 3.4


def print_masks(arguments: PredictArguments, restored: RestoredRun) -> None:
    """Writes the files that the arguments ask for and prints where they are and what is in them.

    Masks alone lie in OUT/masks, so that they can be read as a folder of masks; the others beside, under the same name.
    Masks hold the class numbers, or the numbers that the run's data.mask_values has for the classes.
    """
    if arguments.masks is not None and not arguments.side_by_side:
        raise ConfigError(f"--masks: goes with --side-by-side. Received: {arguments.masks!r} without it.")
    tiling = Tiling(arguments.tile, arguments.scale, arguments.overlap)
    card, out = restored.card, output_folder(arguments.out, OUT)
    wanted = {"mask": "masks", "overlay": "overlays", "side_by_side": "side-by-side"}
    kinds = ["mask", *(kind for kind in ("overlay", "side_by_side") if getattr(arguments, kind))]
    files = [{kind: out / wanted[kind] / f"{name}.png" for kind in kinds} for name in different_names(arguments.images)]
    for file in itertools.chain.from_iterable(each.values() for each in files):
        require_absent(file)
    predictions = masks_of(restored, arguments.images, tiling)  # reads them all
    true_masks = None if arguments.masks is None else _true_masks(arguments.images, arguments.masks, card)
    documents = []
    for number, (prediction, paths) in enumerate(zip(predictions, files, strict=True)):
        true_mask = None if true_masks is None else _class_numbers(true_masks[number], prediction.path, card)
        for kind, file in paths.items():
            write_output(file, _content(kind, prediction, true_mask, card))
        documents.append(_document(prediction, paths))
    if arguments.json:
        print(json.dumps(documents, indent=2))
    else:
        _print_table(documents)
        print(f"in {out}: {', '.join(wanted[kind] for kind in kinds)}")


def _true_masks(images: Sequence[str], masks: str, card: ModelCard) -> list[Path]:
    """The mask of each picture, all read once to know that they can be drawn."""
    folder, found = Path(masks), dict[str, Path]()
    if not folder.is_dir():
        raise DataError(f"--masks: there is no such folder. Received: {masks!r}")
    for entry in sorted(folder.iterdir()):
        if entry.suffix.lower() in MASK_EXTENSIONS and not clutter(entry.name):
            found.setdefault(composed(entry.stem), entry)
    chosen = []
    for image in images:
        file = found.get(composed(Path(image).stem))
        if file is None:
            raise DataError(
                f"--masks: no mask for {image}: no {Path(image).stem}.png in {folder}. Received: a folder with"
                f" {len(found)} masks."
            )
        if fault := pair_fault((image, str(file))):
            raise DataError(f"{fault}. Received: masks of another size.")
        _class_numbers(file, image, card)
        chosen.append(file)
    return chosen


def _class_numbers(file: Path, image: str, card: ModelCard) -> np.ndarray:
    try:
        return rule_of(card.run.data, len(card.class_names)).class_numbers(read_mask(file, image))
    except DataError as error:
        raise error if str(file) in str(error) else DataError(f"{file}: {error}") from None


def _content(kind: str, prediction: MaskPrediction, true_mask: np.ndarray | None, card: ModelCard) -> bytes:
    """A file's bytes."""
    if kind == "mask":
        return mask_png(prediction.mask, card.run.data.mask_values)
    picture = read_picture(prediction.path, channels=3)
    if kind == "overlay":
        return png(overlay(picture, prediction.mask))
    shown = {"picture": picture, "true mask": true_mask, "prediction": prediction.mask}
    masks = [mask for mask in (true_mask, prediction.mask) if mask is not None]
    figure = plot_panels(
        [picture, *map(paint, masks)],
        columns=1 + len(masks),
        side=SIDE,
        titles=[title for title, panel in shown.items() if panel is not None],
        heading=Path(prediction.path).name,
        legend=legend_of(masks, card.class_names),
    )
    return figure_png(figure)


def _document(prediction: MaskPrediction, paths: dict[str, Path]) -> dict[str, Any]:
    return {
        "path": prediction.path,
        **{kind: str(file) for kind, file in paths.items()},
        "classes": [{"name": name, "share": share} for name, share in prediction.shares.items()],
    }


def _print_table(documents: Sequence[dict[str, Any]]) -> None:
    """Shares of pixels, the largest first; classes that are nowhere are left out."""
    rows = []
    for document in documents:
        classes = sorted(document["classes"], key=lambda entry: -entry["share"])
        shown = (f"{entry['name']} {entry['share']:.1%}" for entry in classes if entry["share"])
        rows.append((document["path"], document["mask"], "  ".join(shown)))
    print_columns(rows)
