"""The report's plots inside its page: SVG in the page's own colours, light or dark."""

import math
import re
from collections.abc import Callable, Mapping, Sequence

from jaxvision.figures.forest import Row, dodged
from jaxvision.report.ablation.analysis import ArmReport, Report
from jaxvision.report.ablation.measure import Point
from jaxvision.report.ablation.words import arm_label, number, percent
from jaxvision.report.page import Markup, element, joined
from jaxvision.report.statistics import CONFIDENCE

# Of a panel of curves, in its own units: the whole, and room for numbers at the left and below.
WIDTH, HEIGHT, LEFT, BELOW, TOP, RIGHT = 320, 190, 46, 26, 8, 10
MOST_DOTS = 12
"""Epochs up to which each is marked."""
PARTS = ("train", "validation")
SEED_APART = 3
"""Pixels between the marks of seeds that would hide each other."""
NEAR = 0.002
"""As a share of the axis: so near they would."""


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most so many round numbers, 1, 2 or 5 times a power of ten apart, from low to high."""
    size = (high - low) / most or 1.0
    power = 10 ** math.floor(math.log10(size))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= size * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def wrapping(name: str) -> Markup:
    """A name that goes on in the next line after a dot: model.options.dropout is too long for a telephone."""
    first, *others = re.split(r"(?<=\.)(?=[^\W\d])", name)
    return joined([first, *(part for other in others for part in (element("wbr"), other))])


def forest(rows: Sequence[Row], *, reference: float | None, words: Mapping[str, str]) -> Markup:
    """Rows below each other: mean, interval, single seeds, and a line at the reference.

    words: of the key, {"mean", "reference", "told"}.
    """
    ends = [
        value
        for row in rows
        for value in (row.mean, row.low, row.high, *row.values, reference)
        if value is not None and row.mean is not None
    ]
    low, high = min(ends), max(ends)
    around = 0.04 * (high - low) or 0.01 * abs(high) or 0.01
    low, high = low - around, high + around

    def place(value: float) -> str:
        return f"{100 * (value - low) / (high - low):.2f}%"

    marks = ticks(low, high, 7)
    grid = [element("line", class_="grid", x1=place(at), x2=place(at), y1="0", y2="100%") for at in marks]
    if reference is not None:
        grid.append(element("line", class_="base", x1=place(reference), x2=place(reference), y1="0", y2="100%"))
    drawn = [
        element(
            "div",
            element("span", wrapping(row.name), class_="name"),
            element("svg", *grid, *_marks(row, place, NEAR * (high - low)), aria_hidden="true"),
            element("span", row.note, class_="number"),
            class_="row told" if row.is_told else "row",
        )
        for row in rows
    ]
    labels = [element("text", _short(at, marks), x=place(at), y="14", text_anchor="middle") for at in marks]
    axis = element("div", element("span"), element("svg", *labels, aria_hidden="true"), class_="row axis")
    return joined([element("div", *drawn, axis, class_="forest"), _forest_key(rows, reference, words)])


def _marks(row: Row, place: Callable[[float], str], near: float) -> list[Markup]:
    if row.mean is None:
        return []
    marks = [
        element("line", class_="seed", x1=place(value), x2=place(value), y1="30%", y2="70%",
                transform=f"translate({SEED_APART * steps:g} 0)" if steps else None)
        for value, steps in dodged(row.values, near)
    ]  # fmt: skip
    if row.low is not None and row.high is not None:
        marks.append(element("line", class_="range", x1=place(row.low), x2=place(row.high), y1="50%", y2="50%"))
    at = place(row.mean)
    if row.is_told:
        # A square on its corner, drawn about the origin of a drawing of its own, whose place is in percent.
        square = element("rect", x="-6", y="-6", width="12", height="12", transform="rotate(45)")
        marks.append(element("svg", square, x=at, y="50%", overflow="visible"))
    else:
        marks.append(element("circle", cx=at, cy="50%", r="6"))
    return marks


def _forest_key(rows: Sequence[Row], reference: float | None, words: Mapping[str, str]) -> Markup:
    items = [(element("circle", class_="bar", cx="14", cy="8", r="5.5"), words["mean"])]
    if any(row.low is not None for row in rows):
        line = element("line", class_="range", x1="1", x2="27", y1="8", y2="8")
        items.append((line, f"{percent(CONFIDENCE)} interval"))
    items.append((element("line", class_="seed", x1="14", x2="14", y1="2", y2="14"), "a seed"))
    if reference is not None:
        line = element("line", class_="refer", x1="14", x2="14", y1="0", y2="16")
        items.append((line, words["reference"]))
    if any(row.is_told for row in rows):
        square = element("rect", class_="told", x="9", y="3", width="10", height="10", transform="rotate(45 14 8)")
        items.append((square, words["told"]))
    return _key(items)


def _key(items: Sequence[tuple[Markup, str]]) -> Markup:
    entries = (
        element("li", element("svg", drawn, viewBox="0 0 28 16", aria_hidden="true"), words) for drawn, words in items
    )
    return element("ul", *entries, class_="key")


def curves(report: Report) -> list[Markup]:
    """A panel an arm: the metric by epoch in training and validation, with bands; the base's validation beside it."""
    shown = [arm for arm in report.arms if any(arm.curves.values())]
    points = [point for arm in shown for each in arm.curves.values() for point in each]
    if not points:
        return [element("p", "No finished trial has this metric by epoch.")]
    x_range = (1.0, float(max(2, max(point.epoch for point in points))))
    y_range = (min(point.low for point in points), max(point.high for point in points))
    base = next((arm.curves for arm in shown if arm.name == report.base), {})
    reference = base.get("validation") or base.get("train") or ()
    panels = [
        element(
            "li",
            element("h3", wrapping(arm_label(report, arm.name))),
            _panel(arm, report, reference, x_range, y_range),
            class_="card",
        )
        for arm in shown
    ]
    return [_curves_key(report, shown), element("ul", *panels, class_="curves")]


def _curves_key(report: Report, shown: Sequence[ArmReport]) -> Markup:
    there = [part for part in PARTS if any(arm.curves[part] for arm in shown)]
    words = {"train": "training", "validation": "validation"}
    items = [
        (element("path", class_=part, d="M1 8H27"), f"{words[part]}, mean of the seeds") for part in there
    ]  # fmt: skip
    items.append((element("rect", class_=f"band {there[-1]}", x="1", y="1", width="26", height="14"),
                  "from the lowest to the highest seed"))  # fmt: skip
    if len(shown) > 1:
        items.append((element("path", class_="refer", d="M1 8H27"), f"{words[there[-1]]} of the base"))
    return _key(items)


def _panel(
    arm: ArmReport,
    report: Report,
    reference: Sequence[Point],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
) -> Markup:
    spread = y_range[1] - y_range[0] or 1.0

    def x(epoch: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (epoch - x_range[0]) / (x_range[1] - x_range[0])

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BELOW) * (1 - (value - y_range[0]) / spread)

    def line(values: Sequence[tuple[float, float]]) -> str:
        return "M" + "L".join(f"{x(epoch):.1f} {y(value):.1f}" for epoch, value in values)

    drawn = []
    levels = ticks(*y_range, 5)
    for at in levels:
        drawn += [
            element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y(at):.1f}", y2=f"{y(at):.1f}"),
            element("text", _short(at, levels), x=LEFT - 6, y=f"{y(at) + 4:.1f}", text_anchor="end"),
        ]
    for at in ticks(*x_range, 6):
        if at == round(at):
            drawn.append(element("text", f"{at:.0f}", x=f"{x(at):.1f}", y=HEIGHT - 6, text_anchor="middle"))
    drawn.append(element("text", "epoch", x=LEFT - 12, y=HEIGHT - 6, text_anchor="end"))
    if reference and arm.name != report.base:
        drawn.append(element("path", class_="refer", d=line([(p.epoch, p.mean) for p in reference])))
    for part in PARTS:
        points = arm.curves[part]
        if points:
            band = [(p.epoch, p.high) for p in points] + [(p.epoch, p.low) for p in reversed(points)]
            drawn.append(element("path", class_=f"band {part}", d=line(band) + "Z"))
            drawn.append(element("path", class_=part, d=line([(p.epoch, p.mean) for p in points])))
        if 0 < len(points) <= MOST_DOTS:
            drawn += [
                element("circle", class_=f"dot {part}", cx=f"{x(p.epoch):.1f}", cy=f"{y(p.mean):.1f}", r="2.5")
                for p in points
            ]
    return element("svg", *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=_said(arm, report))


def _said(arm: ArmReport, report: Report) -> str:
    """A curve for those who do not see it."""
    said = [
        f"{part} from {number(points[0].mean)} to {number(points[-1].mean)} after {points[-1].epoch} epochs"
        for part, points in arm.curves.items()
        if points
    ]
    return f"{report.measure.metric.replace('_', ' ')} of {arm.name} by epoch: {'; '.join(said)}"


def _short(value: float, all_ticks: Sequence[float]) -> str:
    """As many decimals as tell ticks apart."""
    step = all_ticks[1] - all_ticks[0] if len(all_ticks) > 1 else abs(value) or 1.0
    return f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}".replace("-", "\N{MINUS SIGN}")
