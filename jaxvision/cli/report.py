"""`jaxvision report`: arms over seeds, compared with a base."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from jaxvision.errors import UserError
from jaxvision.outputs import require_writable

if TYPE_CHECKING:
    from jaxvision.report.ablation import Sweep


@dataclass(frozen=True)
class ReportArguments:
    """Compare runs over seeds: means with 95 % intervals, differences to a base, effects, curves, cost. Writes one
    HTML file that needs no network, and beside it Markdown, JSON and a picture."""

    folders: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER...")]
    """The folder of a sweep (`jaxvision ablate`); or run folders, or folders of these: runs that differ only in their
    seed are an arm, and the first is the base."""
    out: str | None = None
    """The HTML file; the others have its name. An earlier report is written over. None: report.html in the sweep's
    folder, or in the current one."""
    metric: str | None = None
    """What to compare by. None: the runs' own, as accuracy."""
    part: Literal["train", "validation", "test"] | None = None
    """Of which part of the data. None: test where all runs have it, else validation."""
    pages: bool = False
    """Also write a page of each finished run, into report-pages/: confusion matrix, worst mistakes, calibration. Needs
    the data."""


def report_command(argv: list[str]) -> None:
    """jaxvision report FOLDER... [--out report.html] [--metric M] [--part P] [--pages]"""
    arguments = tyro.cli(ReportArguments, args=argv, prog="jaxvision report")
    from jaxvision.report.ablation import analyse, read_sweep, write_report
    from jaxvision.report.ablation.conclusion import conclusion
    from jaxvision.report.ablation.pages import linked_pages, pages_folder
    from jaxvision.report.ablation.words import trials_words
    from jaxvision.report.ablation.write import require_replaceable

    sweep = read_sweep(arguments.folders)
    folder = Path(arguments.folders[0]) if sweep.design else Path()
    out = Path(arguments.out).expanduser() if arguments.out else folder / "report.html"
    require_replaceable(out)
    pages_folder(out)
    require_writable(out.parent)
    report = analyse(sweep, metric=arguments.metric, part=arguments.part)
    console = Console(highlight=False, soft_wrap=True)
    if arguments.pages:
        _write_pages(sweep, out, report.measure.part, console)
    written = write_report(report, out, pages=linked_pages(sweep, out, report.measure.part))
    console.print(f"{report.name}: {trials_words(report)}", *conclusion(report), sep="\n", markup=False)
    console.print(f"in {out.parent}: {', '.join(path.name for path in written)}", markup=False)


def _write_pages(sweep: "Sweep", out: Path, part: str, console: Console) -> None:
    """Those that are not there yet. Data that cannot be opened costs its page, not the report."""
    from jaxvision.explain.page import write_page
    from jaxvision.report.ablation.pages import pages_folder, trial_pages

    pages_folder(out).mkdir(parents=True, exist_ok=True)
    for trial, page in trial_pages(sweep, out, part):
        if page.is_file():
            continue
        try:
            console.print(str(write_page(trial.folder, page, part=part)), markup=False)
        except UserError as error:
            console.print(f"no page of {trial.arm}, seed {trial.seed}: {error}", markup=False)
