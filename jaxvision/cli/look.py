"""`jaxvision list`, `summary` and `preview`: looking before training."""

from dataclasses import dataclass, replace

import tyro
from rich.console import Console
from rich.table import Table

from jaxvision.cli.runs import RunArguments, parse_run
from jaxvision.config import Model, Run
from jaxvision.errors import ConfigError, UserError
from jaxvision.experiments import FOLDER, list_ablations, list_experiments, load_run


@dataclass(frozen=True)
class ListArguments:
    """List the named experiments with what was measured, and the ablations."""

    all: bool = False
    """Also list models and data sources (takes a moment longer)."""


def list_command(argv: list[str]) -> None:
    """jaxvision list [--all]"""
    from jaxvision.report.results import measured_line, read_results

    arguments = tyro.cli(ListArguments, args=argv, prog="jaxvision list")
    console = Console(highlight=False)
    measured = read_results(FOLDER / "results")
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, experiment in list_experiments().items():
        table.add_row(f"[bold]{name}[/]", experiment.summary)
        if name in measured:
            table.add_row("", f"[dim]{measured_line(measured[name])}[/]")
    console.print("experiments (jaxvision train NAME)", table, sep="\n")
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, ablation in list_ablations().items():
        table.add_row(f"[bold]{name}[/]", ablation.summary)
    console.print("ablations (jaxvision ablate NAME)", table, sep="\n")
    if arguments.all:
        from jaxvision.data.open import SOURCES
        from jaxvision.models import model_names

        console.print("models (--model.name)\n" + "\n".join(model_names()))
        console.print("data sources (--data.source)\n" + "\n".join([*SOURCES, "tfds:NAME"]))


@dataclass(frozen=True)
class SummaryArguments(RunArguments):
    """Print the layers of a model with output shapes and parameters; NAME is an experiment or a model."""

    input_shape: tuple[int, int, int] | None = None
    """Height, width and channels of the pictures; otherwise those of the experiment's data."""
    num_classes: int | None = None
    """Number of classes; otherwise that of the experiment's data."""
    phase: int = 0
    """Of a run that freezes layers: mark what this phase trains."""


def summary_command(argv: list[str]) -> None:
    """jaxvision summary NAME [--field value ...]"""
    from jaxvision.models import abstract_model, summarize
    from jaxvision.train.freeze import select
    from jaxvision.train.task import make_task

    arguments = parse_run("summary", SummaryArguments, argv, find=_run_or_model)
    run = arguments.run
    input_shape, num_classes = arguments.input_shape, arguments.num_classes
    if input_shape is not None and min(input_shape) < 1:
        raise ConfigError(f"--input-shape: height, width and channels must be at least 1. Received: {input_shape}")
    if num_classes is not None and num_classes < 2:
        raise ConfigError(f"--num-classes: there must be at least two classes. Received: {num_classes}")
    if input_shape is None or num_classes is None:
        shape, classes = _shape_and_classes(run)
        input_shape, num_classes = input_shape or shape, num_classes or classes
    outputs = make_task(run, num_classes).num_outputs
    if not 0 <= arguments.phase < len(run.phases):
        raise ConfigError(f"--phase: the run has phases 0 to {len(run.phases) - 1}. Received: {arguments.phase}")
    model = abstract_model(run.model.name, input_shape, outputs, **run.model.options)
    trained = select(model, run.phases[arguments.phase], where=f"phases.{arguments.phase}.trainable")
    print(summarize(model, input_shape, trainable=trained))


def _run_or_model(name: str) -> Run:
    from jaxvision.models import model_names

    if name in model_names():
        # No source: the summary is of the model alone.
        return Run(name=f"model {name}", model=Model(name), data=replace(Run().data, source=""))
    return load_run(name)


def _shape_and_classes(run: Run) -> tuple[tuple[int, int, int], int]:
    """Of the run's data where that is here, otherwise what the book uses the model with. Downloads nothing."""
    from jaxvision.data import open_dataset
    from jaxvision.models.registry import BOOK_INPUTS

    known = BOOK_INPUTS.get(run.model.name)
    if run.data.source and not run.data.source.startswith("tfds:"):
        try:
            dataset = open_dataset(run.data)
        except UserError:
            if known is None:
                raise
        else:
            return dataset.image_shape, len(dataset.class_names)
    if run.data.source and run.data.image_size is not None:
        shape, classes = (*run.data.image_size, run.data.channels or 3), 2 if known is None else known[1]
        classes = 2 if run.model.options.get("top", "published") != "published" else classes
        classes = len(run.data.class_names) or classes
        print(f"the data is not here: pictures of {shape} and {classes} classes assumed (--input-shape, --num-classes)")
        return shape, classes
    if known is None:
        raise ConfigError(
            f"summary: say for which pictures: --input-shape HEIGHT WIDTH CHANNELS --num-classes N. "
            f"Received: {run.model.name!r}, which has no usual ones"
        )
    return known


@dataclass(frozen=True)
class PreviewArguments(RunArguments):
    """Draw nine augmented versions of one training picture, with its mask where the task has masks."""

    out: str = "preview.png"
    """The PNG to write."""
    index: int = 0
    """Which training picture."""


def preview_command(argv: list[str]) -> None:
    """jaxvision preview NAME [--out FILE] [--augment.rotation 0.1 ...]"""
    import numpy as np

    from jaxvision.data import open_dataset, open_feed, take
    from jaxvision.report.preview import draw_preview

    arguments = parse_run("preview", PreviewArguments, argv)
    run = arguments.run
    dataset = open_dataset(run.data)
    part = dataset.train
    if not 0 <= arguments.index < len(part.target):
        raise ConfigError(f"--index: the training part has {len(part.target)} pictures. Received: {arguments.index}")
    feed = open_feed(
        take(part, np.array([arguments.index])),
        batch_size=1,
        seed=None,
        residence="auto",
        resident_mb=run.data.resident_mb,
    )
    batch = next(iter(feed.batches(0)))
    draw_preview(
        np.asarray(batch.inputs)[0],
        run.augment,
        arguments.out,
        seed=run.seed,
        title=f"{run.name}: augmentation",
        mask=np.asarray(batch.target)[0] if run.task == "segmentation" else None,
        class_names=dataset.class_names,
    )
    print(arguments.out)
