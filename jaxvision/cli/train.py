"""`jaxvision train`."""

from dataclasses import dataclass, replace
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from jaxvision.cli.runs import RunArguments, parse_run
from jaxvision.config import Phase, Run
from jaxvision.data import Dataset, open_dataset
from jaxvision.errors import ConfigError
from jaxvision.train.fit import fit
from jaxvision.train.result import Result, duration


@dataclass(frozen=True)
class TrainArguments(RunArguments):
    """Train a named experiment into a run folder: config.json, metrics.jsonl, curves.png, checkpoints, result.json."""

    run_dir: str | None = None
    """A new folder for the run; otherwise runs/NAME, or runs/NAME-2 and so on."""
    smoke: bool = False
    """Two training steps a phase on a little of the data, then everything that follows: does it work at all?"""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on with the run in --run-dir (otherwise runs/NAME) where it was stopped; begin it where there is none."""
    epochs: int | None = None
    """Short for --phases.0.epochs where the run has one phase."""


def train_command(argv: list[str]) -> None:
    """jaxvision train NAME [--field value ...]"""
    arguments = parse_run("train", TrainArguments, argv)
    run = arguments.run
    if arguments.epochs is not None:
        run = with_epochs(run, arguments.epochs)
    if arguments.smoke:
        # Only the sizes of the parts are wanted: as a stream, no picture is decoded for them.
        run = smoke(run, open_dataset(replace(run.data, residence="stream", cache="off")))
    print_result(fit(run, run_dir=arguments.run_dir, resume=arguments.resume), Console(highlight=False))


def with_epochs(run: Run, epochs: int) -> Run:
    """The run with its one phase so long."""
    if len(run.phases) != 1:
        raise ConfigError(
            f"--epochs: {run.name} has {len(run.phases)} phases; say --phases.0.epochs, --phases.1.epochs and so on. "
            f"Received: {epochs}"
        )
    return replace(run, phases=(replace(run.phases[0], epochs=epochs),))


def smoke(run: Run, dataset: Dataset) -> Run:
    """The run cut to two batches of training and one of each evaluation, one epoch a phase, everything else kept."""
    batch = min(run.data.batch_size, len(dataset.train.target))
    evaluated = run.evaluation.batch_size or run.data.batch_size
    validation, test = dataset.validation, dataset.test
    data = replace(
        run.data,
        batch_size=batch,
        cache="off",  # no whole part is decoded for two batches
        limit_train=min(2 * batch, len(dataset.train.target)),
        limit_validation=None if validation is None else min(evaluated, len(validation.target)),
        limit_test=None if test is None else min(evaluated, len(test.target)),
    )
    return replace(
        run,
        name=f"{run.name}-smoke",
        data=data,
        phases=tuple(map(_one_epoch, run.phases)),
        log=replace(run.log, profile_steps=None, wandb_project=None),
    )


def _one_epoch(phase: Phase) -> Phase:
    """The phase squeezed into one epoch, its schedule with it."""
    schedule = replace(
        phase.schedule,
        warmup_epochs=phase.schedule.warmup_epochs / phase.epochs,
        step_epochs=tuple(epoch / phase.epochs for epoch in phase.schedule.step_epochs),
    )
    return replace(phase, epochs=1, schedule=schedule)


def print_result(result: Result, console: Console) -> None:
    """The metrics of each part as a table, and where the run folder is."""
    parts = {"train": result.train, "validation": result.validation, "test": result.test}
    measured = {part: metrics for part, metrics in parts.items() if metrics is not None}
    names = [name for name in result.train if "/" not in name]
    table = Table("best checkpoint", *names, title=result.name, title_justify="left")
    for part, metrics in measured.items():
        table.add_row(part, *(f"{metrics[name]:.4f}" for name in names))
    console.print(table)
    if of_classes := dict.fromkeys(name for metrics in measured.values() for name in metrics if "/" in name):
        table = Table("class", *measured)
        for name in of_classes:
            values = (metrics.get(name) for metrics in measured.values())
            table.add_row(name, *("-" if value is None else f"{value:.4f}" for value in values))
        console.print(table)
    console.print(
        f"epoch {result.best_epoch} of {result.epochs}, step {result.best_step} of {result.steps}; "
        f"{result.parameters:,} parameters; {result.stop_reason.replace('_', ' ')} after {duration(result.seconds)}"
    )
    for number, phase in enumerate(result.phases if len(result.phases) > 1 else ()):
        value = "" if phase.best_value is None else f" ({phase.best_value:.4f})"
        console.print(f"phases.{number}: {phase.epochs} epochs, its best checkpoint at step {phase.best_step}{value}")
    if result.left_out:
        counts = ", ".join(f"{count} of {part}" for part, count in result.left_out.items())
        console.print(f"pictures left out, as they cannot be used: {counts} (left_out.json)")
    console.print(f"run folder: {result.run_dir}", soft_wrap=True)
