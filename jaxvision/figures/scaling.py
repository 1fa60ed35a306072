"""Pictures a second over numbers of chips, beside the line of perfect scaling."""

import io
from collections.abc import Mapping
from typing import Any

from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxvision.outputs import write_whole

# Okabe and Ito's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def draw_scaling(document: Mapping[str, Any], path: epath.PathLike) -> None:
    """Writes the picture as PNG. document: as `jaxvision bench scaling` writes it."""
    content = io.BytesIO()
    plot_scaling(document).savefig(content, format="png")
    write_whole(path, content.getvalue())


def plot_scaling(document: Mapping[str, Any]) -> Figure:
    """A line a run on logarithmic axes, dotted as it would be if every chip did as much as one."""
    figure = Figure(figsize=(7.6, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, run in enumerate(document["runs"]):
        colour = COLOURS[number % len(COLOURS)]
        chips = [found["chips"] for found in run["estimates"]]
        rates = [found["rate"] for found in run["estimates"]]
        axes.plot(chips, [rates[0] * n / chips[0] for n in chips], ":", color=colour, linewidth=1.1)
        axes.plot(chips, rates, "-o", color=colour, markersize=4.5, linewidth=1.8, label=run["workload"]["name"])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(chips, [f"{n:,}" for n in chips])
    axes.set_xlabel(f"chips ({document['chip']['name']}); dotted: as many times one chip")
    axes.set_ylabel("pictures a second (simulated)")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure
