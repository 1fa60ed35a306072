"""The few examples of a part that are shown: choosing them, their pictures, and heat maps over these."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jaxvision.data import FilePart, Part, open_feed, take
from jaxvision.data.parts import describe
from jaxvision.errors import ConfigError
from jaxvision.explain.gradcam import gradcam
from jaxvision.explain.program import spatial_layer
from jaxvision.figures.heat import heat_overlay
from jaxvision.models.layers import layer_name
from jaxvision.report.page import Markup, element, image, joined
from jaxvision.train.evaluate import RunPart

AT_ONCE = 32
NONE = "None: no picture of this kind among them."


@dataclass(frozen=True, eq=False)
class Example:
    """name: of its file, or its number. inputs: (H, W, C) as the model gets them. target: as in `data.parts`."""

    name: str
    inputs: np.ndarray
    target: np.ndarray

    @property
    def picture(self) -> np.ndarray:
        """uint8 (H, W, C)."""
        return np.clip(np.rint(self.inputs), 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class HeatLayer:
    """name: of the layer that heat maps are made of; None: there is none, `why`."""

    name: str | None
    why: str = ""

    @property
    def words(self) -> str:
        """What readers of the maps must know."""
        if self.name is None:
            return f"No heat maps: {self.why}"
        return (
            f"Heat maps are Grad-CAM's of layer {self.name}: the brighter a place, the more it speaks for the class."
            " Each map has its own scale, from nothing to its hottest place; on a dark grey picture nothing does."
        )


def first_rows(values: np.ndarray, among: np.ndarray, count: int) -> list[int]:
    """The rows of the `count` lowest values (N,) where `among`, bool (N,); the lowest first, and of equals the first in
    the part. NaN is nowhere."""
    rows = np.flatnonzero(among & ~np.isnan(values))
    return rows[np.argsort(values[rows], kind="stable")[:count]].tolist()


def read_examples(opened: RunPart, rows: Iterable[int]) -> dict[int, Example]:
    """The examples at these rows of the part; no others are decoded."""
    chosen = np.unique(np.fromiter(rows, np.int64))
    if not len(chosen):
        return {}
    part = take(opened.part, chosen)
    feed = open_feed(part, batch_size=min(AT_ONCE, len(chosen)), seed=None, residence="stream", resident_mb=1)
    batches = [tuple(np.asarray(array)[np.asarray(batch.valid)] for array in batch[:2]) for batch in feed.batches(0)]
    inputs, target = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    names = _names(opened.part, chosen.tolist())
    return {row: Example(*each) for row, *each in zip(chosen.tolist(), names, inputs, target, strict=True)}


def heat_layer(opened: RunPart, layer: str | None) -> HeatLayer:
    """The layer of this name, or the one that suits best. ConfigError: no layer of this name."""
    restored = opened.restored
    try:
        return HeatLayer(layer_name(spatial_layer(restored.model, restored.card.image_shape, layer)[0]))
    except ConfigError as error:
        if layer is not None:
            raise
        return HeatLayer(None, str(error).removeprefix("layer: "))


def heat_figures(
    opened: RunPart, layer: HeatLayer, examples: dict[int, Example], wanted: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], Markup]:
    """Figures {(row, class): picture under the class's heat}; none where no layer gives any."""
    pairs = sorted(set(wanted))
    if layer.name is None or not pairs:
        return {}
    names = opened.restored.card.class_names
    inputs = np.stack([examples[row].inputs for row, _ in pairs])
    classes = np.array([class_ for _, class_ in pairs])
    # One logit alone speaks for class 1, also where it is the only class of a multi-label run.
    maps = gradcam(opened.restored.model, inputs, classes + (len(names) == 1), layer=layer.name).values
    figures = {}
    for (row, class_), values in zip(pairs, maps, strict=True):
        drawn, name = heat_overlay(examples[row].picture, values), names[class_]
        figures[row, class_] = image(
            drawn, f"Heat map over {examples[row].name}: what speaks for {name}", f"heat: {name}"
        )
    return figures


def card(name: str, figures: list[Markup], *words: Markup, across: int = 3) -> Markup:
    """An example: its pictures side by side, its name, what is said of it."""
    pictures = element("div", *figures, class_="pictures", style=f"--across:{min(across, len(figures))}")
    return joined([pictures, element("h3", name), *words])


def _names(part: Part, rows: Sequence[int]) -> list[str]:
    """Of files as they are called below the folder that all of the part's are in."""
    names = [describe(part, row) for row in rows]
    if not isinstance(part, FilePart):
        return names
    folder = os.path.commonpath([os.path.dirname(file) for file in part.paths])
    return [os.path.relpath(name, folder) for name in names]
