"""A forest plot: arms below each other, each with its mean, its interval, and the single values they come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from jaxvision.figures.rows import name_rows

# Okabe and Ito's blue; the base in ink; a difference that is told from none, in vermillion, has another shape too.
ARM, TOLD, INK, QUIET = "#0072B2", "#B34A00", "#222222", "#767676"
# Inches: a row; what is above and below the rows; the axes; a letter beside them, of the title.
ROW, AROUND, AXES, LETTER, TITLE_LETTER = 0.34, 1.5, 4.2, 0.078, 0.092
# Values nearer than this share of the axis hide each other, and are drawn so many inches apart.
NEAR, VALUES_APART = 0.004, 0.035


@dataclass(frozen=True)
class Row:
    """mean None: nothing was measured. low, high: of the interval, or None. values: one a seed. note: at the right.
    is_told: whether the difference to the base can be told from none."""

    name: str
    mean: float | None
    low: float | None
    high: float | None
    values: Sequence[float]
    note: str
    is_told: bool = False


def plot_forest(rows: Sequence[Row], title: str, *, axis: str, base: float | None, words: Mapping[str, str]) -> Figure:
    """Rows from top to bottom, dots for single values, a line for the interval.

    Args:
      axis: what is measured, under the plot.
      base: where the line of the base stands; None: no line.
      words: of the legend, {"base", "mean", "told", "value"}.
    """
    letters = max(len(row.name) for row in rows) + max(len(row.note) for row in rows)
    width = max(AXES + LETTER * letters, 0.4 + TITLE_LETTER * len(title))
    figure = Figure(figsize=(width, AROUND + ROW * len(rows)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots()
    if base is not None:
        axes.axvline(base, color=INK, linewidth=1, linestyle="--", label=words["base"])
    drawn = [value for row in rows if row.mean is not None for value in (row.low, row.high, *row.values)]
    ends = [value for value in drawn if value is not None]
    near = NEAR * (max(ends) - min(ends)) if ends else 0.0
    for place, row in enumerate(rows):
        _draw_row(axes, place, row, words, near)
    name_rows(axes, [row.name for row in rows], [row.note for row in rows], axis, ticks=6)
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, fontsize=9, frameon=False)
    return figure


def _draw_row(axes: Axes, place: int, row: Row, words: Mapping[str, str], near: float) -> None:
    if row.mean is None:
        return
    colour = TOLD if row.is_told else ARM
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
    for value, steps in dodged(row.values, near):
        aside = ScaledTranslation(steps * VALUES_APART, 0, axes.get_figure().dpi_scale_trans)  # type: ignore[union-attr]
        axes.plot([value], [place], "|", color=QUIET, markersize=9, label=words["value"],
                  transform=axes.transData + aside)  # fmt: skip
    axes.plot([row.mean], [place], "D" if row.is_told else "o", color=colour, markersize=7,
              label=words["told" if row.is_told else "mean"])  # fmt: skip


def dodged(values: Sequence[float], near: float) -> list[tuple[float, float]]:
    """Each value, in rising order, with how many steps aside it is drawn, so that values no further apart than `near`
    do not hide each other: (0.9, -0.5), (0.9, 0.5)."""
    groups: list[list[float]] = []
    for value in sorted(values):
        if groups and value - groups[-1][0] <= near:
            groups[-1].append(value)
        else:
            groups.append([value])
    return [(value, place - (len(each) - 1) / 2) for each in groups for place, value in enumerate(each)]
