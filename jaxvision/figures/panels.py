"""Pictures side by side over a legend of classes: the book's picture, its mask, the prediction."""

import io
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from jaxvision.figures.palette import palette
from jaxvision.types import IGNORE

MOST_NAMES = 32
LONGEST_NAME = 32
# Inches: between pictures; lines of the legend, of titles, of the heading; a letter of each.
GAP, LINE, TITLE, HEADING = 0.08, 0.2, 0.22, 0.26
LETTER, TITLE_LETTER, HEADING_LETTER = 0.075, 0.085, 0.095


def plot_panels(
    pictures: Sequence[np.ndarray],
    *,
    columns: int,
    side: float,
    titles: Sequence[str] = (),
    heading: str = "",
    legend: Mapping[str, str] | None = None,
    narrowest: float = 0.25,
) -> Figure:
    """Pictures in rows, and below them what their colours mean.

    Args:
      pictures: uint8 (H, W, C), C 1 or 3, all of one size.
      columns: how many in a row.
      side: inches of a picture's longer side; see narrowest.
      titles: above each of the pictures.
      heading: above all.
      legend: {class: colour}, as by `legend_of`.
      narrowest: a strip of a picture gets a place at least so wide as a share of its length.
    """
    height, width = pictures[0].shape[:2]
    across, along = (side * max(length / max(height, width), narrowest) for length in (width, height))
    rows, names = -(-len(pictures) // columns), legend or {}
    total = max(columns * (across + GAP), 3.0)
    in_line = max(1, int(total / (0.42 + LETTER * max(map(len, names), default=0))))
    below = GAP + LINE * -(-len(names) // in_line) if names else 0.0
    above = HEADING if heading else 0.0
    size = (total, rows * (along + GAP + (TITLE if titles else 0.0)) + above + below)
    layout = ConstrainedLayoutEngine(w_pad=GAP / 2, h_pad=GAP / 2, wspace=0, hspace=0)
    figure = Figure(figsize=size, dpi=120, layout=layout)
    FigureCanvasAgg(figure)
    if heading:
        figure.suptitle(_shortened(heading, int(total / HEADING_LETTER)), fontsize=11, parse_math=False)
    for number, axes in enumerate(figure.subplots(rows, columns, squeeze=False).flat):
        axes.set_axis_off()
        if number < len(pictures):
            axes.imshow(pictures[number], cmap="gray", vmin=0, vmax=255)
        if number < len(titles):
            title = _shortened(titles[number], int(across / TITLE_LETTER))
            axes.set_title(title, fontsize=10, pad=4, parse_math=False)
    if names:
        drawn = figure.legend(
            handles=[_patch(colour) for colour in names.values()], loc="outside lower center", ncols=in_line,
            fontsize=9, frameon=False, borderpad=0, handlelength=1.2, handleheight=1.0, columnspacing=1.2,
            labelspacing=0.4,
        )  # fmt: skip
        # Set only here: as labels, names that begin with _ would be left out, and $ would begin a formula.
        for text, name in zip(drawn.get_texts(), names, strict=True):
            text.set(text=_shortened(name, LONGEST_NAME), parse_math=False)
    return figure


def legend_of(masks: Iterable[np.ndarray], class_names: Sequence[str]) -> dict[str, str]:
    """{class: "#rrggbb"} of the classes in these masks uint8 (..., H, W), in the order of their numbers.

    Of more than 32, those of the most pixels; a last entry in white says how many there are beside them.
    """
    counts = np.zeros(256, np.int64)
    for mask in masks:
        counts += np.bincount(mask.reshape(-1), minlength=256)
    present = [int(number) for number in np.flatnonzero(counts)]
    shown = sorted(sorted(present, key=lambda number: -counts[number])[:MOST_NAMES])
    legend = {
        "ignored" if number == IGNORE else class_names[number]: f"#{palette()[number].tobytes().hex()}"
        for number in shown
    }
    if len(present) > len(shown):
        legend[f"and {len(present) - len(shown)} more"] = "#ffffff"
    return legend


def figure_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; nobody can do anything about it here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="png")
    return file.getvalue()


def _patch(colour: str) -> Patch:
    # A rim, for colours that are nearly white.
    return Patch(facecolor=colour, edgecolor=colour if colour == "#ffffff" else "#777777", linewidth=0.5, label=" ")


def _shortened(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
