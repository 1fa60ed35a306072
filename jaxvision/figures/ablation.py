"""What a network's result owes to each of its blocks: a bar from the intact network's result to that without it."""

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from jaxvision.figures.rows import name_rows

# Okabe and Ito's sky blue, on which ink is seen, and vermillion: told apart with any kind of colour vision.
BAR, CHANCE, INK = "#56B4E9", "#D55E00", "#222222"
# Inches: a bar with the gap to the next; what is above and below them; the axes; a letter beside them, of the title.
ROW, AROUND, AXES, LETTER, TITLE_LETTER = 0.24, 1.45, 4.2, 0.078, 0.092


def plot_ablation(
    values: Mapping[str, Sequence[float]],
    title: str,
    *,
    metric: str,
    intact: float,
    chance: float | None = None,
) -> Figure:
    """Horizontal bars in the order given, each from the intact network's value to the mean of the block's, which stands
    at the right with the difference. A line on the bar's end is the standard deviation (sample) over several values.

    Args:
      values: {block: the metric without the block, for each seed}.
      title: stands above.
      metric: its name, under the bars.
      intact, chance: the metric of the whole network, and of one that says the same of every picture.
    """
    numbers = [_number(each, intact) for each in values.values()]
    letters = max(map(len, values)) + max(map(len, numbers))
    width = max(AXES + LETTER * letters, 0.4 + TITLE_LETTER * len(title))
    figure = Figure(figsize=(width, AROUND + ROW * len(values)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11, parse_math=False)
    axes = figure.subplots()
    axes.use_sticky_edges = False  # room beside the line of the intact network
    for place, each in enumerate(values.values()):
        mean = statistics.fmean(each)
        axes.barh(place, mean - intact, left=intact, height=0.66, color=BAR, label="" if place else "owed to the block")
        if len(each) > 1:
            axes.errorbar(mean, place, xerr=statistics.stdev(each), color=INK, linewidth=1.2, capsize=2.5)
    axes.axvline(intact, color=INK, linewidth=1.2, label=f"intact {intact:.3f}")
    if chance is not None:
        axes.axvline(chance, color=CHANCE, linewidth=1.2, linestyle="--", label=f"chance level {chance:.3f}")
    measured = f"{metric.replace('_', ' ')} without the block (at the right: less the intact)"
    name_rows(axes, list(values), numbers, measured, ticks=5)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    return figure


def _number(values: Sequence[float], intact: float) -> str:
    """0.512 ± 0.031 (-0.462)"""
    mean = statistics.fmean(values)
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean:.3f}{spread} ({mean - intact:+.3f})"
