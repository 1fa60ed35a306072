"""The book's picture of a run: each metric over the epochs, training as dots, validation as a line."""

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jaxvision.outputs import write_whole

Record = Mapping[str, Any]

# Okabe and Ito's blue and vermillion: told apart with any kind of colour vision, and in grey.
TRAINING, VALIDATION, QUIET = "#0072B2", "#D55E00", "#666666"


def draw_curves(
    metrics: Sequence[Record],
    path: epath.PathLike,
    title: str,
    *,
    best_step: int | None = None,
    best_of_phases: Sequence[int] = (),
) -> None:
    """Writes the picture as PNG. Arguments as `plot_curves`."""
    figure = plot_curves(metrics, title, best_step=best_step, best_of_phases=best_of_phases)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write_whole(path, content.getvalue())


def plot_curves(
    metrics: Sequence[Record], title: str, *, best_step: int | None = None, best_of_phases: Sequence[int] = ()
) -> Figure:
    """Loss, accuracy and any other metric side by side over the epochs of all phases.

    Args:
      metrics: the records of metrics.jsonl; of the same step a later record replaces an earlier one.
      title: stands above, usually the run's name.
      best_step: where the best checkpoint was taken; None: where validation/loss is lowest, if it was measured.
      best_of_phases: steps of the best checkpoints of the phases of a run that has several.

    Raises:
      ValueError: no record holds a metric.
    """
    names = _metric_names(metrics)
    if not names:
        raise ValueError("there are no metrics to draw")
    if best_step is None:
        best_step = _lowest(metrics, "validation/loss")
    figure = Figure(figsize=(1 + 4.4 * len(names), 3.9), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _draw_metric(axes, metrics, name, best_step, best_of_phases)
    return figure


def _metric_names(metrics: Sequence[Record]) -> list[str]:
    """loss first, then the others as they come; those of single classes (validation/iou/cat) are too many."""
    keys = (key.split("/") for record in metrics for key in record)
    names = dict.fromkeys(key[1] for key in keys if key[0] in ("train", "validation") and len(key) == 2)
    return sorted(names, key=lambda name: name != "loss")


def _lowest(metrics: Sequence[Record], key: str) -> int | None:
    values = [(record[key], record["step"]) for record in metrics if record.get(key) is not None]
    return min(values)[1] if values else None


def _series(metrics: Sequence[Record], key: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, epochs (over all phases, with fractions within an epoch) and values of one metric."""
    values = {record["step"]: record[key] for record in metrics if key in record}
    steps = np.array(sorted(values), float)
    return steps, _epochs(metrics, steps), np.array([_number(values[step]) for step in steps])


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _epochs(metrics: Sequence[Record], steps: np.ndarray) -> np.ndarray:
    # The last record of an epoch stands at its end; records before it (validation every N steps) lie between.
    ends = sorted({(record["phase"], record["epoch"]): record["step"] for record in metrics}.values())
    return np.interp(steps, [0, *ends], np.arange(len(ends) + 1))


def _draw_metric(
    axes: Axes, metrics: Sequence[Record], name: str, best_step: int | None, best_of_phases: Sequence[int]
) -> None:
    _, epochs, values = _series(metrics, f"train/{name}")
    if len(epochs):
        axes.plot(epochs, values, "o", color=TRAINING, markersize=4.5, label="training")
    steps, epochs, values = _series(metrics, f"validation/{name}")
    if len(epochs):
        marker = "s" if len(epochs) == 1 else None
        axes.plot(epochs, values, "-", marker=marker, color=VALIDATION, linewidth=1.8, label="validation")
    others = np.isin(steps, [step for step in best_of_phases if step != best_step])
    if others.any():
        axes.plot(epochs[others], values[others], "o", color=VALIDATION, markersize=6, markerfacecolor="white",
                  label="best of its phase")  # fmt: skip
    if best_step in steps:
        _mark_best(axes, epochs[steps == best_step][0], values[steps == best_step][0])
    elif best_step is not None:
        axes.axvline(_epochs(metrics, np.array([best_step]))[0], color=QUIET, linewidth=0.9, linestyle=":")
    changes = [(before["step"], after["phase"]) for before, after in itertools.pairwise(metrics)
               if before["phase"] != after["phase"]]  # fmt: skip
    for step, phase in changes:
        # Half an epoch later: the point of the epoch that ends there is of the phase before.
        boundary = _epochs(metrics, np.array([step], float))[0] + 0.5
        axes.axvline(boundary, color=QUIET, linewidth=0.9, linestyle="--")
        axes.annotate(f"phases.{phase}", (boundary, 1.01), xycoords=("data", "axes fraction"), fontsize=8, color=QUIET,
                      ha="center", va="bottom")  # fmt: skip
    axes.set_title(name.replace("_", " "), pad=18 if changes else None)  # above the names of phases
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.04, y=0.12)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(facecolor="white", edgecolor="none", framealpha=1)  # over the line of the best epoch


def _mark_best(axes: Axes, epoch: float, value: float) -> None:
    # Told in the legend: text beside the point would lie on the curves.
    axes.axvline(epoch, color=QUIET, linewidth=0.9, linestyle=":")
    axes.plot([epoch], [value], "o", color=VALIDATION, markersize=8, markerfacecolor="white", markeredgewidth=1.8,
              label=f"best epoch {epoch:.3g}: {value:.3f}")  # fmt: skip
