"""`jaxvision ablate`: the trials of an ablation, run and gone on with."""

import shlex
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jaxvision.cli.runs import RunArguments, parse_run
from jaxvision.errors import ConfigError
from jaxvision.experiments import load_ablation

if TYPE_CHECKING:
    from jaxvision.sweep.driver import Settings
    from jaxvision.sweep.prepare import Sweep

EXIT_FAILED_TRIALS = 1


@dataclass(frozen=True)
class AblateArguments(RunArguments):
    """Train a recipe with and without its parts (or varied otherwise), several times each, to see what the result comes
    from. Each trial is a run of its own below one folder; the same command goes on where it was stopped or killed, and
    runs nothing twice. Exit code 1 where trials failed.

    Flags change the base of the ablation, which all its arms start from.
    """

    out: str | None = None
    """The ablation's folder. None: runs/NAME."""
    seeds: int | None = None
    """Trials of each arm, with seeds from --seed on. None: as many as the ablation says."""
    arms: tuple[str, ...] = ()
    """Run these arms only, for now: names, or patterns such as 'no-*'."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the arms and what is there of them; run and write nothing."""
    rerun: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run trials again (of these arms) that are of another configuration, data or code than now; what was there goes to
    replaced/."""
    vectorize: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Train trials that differ only in seed, numbers of optimizer and loss or rates of dropout in one program, where
    their pictures fit on the device; the others one by one. The results are the same to rounding."""
    together: int | None = None
    """With --vectorize: at most so many trials in one program. None: all that can."""
    retries: int = 1
    """How often a trial that crashes (killed, out of memory) is tried again; one that ends with a message is not."""
    engine: Literal["loop", "ray"] = "loop"
    """One trial after the other, or as many at once as there is room for (extra `sweep`: Ray)."""
    address: str | None = None
    """With ray: of a running cluster, HOST:PORT or auto, whose machines all see the folder and the data. None: this
    machine alone."""
    cpus_per_trial: int | None = None
    """With ray: processor cores a trial takes; several trials share a machine. None: 1."""
    gpus_per_trial: int | None = None
    """With ray: GPUs a trial takes. None: 1 where any machine has one."""
    tpus_per_trial: int | None = None
    """With ray: TPU chips a trial takes. None: 0."""
    epochs: int | None = None
    """Short for --phases.0.epochs where the base has one phase."""


def ablate_command(argv: list[str]) -> None:
    """jaxvision ablate NAME [--out FOLDER] [--seeds N] [--engine ray] [--field value ...]"""
    arguments = parse_run("ablate", AblateArguments, argv, find=lambda name: load_ablation(name).base)
    _check(arguments)
    # The trials, which are processes of their own, are to have the accelerator.
    import jax

    from jaxvision.cli.train import with_epochs
    from jaxvision.sweep.driver import Settings, ablate
    from jaxvision.sweep.prepare import prepare
    from jaxvision.sweep.ray_engine import Cluster

    jax.config.update("jax_platforms", "cpu")
    run = arguments.run if arguments.epochs is None else with_epochs(arguments.run, arguments.epochs)
    ablation = replace(load_ablation(argv[0]), base=run)
    if arguments.seeds is not None:
        ablation = replace(ablation, seeds=arguments.seeds)
    folder = Path("runs") / ablation.name if arguments.out is None else Path(arguments.out)
    settings = Settings(
        engine=arguments.engine,
        cluster=Cluster(
            address=arguments.address,
            cpus=1 if arguments.cpus_per_trial is None else arguments.cpus_per_trial,
            gpus=arguments.gpus_per_trial,
            tpus=arguments.tpus_per_trial or 0,
        ),
        retries=arguments.retries,
        arms=arguments.arms,
        rerun=arguments.rerun,
        vectorize=arguments.vectorize,
        together=arguments.together,
    )
    if arguments.dry_run:
        _show(prepare(ablation, folder), settings)
        return
    whole = ablate(ablation, folder, settings, again=shlex.join(["jaxvision", "ablate", *argv]))
    print(f"its report: jaxvision report {shlex.quote(str(folder))}")
    if not whole:
        raise SystemExit(EXIT_FAILED_TRIALS)


def _check(arguments: AblateArguments) -> None:
    least = {"retries": 0, "cpus_per_trial": 1, "gpus_per_trial": 0, "tpus_per_trial": 0, "together": 2}
    for name, smallest in least.items():
        value = getattr(arguments, name)
        if value is not None and value < smallest:
            raise ConfigError(f"--{name.replace('_', '-')}: must be at least {smallest}. Received: {value}")
    if arguments.together is not None and not arguments.vectorize:
        raise ConfigError(f"--together: goes with --vectorize. Received: {arguments.together} without it.")
    for name in ("address", "cpus_per_trial", "gpus_per_trial", "tpus_per_trial"):
        value = getattr(arguments, name)
        if value is not None and arguments.engine != "ray":
            raise ConfigError(f"--{name.replace('_', '-')}: goes with --engine ray. Received: {value} without it.")


def _show(sweep: "Sweep", settings: "Settings") -> None:
    """The arms, what is changed in each, and how far its trials are; or the fault that the command would tell."""
    from jaxvision.sweep.finished import state_of
    from jaxvision.sweep.prepare import choose, left, require_same

    plan, console = sweep.plan, Console(highlight=False)
    chosen = choose(plan, settings.arms)
    table = Table(title=Text(f"{plan.name}: {plan.summary}"), title_justify="left", title_style="")
    for column in ("arm", "changed", f"trials ({len(plan.seeds)} seeds)"):
        table.add_column(column, overflow="fold")
    for arm in plan.arms:
        states = Counter(state_of(sweep.folder, trial) for trial in chosen if trial.arm == arm.name)
        changes = "\n".join(f"{name} {value}" for name, value in arm.changes.items())
        trials = ", ".join(f"{count} {state}" for state, count in states.items())
        table.add_row(arm.name, Text(changes), trials or "not now")
    console.print(table)
    for name, found in sweep.differing.items():
        console.print(f"{name}: {'; '.join(found.config + found.data + found.code)}", markup=False, soft_wrap=True)
    require_same(sweep, rerun=settings.rerun)
    count = len(left(sweep, chosen, rerun=settings.rerun))
    console.print(f"{count} of {len(plan.trials)} trials to run, in {sweep.folder}", markup=False, soft_wrap=True)
