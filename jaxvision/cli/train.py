"""`jaxvision train`."""

import os
import shlex
import statistics
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from jaxvision import distributed
from jaxvision.cli.runs import RunArguments, parse_run
from jaxvision.config import Phase, Run
from jaxvision.data import Dataset, open_dataset
from jaxvision.errors import ConfigError, ShortRunWarning, StoppedError
from jaxvision.processes import is_writer
from jaxvision.serialize import from_json
from jaxvision.train.fit import fit
from jaxvision.train.fit_many import fit_many, fit_together
from jaxvision.train.folder import read_text
from jaxvision.train.result import Result, duration
from jaxvision.watchdog import together


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
    seeds: int | None = None
    """Train so many runs at once in one program, with seeds from --seed on, each in a folder seed-N of its own."""
    distributed: str | None = None
    """Train with other processes, each started with this command: auto finds them (SLURM, Cloud TPU, GKE, Open MPI), or
    HOST:PORT of process 0, with the next two. All must see --run-dir. Otherwise nothing is joined."""
    num_processes: int | None = None
    """With --distributed HOST:PORT: how many processes there are."""
    process_id: int | None = None
    """With --distributed HOST:PORT: which of them this is, from 0; process 0 writes the log."""


def train_command(argv: list[str]) -> None:
    """jaxvision train NAME [--field value ...]"""
    arguments = parse_run("train", TrainArguments, argv)
    run = arguments.run
    if arguments.epochs is not None:
        run = with_epochs(run, arguments.epochs)
    if arguments.seeds is not None and arguments.distributed is not None:
        raise ConfigError(
            "--seeds: runs are trained at once by one process, on the devices of one machine. Leave out --distributed."
            f" Received: {arguments.seeds} with --distributed {arguments.distributed}"
        )
    _join(arguments)
    with together(), warnings.catch_warnings():
        if arguments.smoke:
            warnings.simplefilter("ignore", ShortRunWarning)
            # Only the sizes of the parts are wanted: as a stream, no picture is decoded for them.
            run = smoke(run, open_dataset(replace(run.data, residence="stream", cache="off")))
        if arguments.seeds is None:
            results: Sequence[Result] = [fit(run, run_dir=arguments.run_dir, resume=arguments.resume)]
        else:
            results = _fit_seeds(run, arguments, argv)
    if is_writer():
        console = Console(highlight=False)
        print_result(results[0], console) if arguments.seeds is None else print_results(results, console)


def _join(arguments: TrainArguments) -> None:
    if arguments.distributed is not None:
        distributed.join(arguments.distributed, arguments.num_processes, arguments.process_id)
    elif (arguments.num_processes, arguments.process_id) != (None, None):
        raise ConfigError(
            "distributed: num_processes and process_id need it: give --distributed HOST:PORT of process 0. Received:"
            f" num_processes={arguments.num_processes}, process_id={arguments.process_id}"
        )


def _fit_seeds(run: Run, arguments: TrainArguments, argv: list[str]) -> Sequence[Result]:
    count = arguments.seeds or 0
    if count < 1:
        raise ConfigError(f"--seeds: a number of runs, 1 or more. Received: {count}")
    try:
        return fit_many(run, range(run.seed, run.seed + count), run_dir=arguments.run_dir, resume=arguments.resume)
    except StoppedError as stopped:
        again = shlex.join(["jaxvision", "train", *argv, *([] if arguments.resume else ["--resume"])])
        raise StoppedError(stopped.signal, f"{str(stopped).partition(' Go on with')[0]} Go on with: {again}") from None


def train_together_command(argv: list[str]) -> None:
    """jaxvision train-together CONFIG=RUN_DIR ...: into these run folders, from where they stand; for sweeps."""
    runs = []
    for argument in argv:
        config, equals, run_dir = argument.partition("=")
        if not equals or not Path(config).is_file():
            raise ConfigError(f"train-together: CONFIG=RUN_DIR, config.json of a run. Received: {argument!r}")
        runs.append((from_json(read_text(config), where=config), run_dir))
    if not runs:
        raise ConfigError("train-together: CONFIG=RUN_DIR ..., for `ablate --vectorize`. Received: nothing")
    print_results(fit_together(runs, resume=True), Console(highlight=False))


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


def print_results(results: Sequence[Result], console: Console) -> None:
    """A row for each run, of the last part that it was measured on, and the mean and standard deviation of all."""
    part = next(part for part in ("test", "validation", "train") if getattr(results[0], part) is not None)
    metrics = [getattr(result, part) for result in results]
    names = [name for name in metrics[0] if "/" not in name]
    common = os.path.commonpath([os.path.dirname(result.name) for result in results])
    table = Table("run", "best epoch", *(f"{part} {name}" for name in names), title=common, title_justify="left")
    for result, values in zip(results, metrics, strict=True):
        best = f"{result.best_epoch} of {result.epochs}"
        table.add_row(os.path.relpath(result.name, common or "."), best, *(f"{values[name]:.4f}" for name in names))
    if len(results) > 1:
        columns = [[values[name] for values in metrics] for name in names]
        table.add_section()
        table.add_row("mean", "", *(f"{statistics.mean(column):.4f}" for column in columns))
        table.add_row("standard deviation", "", *(f"{statistics.stdev(column):.4f}" for column in columns))
    console.print(table)
    shown = [result.run_dir for result in results]
    console.print(f"run folders: {shown[0]}{f' to {shown[-1]}' if len(shown) > 1 else ''}", soft_wrap=True)
