"""Pages of single trials, in a folder beside the report: what they are called, and which are there."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from jaxvision.errors import ConfigError
from jaxvision.report.ablation.page import Pages
from jaxvision.report.ablation.sweep import Sweep
from jaxvision.report.ablation.trial import Trial

LONGEST_NAME = 80
"""Characters of an arm's name in a file's, which may have 255."""


def pages_folder(out: Path) -> Path:
    """report-pages, beside report.html. ConfigError: it is a file."""
    folder = out.with_name(f"{out.stem}-pages")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: must be the folder of the trials' pages. Received: a file. Give another --out.")
    return folder


def trial_pages(sweep: Sweep, out: Path, part: str) -> Iterator[tuple[Trial, Path]]:
    """The finished trials and their files. A name tells of what run a page is, and of what part: of another run, or a
    later one in the same folder, it is another file."""
    for trial in sweep.trials:
        if trial.result:
            digest = hashlib.sha256(trial.arm.encode())
            for name in ("config.json", "environment.json", "result.json"):
                digest.update((trial.folder / name).read_bytes())
            arm = re.sub(r"[^A-Za-z0-9_.+=-]", "-", trial.arm)[:LONGEST_NAME]
            name = f"{arm}-seed-{trial.seed}-{part}-{digest.hexdigest()[:12]}.html"
            yield trial, pages_folder(out) / name


def linked_pages(sweep: Sweep, out: Path, part: str) -> Pages:
    """Those that are there, as the report links them."""
    return {
        trial.place: f"{quote(page.parent.name)}/{quote(page.name)}"
        for trial, page in trial_pages(sweep, out, part)
        if page.is_file()
    }
