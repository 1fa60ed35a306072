"""`jaxvision evaluate` and `results`: using finished runs."""

import json
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeVar

import tyro

from jaxvision.cli.runs import flag_value
from jaxvision.config import Data, Run
from jaxvision.data.open import undrawn
from jaxvision.errors import ConfigError
from jaxvision.report.results import collect_results, measured_line
from jaxvision.serialize import check
from jaxvision.train.folder import read_config, write_json


@dataclass(frozen=True)
class DataArguments:
    """Arguments of a command that takes a finished run and data to try it on; commands add their own."""

    data: Annotated[Data, tyro.conf.FlagConversionOff]


Arguments = TypeVar("Arguments", bound=DataArguments)


@dataclass(frozen=True)
class EvaluateArguments(DataArguments):
    """Loss and accuracy of a run's best checkpoint on a part of its data, or of other data."""

    part: Literal["train", "validation", "test"] = "test"
    """Which part."""
    json: bool = False
    """Print JSON."""


def evaluate_command(argv: list[str]) -> None:
    """jaxvision evaluate RUN [--part validation] [--data.path DIR]"""
    from jaxvision.train.evaluate import evaluate

    run_dir, arguments = parse_run_data("evaluate", EvaluateArguments, argv)
    metrics = evaluate(run_dir, part=arguments.part, data=arguments.data)
    if arguments.json:
        print(json.dumps({"run": run_dir, "part": arguments.part, **metrics}))
    else:
        print(f"{arguments.part}: " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


def parse_run_data(command: str, arguments: type[Arguments], argv: list[str]) -> tuple[str, Arguments]:
    """Parses `RUN [--flag value ...]` into the run folder and a dataclass of arguments.

    The run's own data is what no --data flag changes. It comes back checked.
    """
    if argv and not argv[0].startswith("-"):
        run_dir, flags = argv[0], argv[1:]
        default = _data_to_evaluate(read_config(run_dir).data, flags)
    elif "--help" in argv or "-h" in argv:
        run_dir, flags, default = "RUN", argv, Data()
    else:
        raise ConfigError(f"{command}: the run folder comes first: jaxvision {command} RUN [--part PART]")
    parsed = tyro.cli(arguments, default=arguments(default), args=flags, prog=f"jaxvision {command} {run_dir}")
    return run_dir, replace(parsed, data=check(Run(data=parsed.data), where=command).data)


def _data_to_evaluate(data: Data, flags: list[str]) -> Data:
    """The run's data; where the flags name other data, without the limits and the drawn validation part of the run."""
    named = [flag_value(flags, f"--data.{field}") for field in ("source", "path")]
    if all(value in (None, own) for value, own in zip(named, (data.source, data.path), strict=True)):
        return data
    return undrawn(data)


@dataclass(frozen=True)
class ResultsArguments:
    """Gather finished runs that differ only in their seed into one JSON file with mean and standard deviation."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN...")]
    """Run folders."""
    out: str
    """The file to write, usually experiments/results/NAME.json."""
    note: str | None = None
    """Circumstances a reader must know, such as other work on the machine meanwhile."""


def results_command(argv: list[str]) -> None:
    """jaxvision results RUN... --out FILE [--note TEXT]"""
    arguments = tyro.cli(ResultsArguments, args=argv, prog="jaxvision results")
    document = collect_results(arguments.runs, note=arguments.note)
    write_json(arguments.out, document)
    print(f"{document['name']}: {measured_line(document)}")
