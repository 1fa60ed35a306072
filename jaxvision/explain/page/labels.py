"""Sections of a run's page where each picture has any number of classes."""

import numpy as np

from jaxvision.explain.page.examples import Example, HeatLayer, card, first_rows, heat_figures, read_examples
from jaxvision.explain.page.judged import JudgedLabels, probabilities
from jaxvision.report.page import Markup, Section, cards, chance, element, facts, image, table
from jaxvision.train.evaluate import RunPart

MOST_LABELS = 8
"""Told of one example."""


def label_sections(opened: RunPart, judged: JudgedLabels, layer: HeatLayer, count: int) -> list[Section]:
    """The examples of the highest loss, of the lowest as a control, and what becomes of each class."""
    everything = np.full(len(judged.loss), True)
    worst, best = (first_rows(sign * judged.loss, everything, count) for sign in (-1, 1))
    examples = read_examples(opened, [*worst, *best])
    # The class that the example's loss comes from most: predicted and not there, or there and not predicted.
    wrongness = np.where(judged.target, -judged.log_odds, judged.log_odds)
    looked_at = {row: int(wrongness[row].argmax()) for row in examples}
    heat = heat_figures(opened, layer, examples, looked_at.items())
    names = opened.restored.card.class_names

    def shown(rows: list[int]) -> list[Markup]:
        items = [
            _card(examples[row], judged.log_odds[row], wrongness[row], names, heat.get((row, looked_at[row])))
            for row in rows
        ]
        return [cards(items)]

    about = "The heat map is of the class that is most wrong, or least sure."
    return [
        Section("Worst mistakes", f"The highest loss. {about}", shown(worst)),
        Section("Right and most confident", f"As a control: the lowest loss. {about}", shown(best)),
        Section(
            "Classes",
            "A class is predicted where its probability is over 50 %.",
            [_class_table(judged, names)],
        ),
    ]


def class_counts(judged: JudgedLabels) -> np.ndarray:
    """int64 (K, 4): true positives, false positives, false negatives, true negatives of each class."""
    said, true = judged.log_odds > 0, judged.target
    return np.stack([(said == s) & (true == t) for s, t in ((1, 1), (1, 0), (0, 1), (0, 0))]).sum(axis=1).T


def _class_table(judged: JudgedLabels, names: tuple[str, ...]) -> Markup:
    head = [
        "class",
        "true positives",
        "false positives",
        "false negatives",
        "true negatives",
        "average precision",
        "F1",
    ]
    rows = []
    for name, counts in zip(names, class_counts(judged).tolist(), strict=True):
        scores = (judged.metrics.get(f"{kind}/{name}") for kind in ("average_precision", "f1"))
        rows.append([name, *(f"{n:,}" for n in counts), *("" if s is None else f"{s:.3f}" for s in scores)])
    return table("What becomes of each class", head, rows)


def _card(
    example: Example, log_odds: np.ndarray, wrongness: np.ndarray, names: tuple[str, ...], heat: Markup | None
) -> Markup:
    likely, there = probabilities(log_odds), example.target > 0.5
    told = np.flatnonzero(there | (log_odds > 0))
    told = told[np.argsort(-wrongness[told], kind="stable")]
    words = {}
    for class_ in told[:MOST_LABELS].tolist():
        found = "found" if there[class_] else "wrongly found"
        words[names[class_]] = f"{found if log_odds[class_] > 0 else 'missed'} ({chance(likely[class_])})"
    true = ", ".join(names[class_] for class_ in np.flatnonzero(there)) or "none of the classes"
    figures = [image(example.picture, f"{example.name}: {true}", "picture"), *([heat] if heat else [])]
    left = len(told) - len(words)
    more = element("p", f"and {left} more classes", class_="soft") if left else None
    nothing = element("p", "No class is true or predicted.") if not len(told) else None
    return card(
        example.name, figures, *(part for part in (facts(words, class_="answers") if words else nothing, more) if part)
    )
