"""`jaxvision explain RUN --html`: a page that shows where a run goes wrong."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxvision.cli.use import DataArguments, parse_run_data
from jaxvision.errors import ConfigError


@dataclass(frozen=True)
class PageArguments(DataArguments):
    """Make one HTML file of a run: its worst mistakes beside their heat maps, its confusion matrix, how sure it is."""

    part: Literal["train", "validation", "test"] | None = None
    """Which part. None: validation, or test where there is none, or train."""
    count: int = 12
    """Pictures in each section."""
    layer: str | None = None
    """Layer that the heat maps look at; otherwise the deepest."""
    out: str | None = None
    """The file to write; nothing is written over. None: the run folder's name, with .html."""


def page_command(argv: list[str]) -> None:
    """jaxvision explain RUN --html [--part validation] [--data.path DIR] [--out FILE.html]"""
    run_dir, arguments = parse_run_data("explain --html", PageArguments, argv)
    if arguments.count < 1:
        raise ConfigError(f"--count: must be at least 1. Received: {arguments.count}")
    from jaxvision.explain.page import write_page

    out = arguments.out or f"{Path(run_dir).resolve().name}.html"
    path = write_page(
        run_dir, out, part=arguments.part, data=arguments.data, count=arguments.count, layer=arguments.layer
    )
    print(f"{path} ({Path(path).stat().st_size / 2**20:.1f} MB)")
