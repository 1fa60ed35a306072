"""The report's files: a page, Markdown, JSON and a picture, beside each other."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from jaxvision.errors import ConfigError
from jaxvision.figures.forest import plot_forest
from jaxvision.figures.panels import figure_png
from jaxvision.outputs import require_absent, write_output
from jaxvision.report.ablation.analysis import Report
from jaxvision.report.ablation.markdown import as_markdown
from jaxvision.report.ablation.page import Pages, as_page
from jaxvision.report.ablation.rows import arm_rows
from jaxvision.report.ablation.words import metric_name, percent, signed, trials_words
from jaxvision.report.page import GENERATOR

SCHEMA_VERSION = 1
KINDS = (".html", ".md", ".json", ".png")


def require_replaceable(out: Path) -> None:
    """ConfigError where `out` is no name of an HTML file, or a file would be written over that is not of an earlier
    report: reports are made anew as trials finish, but nothing else is written over."""
    if out.suffix != KINDS[0]:
        raise ConfigError(f"--out: must be a file that ends in .html; the others have its name. Received: {str(out)!r}")
    for kind in KINDS:
        if out.with_suffix(kind).is_dir():
            raise ConfigError(f"{out.with_suffix(kind)}: is a folder. Give another --out.")
    if not _is_report(out.with_suffix(".json")):
        for kind in KINDS:
            require_absent(out.with_suffix(kind))


def write_report(report: Report, out: Path, *, pages: Pages | None = None) -> list[Path]:
    """Writes OUT.html, OUT.md, OUT.json and OUT.png.

    Args:
      out: the .html file.
      pages: files about single trials, to be linked.

    Returns: the files.

    Raises: ConfigError: see `require_replaceable`; or a file cannot be written.
    """
    require_replaceable(out)
    picture = out.with_suffix(".png")
    contents = {
        # First, as by it an unfinished report is known as one.
        out.with_suffix(".json"): as_json(report).encode(),
        picture: forest_png(report),
        out.with_suffix(".md"): as_markdown(report, picture=picture.name).encode(),
        out: as_page(report, pages or {}).encode(),
    }
    for path, content in contents.items():
        write_output(path, content)
    return list(contents)


def as_json(report: Report) -> str:
    """The report with all its numbers."""
    document = {"schema_version": SCHEMA_VERSION, "generator": _MARK, **dataclasses.asdict(report)}
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def forest_png(report: Report) -> bytes:
    """The arms with their intervals, and differences to the base."""
    is_compared = len(report.arms) > 1
    base = next(arm for arm in report.arms if arm.name == report.base).interval if is_compared else None
    notes = {arm.name: f"  {signed(arm.compared.contrast.mean)}" for arm in report.arms if arm.compared}
    rows = [dataclasses.replace(row, note=row.note + notes.get(row.name, "")) for row in arm_rows(report)]
    is_drawn = any(row.low is not None for row in rows)
    shown = ["mean", *(["interval"] if is_drawn else []), *(["difference to the base"] if notes else [])]
    words = {
        "base": "mean of the base",
        "mean": f"mean and {percent(report.confidence)} interval over seeds" if is_drawn else "mean of the seeds",
        "told": "the same, where it differs from the base (p < 0.05)",
        "value": "a seed",
    }
    return figure_png(
        plot_forest(
            rows,
            f"{report.name}: {trials_words(report)}",
            axis=f"{metric_name(report)} (at the right: {', '.join(shown)})",
            base=base.mean if base else None,
            words=words,
        )
    )


_MARK = f"{GENERATOR} report"


def _is_report(path: Path) -> bool:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(document, Mapping) and document.get("generator") == _MARK
