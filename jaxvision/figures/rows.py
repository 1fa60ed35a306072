"""Rows of a chart: a name at the left, a note at the right, and what is measured along the bottom."""

from collections.abc import Sequence

from matplotlib.axes import Axes


def name_rows(axes: Axes, names: Sequence[str], notes: Sequence[str], measured: str, *, ticks: int) -> None:
    """Makes the axes those of rows 0, 1, ... from the top. measured: words for the x axis. ticks: at most, on it."""
    right = axes.twinx()
    for side, texts in ((axes, names), (right, notes)):
        side.set_ylim(len(names) - 0.4, -0.6)
        side.set_yticks(range(len(names)), texts, fontsize=9, parse_math=False)
        side.tick_params(axis="y", length=0)
    right.spines[:].set_visible(False)
    axes.set_xlabel(measured, fontsize=9)
    axes.tick_params(labelsize=9)
    axes.margins(x=0.06)
    axes.locator_params(axis="x", nbins=ticks)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
