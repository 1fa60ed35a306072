"""Sections of a run's page where each picture has one class."""

from dataclasses import dataclass

import numpy as np

from jaxvision.explain.page.calibration import calibration_parts, reliability
from jaxvision.explain.page.examples import NONE, Example, HeatLayer, card, first_rows, heat_figures, read_examples
from jaxvision.explain.page.judged import JudgedClasses, probabilities
from jaxvision.explain.page.matrix import MATRIX_INTRO, matrix_parts
from jaxvision.report.page import PERCENT, Markup, Section, cards, chance, element, facts, image
from jaxvision.train.evaluate import RunPart


@dataclass(frozen=True)
class Choice:
    """Examples that stand together: what they have in common, and their rows in the part."""

    title: str
    intro: str
    rows: list[int]


def class_sections(opened: RunPart, judged: JudgedClasses, layer: HeatLayer, count: int) -> list[Section]:
    """Mistakes, right answers as a control, the confusion matrix, calibration."""
    chosen = choices(judged, count)
    examples = read_examples(opened, (row for choice in chosen for row in choice.rows))
    pairs = ((row, int(answer[row])) for row in examples for answer in (judged.predicted, judged.target))
    heat = heat_figures(opened, layer, examples, pairs)
    names = opened.restored.card.class_names
    sections = []
    for choice in chosen:
        items = [_card(row, examples[row], judged, names, heat) for row in choice.rows]
        sections.append(Section(choice.title, choice.intro, [cards(items) if items else element("p", NONE)]))
    sure = probabilities(judged.log_odds[np.arange(len(judged.target)), judged.predicted])
    return [
        *sections,
        Section(
            "Confusion matrix",
            MATRIX_INTRO,
            matrix_parts(judged.confusion, names, "examples"),
        ),
        Section(
            "Calibration",
            f"Of predictions made with a probability of 80{PERCENT}, 80{PERCENT} should be right.",
            calibration_parts(*reliability(sure, judged.predicted == judged.target)),
        ),
    ]


def choices(judged: JudgedClasses, count: int) -> list[Choice]:
    """Which examples are shown, `count` at most of each kind, in their order.

    With two classes the least probable true class is the most probable wrong one: one kind of mistake, and those least
    sure beside it.
    """
    rows = np.arange(len(judged.target))
    of_true, of_predicted = judged.log_odds[rows, judged.target], judged.log_odds[rows, judged.predicted]
    right = judged.predicted == judged.target
    total = f"{np.sum(~right):,} of {len(rows):,} are mistakes."
    worst, confident = first_rows(of_true, ~right, count), first_rows(-of_predicted, ~right, count)
    control = Choice(
        "Right and most confident", "As a control: the highest probability of the true class.",
        first_rows(-of_predicted, right, count),
    )  # fmt: skip
    if judged.log_odds.shape[1] == 2:
        either = "The lowest probability of the true class, which is the highest of the wrong one"
        unsure = "The lowest probability of the predicted class; right or wrong."
        return [
            Choice("Worst and most confident mistakes", f"{either}. {total}", worst),
            Choice("Least sure", unsure, first_rows(of_predicted, np.full(len(rows), True), count)),
            control,
        ]
    return [
        Choice("Worst mistakes", f"The lowest probability of the true class. {total}", worst),
        Choice("Most confident mistakes", f"The highest probability of a wrong class. {total}", confident),
        control,
    ]


def _card(
    row: int, example: Example, judged: JudgedClasses, names: tuple[str, ...], heat: dict[tuple[int, int], Markup]
) -> Markup:
    true, said = int(judged.target[row]), int(judged.predicted[row])
    likely = probabilities(judged.log_odds[row])
    what = f"{names[true]}, rightly told" if true == said else f"{names[true]}, taken for {names[said]}"
    figures = [image(example.picture, f"{example.name}: {what}", "picture")]
    figures += [heat[row, class_] for class_ in dict.fromkeys((said, true)) if (row, class_) in heat]
    answers = {
        "predicted": f"{names[said]} ({chance(likely[said])})",
        "true": f"{names[true]} ({chance(likely[true])})",
    }
    return card(example.name, figures, facts(answers, class_="answers"))
