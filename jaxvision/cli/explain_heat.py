"""What `jaxvision explain` writes and prints of heat maps."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxvision.cli.explain import OUT, ExplainArguments
from jaxvision.cli.predict import print_columns
from jaxvision.data.picture import central_window, read_picture, resize_bilinear
from jaxvision.errors import ConfigError, nearest
from jaxvision.explain.boxes import Box, read_boxes, require_inside
from jaxvision.explain.heat import covered, share_inside
from jaxvision.explain.methods import Method, confidence, heat_maps
from jaxvision.figures.channels import tile_pictures
from jaxvision.figures.heat import heat_overlay
from jaxvision.figures.masks import png
from jaxvision.figures.panels import figure_png, plot_panels
from jaxvision.outputs import different_names, output_folder, require_absent, require_writable, write_output
from jaxvision.train.ready import ReadyModel

SIDE = 3.4
LARGEST = 640
"""Pixels of a drawn picture's longer side, at most."""


def draw_heat(arguments: ExplainArguments, ready: ReadyModel) -> None:
    """Writes OUT/NAME-METHOD.png of each picture, the picture beside the heat over it, and prints the explained class.

    Of several pictures also OUT/METHOD.png, all of them as the network sees them.
    """
    out = output_folder(arguments.out, OUT)
    sheet = out / f"{arguments.what}.png"
    files = [out / f"{name}-{arguments.what}.png" for name in different_names(arguments.images)]
    for file in (*files, sheet):
        require_absent(file)
    require_writable(out)
    pictures = [read_picture(path, channels=ready.image_shape[2]) for path in arguments.images]
    boxes = None if arguments.boxes is None else read_boxes(arguments.boxes, arguments.images)
    for path, picture, box in zip(arguments.images, pictures, boxes or (), strict=False):
        require_inside(box, picture.shape[:2], path)
    resized = [resize_bilinear(picture, ready.image_shape[:2], ready.resize) for picture in pictures]
    images = np.stack([np.rint(picture).astype(np.uint8) for picture in resized])
    wanted = None if arguments.class_ is None else class_number(arguments.class_, ready)
    method: Method = arguments.what  # type: ignore[assignment]
    region = None if arguments.region is None else _regions(arguments.region, pictures, arguments.images, ready)
    maps = heat_maps(ready, images, wanted, method=method, layer=next(iter(arguments.layer), None), region=region)
    shares, values = confidence(ready, images, maps.classes), maps.values
    documents: list[dict[str, Any]] = []
    for number, (path, file) in enumerate(zip(arguments.images, files, strict=True)):
        window = _window(pictures[number], ready)
        picture = _shown(pictures[number], window)
        heat, name = values[number], class_name(int(maps.classes[number]), ready)
        document = {"path": path, "class": name, "probability": float(shares[number]), "figure": str(file)}
        if boxes is not None:
            document["inside"], document["box"] = share_inside(heat, _within(boxes[number], window))
        documents.append(document)
        if note := _note(ready.task == "segmentation" and region is None, shares[number], heat):
            document["note"] = note
        write_output(file, _figure(picture, heat, f"{method}: {name} {shares[number]:.3f}", Path(path).name, note))
    if len(files) > 1:
        write_output(sheet, png(_sheet(images, values)))
    if arguments.json:
        print(json.dumps(documents, indent=2))
        return
    _print_table(documents, "of the pixels" if ready.task == "segmentation" else "")
    print(f"{arguments.what} of {maps.layer or 'the pixels'}, in {out}")


def _regions(box: Box, pictures: Sequence[np.ndarray], paths: Sequence[str], ready: ReadyModel) -> np.ndarray:
    """float32 (B, H, W): the share of each of the network's pixels that is inside a box of the file."""
    if ready.task != "segmentation":
        raise ConfigError(f"--region: is for a run that segments. Received: a run of task={ready.task!r}")
    regions = []
    for picture, path in zip(pictures, paths, strict=True):
        require_inside(box, picture.shape[:2], path)
        left, top, right, bottom = _within(box, _window(picture, ready))
        if left >= right or top >= bottom:
            raise ConfigError(f"--region: left top right bottom, of what the network sees of {path}. Received: {box}")
        height, width = ready.image_shape[:2]
        regions.append(np.outer(covered(top, bottom, height), covered(left, right, width)))
    return np.stack(regions).astype(np.float32)


def _note(of_predicted: bool, share: float, heat: np.ndarray) -> str:
    """What a reader of a map must know of it."""
    if of_predicted and share == 0:
        return "no pixel is predicted so: over all pixels"
    return "" if heat.any() else "nothing speaks for it"


def _window(picture: np.ndarray, ready: ReadyModel) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part of a picture that the network is given."""
    top, left, (height, width) = 0, 0, picture.shape[:2]
    if ready.resize == "crop":
        top, left, height, width = central_window(height, width, ready.image_shape[:2])
    return left, top, left + width, top + height


def _shown(picture: np.ndarray, window: tuple[int, int, int, int]) -> np.ndarray:
    """The part of a picture in the window, uint8 (H, W, C), with more detail than the network is given."""
    left, top, right, bottom = window
    picture = picture[top:bottom, left:right]
    height, width = picture.shape[:2]
    scale = min(1.0, LARGEST / max(height, width))
    size = (max(1, round(scale * height)), max(1, round(scale * width)))
    image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
    shown = np.asarray(image.resize(size[::-1], Image.Resampling.LANCZOS))
    return shown.reshape(*size, -1)


def _within(box: Box, window: Box) -> Box:
    """A box as shares of the window's width and height."""
    (left, top), (width, height) = window[:2], (window[2] - window[0], window[3] - window[1])
    edges = zip(box, (left, top, left, top), (width, height, width, height), strict=True)
    shares = [min(max((edge - start) / length, 0.0), 1.0) for edge, start, length in edges]
    return shares[0], shares[1], shares[2], shares[3]


def _sheet(images: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Each picture beside the heat over it, four such pairs in a row."""
    pictures = np.broadcast_to(images, (*images.shape[:3], 3))
    pairs = [
        np.concatenate([picture, heat_overlay(picture, values)], axis=1)
        for picture, values in zip(pictures, heat, strict=True)
    ]
    return tile_pictures(pairs, columns=4, gap=6)


def _figure(picture: np.ndarray, heat: np.ndarray, said: str, heading: str, note: str) -> bytes:
    resized = np.clip(resize_bilinear(heat[..., None], picture.shape[:2])[..., 0], 0, 1)
    shown = np.broadcast_to(picture, (*picture.shape[:2], 3))
    figure = plot_panels(
        [shown, heat_overlay(picture, resized)], columns=2, side=SIDE, titles=[note or "picture", said], heading=heading
    )
    return figure_png(figure)


def _print_table(documents: Sequence[dict[str, Any]], of: str) -> None:
    rows = []
    for document in documents:
        row = [document["path"], f"{document['class']} {document['probability']:.3f} {of}".rstrip()]
        if "inside" in document:
            row.append(f"{document['inside']:.1%} inside a box of {document['box']:.1%}")
        rows.append((*row, document.get("note", ""), document["figure"]))
    print_columns(rows)
    if "inside" in documents[0]:
        inside, box = (np.mean([document[key] for document in documents]) for key in ("inside", "box"))
        print(f"mean over {len(documents)} pictures: {inside:.1%} of the heat inside boxes that cover {box:.1%}")


def class_number(wanted: str, ready: ReadyModel) -> int:
    """Of a class by its name or its number. Raises ConfigError: no such class."""
    if wanted in ready.class_names:
        number = ready.class_names.index(wanted)
    elif wanted.isdecimal() and int(wanted) < _num_classes(ready):
        number = int(wanted)
    else:
        there = ", ".join(ready.class_names[:20]) if ready.class_names else f"0 to {_num_classes(ready) - 1}"
        raise ConfigError(
            f"--class: no such class.{nearest(wanted, ready.class_names)} There are: {there}. Received: {wanted!r}"
        )
    return number + _shift(ready)


def class_name(number: int, ready: ReadyModel) -> str:
    """Of a class by what `class_scores` calls it."""
    number -= _shift(ready)
    if number < 0:
        return f"not {ready.class_names[0]}"
    return ready.class_names[number] if ready.class_names else f"class {number}"


def _num_classes(ready: ReadyModel) -> int:
    return len(ready.class_names) or max(ready.num_outputs or 0, 2)


def _shift(ready: ReadyModel) -> int:
    # One logit speaks for class 1; where the only class of a multi-label run is meant, that is its class 0.
    return 1 if ready.task == "multilabel" and ready.num_outputs == 1 else 0
