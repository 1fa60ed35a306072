"""`jaxvision prepare` and `check`: data, before training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import Progress

from jaxvision.cli.runs import RunArguments, parse_run
from jaxvision.cli.subcommands import run_subcommand
from jaxvision.outputs import require_absent, write_output

USAGE = "jaxvision prepare dogs-vs-cats SOURCE [--to FOLDER], or jaxvision prepare arrays NAME --to FILE.npz"


def prepare_command(argv: list[str]) -> None:
    """jaxvision prepare {dogs-vs-cats, arrays} ..."""
    makers = {"dogs-vs-cats": _dogs_vs_cats, "arrays": _arrays}
    run_subcommand(argv, makers, usage=USAGE, asks="prepare: say what to make")


@dataclass(frozen=True)
class DogsVsCatsArguments:
    """Make the book's small dataset, {train,validation,test}/{cat,dog}, from Kaggle's pictures."""

    source: Annotated[str, tyro.conf.Positional]
    """What Kaggle gives: train.zip, dogs-vs-cats.zip, or the folder of cat.0.jpg ... unpacked from it."""
    to: str = "data/cats_vs_dogs_small"
    """The folder to make."""
    train: int = 1000
    """Training pictures of each class."""
    validation: int = 500
    """Validation pictures of each class."""
    test: int = 1000
    """Test pictures of each class; 0 for no test part."""
    link: Literal["copy", "hard", "symlink"] = "copy"
    """Links take no space, but who then writes to a picture writes to the source's."""


def _dogs_vs_cats(argv: list[str]) -> None:
    from jaxvision.data.prepare import prepare_dogs_vs_cats

    arguments = tyro.cli(DogsVsCatsArguments, args=argv, prog="jaxvision prepare dogs-vs-cats")
    report = prepare_dogs_vs_cats(
        arguments.source,
        arguments.to,
        train=arguments.train,
        validation=arguments.validation,
        test=arguments.test,
        link=arguments.link,
    )
    _print_counts(report.destination, report.counts, report.how)


@dataclass(frozen=True)
class ArraysArguments(RunArguments):
    """Decode the data of an experiment into one .npz, to train from where TensorFlow or the files are not at hand."""

    to: str = "data.npz"
    """The file to make; train from it with --data.source npz --data.path FILE."""


def _arrays(argv: list[str]) -> None:
    from jaxvision.data.prepare import prepare_arrays

    arguments = parse_run("prepare arrays", ArraysArguments, argv)
    report = prepare_arrays(arguments.run.data, arguments.to)
    _print_counts(report.destination, report.counts, report.how)


def _print_counts(destination: str, counts: dict[str, dict[str, int]], how: str) -> None:
    print(f"{destination} ({how})")
    for part, classes in counts.items():
        print(f"  {part}: " + ", ".join(f"{count} {name}" for name, count in classes.items()))


@dataclass(frozen=True)
class CheckArguments:
    """Read every picture and mask of a dataset to its last byte; list each bad file and why. Exit code 2 if any is."""

    data: Annotated[str, tyro.conf.Positional]
    """A folder of pictures (with a folder of masks, where it has one), a .csv or an .npz file."""
    class_names: tuple[str, ...] = ()
    """Names of the classes in masks, or in a column of labels, as --data.class-names has them."""
    label_offset: int = 0
    """Number of the first class in labels or masks as stored."""
    label_values: tuple[int, ...] = ()
    """Numbers of the classes in labels as stored, in the order of the classes."""
    mask_values: tuple[int, ...] = ()
    """Numbers of the classes in masks as stored, in the order of the classes."""
    mask_thresholds: tuple[int, ...] = ()
    """Cut grey levels or instance numbers in masks into classes, as --data.mask-thresholds does."""
    ignore_label: int | None = None
    """Number in masks as stored that marks pixels that count nowhere."""
    target: str | None = None
    """The column of a .csv that names the class, as --data.target has it."""
    labels_per_image: Literal["auto", "one", "any"] = "auto"
    """Classes that a row of a .csv has, as --data.labels-per-image has it."""
    file_column: str | None = None
    """The column of a .csv with file names."""
    part_column: str | None = None
    """The column of a .csv that says train, validation or test."""
    image_folder: str | None = None
    """The folder that file names in a .csv are relative to, seen from the .csv's."""
    hashes: str | None = None
    """Write the SHA-256 of each file that was read to this new file, as sha256sum does."""
    against: str | None = None
    """A file of hashes written before: name files that have changed since, are missing or new. A flipped bit in a JPEG
    shows in no other way."""
    json: bool = False
    """Print JSON: counts by kind of fault, and every file."""


def check_command(argv: list[str]) -> None:
    """jaxvision check DATA [--hashes FILE] [--against FILE] [--json] ..."""
    from jaxvision.data.check import check_data, format_report
    from jaxvision.data.check_hashes import hash_list, read_hash_list

    arguments = tyro.cli(CheckArguments, args=argv, prog="jaxvision check")
    if arguments.hashes is not None:
        require_absent(Path(arguments.hashes))
    if arguments.against is not None:
        read_hash_list(arguments.against)  # before minutes go into decoding
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=None)
        report = check_data(
            arguments.data,
            class_names=arguments.class_names,
            label_offset=arguments.label_offset,
            label_values=arguments.label_values,
            mask_values=arguments.mask_values,
            mask_thresholds=arguments.mask_thresholds,
            ignore_label=arguments.ignore_label,
            target=arguments.target,
            labels_per_image=arguments.labels_per_image,
            file_column=arguments.file_column,
            part_column=arguments.part_column,
            image_folder=arguments.image_folder,
            against=arguments.against,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if arguments.hashes is not None:
        write_output(Path(arguments.hashes), hash_list(report.hashes))
    print(report.to_json() if arguments.json else format_report(report))
    if not report.ok:
        raise SystemExit(2)
