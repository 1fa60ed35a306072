"""Rates side by side: one panel a case, one bar a competitor, with the spread of its turns."""

import math
import statistics
from collections.abc import Mapping, Sequence

from etils import epath
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

# Okabe and Ito's blue for the one the figure is about, one quiet grey for all others: bars are told apart by their
# labels, not by colour.
OURS, OTHERS, INK = "#0072B2", "#B8B8B8", "#222222"
COLUMNS = 3

Panels = Mapping[str, Mapping[str, Sequence[float]]]


def draw_bars(panels: Panels, path: epath.PathLike, title: str, *, unit: str, highlight: str) -> None:
    """Writes the picture as PNG. Arguments as `plot_bars`."""
    figure = plot_bars(panels, title, unit=unit, highlight=highlight)
    with epath.Path(path).open("wb") as file:
        figure.savefig(file, format="png")


def plot_bars(panels: Panels, title: str, *, unit: str, highlight: str) -> Figure:
    """Horizontal bars: the median is the bar's length and stands beside it, a line goes from minimum to maximum.

    Args:
      panels: {case: {competitor: measurements}}; a competitor without measurements gets no bar, and says so.
      title: stands above.
      unit: of the measurements, under each panel.
      highlight: the competitor in colour.
    """
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    tallest = max(len(bars) for bars in panels.values())
    size = (0.4 + 4.6 * columns, 0.7 + rows * (0.9 + 0.42 * tallest))
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (name, bars) in zip(grid, panels.items(), strict=False):
        _draw_panel(axes, name, bars, unit, highlight)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    return figure


def _draw_panel(axes: Axes, name: str, bars: Mapping[str, Sequence[float]], unit: str, highlight: str) -> None:
    # Room at the right for the number beside the longest bar.
    axes.set_xlim(0, 1.3 * max((max(values) for values in bars.values() if values), default=1.0))
    for place, (label, values) in enumerate(bars.items()):
        if not values:
            axes.annotate(" not measured", (0, place), va="center", fontsize=9, color=INK)
            continue
        median = statistics.median(values)
        axes.barh(place, median, height=0.62, color=OURS if label == highlight else OTHERS)
        axes.plot([min(values), max(values)], [place, place], color=INK, linewidth=1.4, marker="|", markersize=6)
        text = f"{median:,.0f}" if median >= 100 else f"{median:.3g}"
        axes.annotate(text, (max(values), place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_title(name, fontsize=10, loc="left")
    axes.set_xlabel(unit, fontsize=9)
    axes.tick_params(labelsize=9)
    axes.tick_params(axis="y", length=0)
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
