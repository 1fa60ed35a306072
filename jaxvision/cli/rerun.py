"""`jaxvision rerun`."""

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.console import Console

EXIT_DIFFERENT = 1


@dataclass(frozen=True)
class RerunArguments:
    """Train a finished run anew from its config.json, and say whether metrics, parameters and result are the same to
    the bit. Exit code 1 where they are not."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """The run folder."""
    run_dir: str | None = None
    """A new folder for the repeat; otherwise RUN-rerun."""
    data_path: Annotated[str | None, tyro.conf.arg(name="data.path")] = None
    """Where the data is now, if it has moved."""


def rerun_command(argv: list[str]) -> None:
    """jaxvision rerun RUN"""
    from jaxvision.cli.train import print_result
    from jaxvision.train.rerun import rerun

    arguments = tyro.cli(RerunArguments, args=argv, prog="jaxvision rerun")
    console = Console(highlight=False, soft_wrap=True)
    repeat = rerun(arguments.run, to=arguments.run_dir, data_path=arguments.data_path)
    print_result(repeat.result, console)
    if not repeat.different:
        console.print(
            f"bit-identical to {arguments.run}: {repeat.lines} lines of metrics.jsonl, {repeat.tensors} tensors of the"
            " best checkpoint, the result",
            markup=False,
        )
    for line in repeat.different:
        console.print(f"different: {line}", markup=False)
    for line in repeat.changed:
        console.print(f"changed since: {line}", markup=False)
    if repeat.different:
        sys.exit(EXIT_DIFFERENT)
