"""Whether a classifier is as sure as it is right: reliability by bins of probability, and its expected error."""

from dataclasses import dataclass

import numpy as np

from jaxvision.report.page import PERCENT, Markup, chance, element, share, table

BINS = 10
# Of the diagram, in its own units: the square plotted in, and room for words at the left and below.
SIDE, LEFT, BELOW, TOP = 240, 48, 40, 10


@dataclass(frozen=True)
class Bin:
    """Examples predicted with a probability over low and up to high: how many, the mean of these probabilities, and the
    share of them that are right."""

    low: float
    high: float
    count: int
    probability: float
    accuracy: float


def reliability(probability: np.ndarray, right: np.ndarray, *, bins: int = BINS) -> tuple[list[Bin], float]:
    """Bins of equal width that hold examples, and the expected calibration error, sum_b n_b / N |accuracy_b -
    probability_b| (Guo et al. 2017).

    Args:
      probability: float (N,), of the predicted class.
      right: bool (N,), whether that is the true one.
    """
    place = np.clip(np.ceil(probability.astype(np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
    found = []
    for number in np.unique(place).tolist():
        inside = place == number
        means = float(probability[inside].mean(dtype=np.float64)), float(right[inside].mean())
        found.append(Bin(number / bins, (number + 1) / bins, int(inside.sum()), *means))
    error = sum(b.count * abs(b.accuracy - b.probability) for b in found) / len(probability)
    return found, error


def calibration_parts(bins: list[Bin], error: float) -> list[Markup]:
    """The reliability diagram and its numbers."""
    rows = [
        [f"{100 * b.low:.0f} to {100 * b.high:.0f}{PERCENT}", f"{b.count:,}", chance(b.probability), share(b.accuracy)]
        for b in bins
    ]
    words = element("p", f"Expected calibration error: {share(error)} ({BINS} bins).")
    head = ["probability", "examples", "mean", "right"]
    return [words, _diagram(bins), table("Reliability by the probability of the predicted class", head, rows)]


def _diagram(bins: list[Bin]) -> Markup:
    bars = (
        element(
            "rect", class_="bar", x=f"{LEFT + SIDE * b.low + 1:g}", width=f"{SIDE * (b.high - b.low) - 2:g}",
            y=f"{TOP + SIDE * (1 - b.accuracy):g}", height=f"{SIDE * b.accuracy:g}",
        )
        for b in bins
    )  # fmt: skip
    floor = TOP + SIDE
    ticks = [
        mark
        for value in (0, 0.5, 1)
        for mark in (
            element("text", f"{100 * value:.0f}{PERCENT}", x=LEFT + SIDE * value, y=floor + 16, text_anchor="middle"),
            element("text", f"{100 * value:.0f}{PERCENT}", x=LEFT - 6, y=floor - SIDE * value + 4, text_anchor="end"),
        )
    ]
    return element(
        "svg",
        *bars,
        element("line", class_="ideal", x1=LEFT, y1=floor, x2=LEFT + SIDE, y2=TOP),
        element("line", class_="axis", x1=LEFT, y1=floor, x2=LEFT + SIDE, y2=floor),
        element("line", class_="axis", x1=LEFT, y1=floor, x2=LEFT, y2=TOP),
        *ticks,
        element("text", "probability of the predicted class", x=LEFT + SIDE / 2, y=floor + 34, text_anchor="middle"),
        element("text", "right", x=LEFT - 6, y=TOP + SIDE / 4, text_anchor="end"),
        class_="plot", viewBox=f"0 0 {LEFT + SIDE + 24} {floor + BELOW}", role="img",
        aria_label="Reliability diagram: bars are the share that is right, the dashed line where it would equal the"
        " probability",
    )  # fmt: skip
