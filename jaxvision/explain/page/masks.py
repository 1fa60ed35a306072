"""Sections of a run's page where each pixel has a class."""

from typing import NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxvision.explain.page.examples import NONE, Example, HeatLayer, card, first_rows, heat_figures, read_examples
from jaxvision.explain.page.judged import JudgedMasks
from jaxvision.explain.page.matrix import MATRIX_INTRO, matrix_parts, row_shares
from jaxvision.explain.program import in_batches
from jaxvision.figures.masks import overlay
from jaxvision.figures.panels import legend_of
from jaxvision.nn.mode import call_model
from jaxvision.report.page import Markup, Section, cards, element, facts, image, share, table
from jaxvision.train.evaluate import RunPart
from jaxvision.types import IGNORE

AT_ONCE = 8


class Confused(NamedTuple):
    """The pixels of class `true` that were taken for class `said`: the most of any two classes in a picture."""

    true: int
    said: int
    pixels: int


def mask_sections(opened: RunPart, judged: JudgedMasks, layer: HeatLayer, count: int) -> list[Section]:
    """The pictures of the lowest mean IoU, of the highest as a control, IoU of the classes, the confusion matrix."""
    everything = np.full(len(judged.loss), True)
    worst, best = (first_rows(sign * judged.mean_iou, everything, count) for sign in (1, -1))
    examples = read_examples(opened, [*worst, *best])
    masks = predicted_masks(opened, examples)
    names = opened.restored.card.class_names
    confused = {row: most_confused(examples[row].target, masks[row], len(names)) for row in examples}
    wanted = ((row, most.said) for row, most in confused.items() if most)
    heat = heat_figures(opened, layer, examples, wanted)

    def shown(rows: list[int]) -> list[Markup]:
        if not rows:
            return [element("p", NONE)]
        colours = legend_of([mask for row in rows for mask in (examples[row].target, masks[row])], names)
        items = []
        for row in rows:
            scores = {"mean IoU": f"{judged.mean_iou[row]:.3f}", "pixels right": share(judged.accuracy[row])}
            most = confused[row]
            items.append(
                _card(examples[row], masks[row], scores, most, names, heat.get((row, most.said)) if most else None)
            )
        return [_legend(colours), cards(items)]

    about = (
        "of a picture, over the classes in its true mask. The heat map is of the class that most pixels of another were"
        " taken for, over all pixels predicted as it."
    )
    return [
        Section("Worst pictures", f"The lowest mean IoU {about}", shown(worst)),
        Section("Best pictures", f"As a control: the highest mean IoU {about}", shown(best)),
        Section("Classes", "IoU over the pixels of all pictures.", [_class_table(judged, names)]),
        Section(
            "Confusion matrix",
            MATRIX_INTRO,
            matrix_parts(judged.confusion, names, "pixels"),
        ),
    ]


def predicted_masks(opened: RunPart, examples: dict[int, Example]) -> dict[int, np.ndarray]:
    """{row: uint8 (H, W), each pixel's likeliest class}."""
    if not examples:
        return {}
    graph, state = nnx.split(opened.restored.model)

    @jax.jit
    def likeliest(state: nnx.State, images: jax.Array) -> jax.Array:
        return call_model(nnx.merge(graph, state), images).argmax(axis=-1).astype(np.uint8)

    pictures = np.stack([example.inputs for example in examples.values()])
    (masks,) = in_batches(lambda images: (likeliest(state, images),), (pictures,), AT_ONCE)
    return dict(zip(examples, masks, strict=True))


def most_confused(true: np.ndarray, said: np.ndarray, num_classes: int) -> Confused | None:
    """In masks uint8 (H, W); None where all pixels that count are right."""
    wrong = (true != said) & (true != IGNORE)
    if not wrong.any():
        return None
    pairs = np.bincount(true[wrong].astype(np.int64) * num_classes + said[wrong])
    largest = int(pairs.argmax())
    return Confused(largest // num_classes, largest % num_classes, int(pairs[largest]))


def _card(
    example: Example,
    mask: np.ndarray,
    scores: dict[str, str],
    most: Confused | None,
    names: tuple[str, ...],
    heat: Markup | None,
) -> Markup:
    picture, name = example.picture, example.name
    figures = [
        image(picture, f"{name}", "picture"),
        image(overlay(picture, example.target), f"True mask of {name}: {_classes(example.target, names)}", "true mask"),
        image(overlay(picture, mask), f"Predicted mask of {name}: {_classes(mask, names)}", "predicted mask"),
        *([heat] if heat else []),
    ]
    confused = None
    if most:
        part = most.pixels / np.count_nonzero(example.target == most.true)
        confused = element(
            "p", f"Most confused: {most.pixels:,} pixels of {names[most.true]} ({share(part)} of it) taken for"
            f" {names[most.said]}."
        )  # fmt: skip
    return card(name, figures, facts(scores, class_="answers"), *([confused] if confused else []), across=2)


def _classes(mask: np.ndarray, names: tuple[str, ...]) -> str:
    return ", ".join(names[class_] for class_ in np.unique(mask) if class_ != IGNORE)


def _legend(colours: dict[str, str]) -> Markup:
    entries = (element("li", element("span", style=f"background:{colour}"), name) for name, colour in colours.items())
    return element("ul", *entries, class_="legend", aria_label="Colours of the masks")


def _class_table(judged: JudgedMasks, names: tuple[str, ...]) -> Markup:
    matrix = judged.confusion
    recall, true, said = np.diag(row_shares(matrix)), matrix.sum(axis=1), matrix.sum(axis=0)
    precision, total = np.diag(row_shares(matrix.T)), max(int(matrix.sum()), 1)
    rows = []
    for class_, name in enumerate(names):
        iou = judged.metrics.get(f"iou/{name}")
        found = [share(recall[class_]) if true[class_] else "", share(precision[class_]) if said[class_] else ""]
        rows.append([name, "" if iou is None else f"{iou:.3f}", *found, share(true[class_] / total)])
    return table("Classes over all pixels", ["class", "IoU", "recall", "precision", "share of all pixels"], rows)
