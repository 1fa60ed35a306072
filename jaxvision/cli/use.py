"""`jaxvision evaluate` and `results`: using finished runs."""

import json
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from jaxvision.cli.runs import flag_value
from jaxvision.config import Data, Run
from jaxvision.errors import ConfigError
from jaxvision.report.results import collect_results, measured_line
from jaxvision.serialize import check
from jaxvision.train.folder import read_config, write_json


@dataclass(frozen=True)
class EvaluateArguments:
    """Loss and accuracy of a run's best checkpoint on a part of its data, or of other data."""

    data: Annotated[Data, tyro.conf.FlagConversionOff]
    part: Literal["train", "validation", "test"] = "test"
    """Which part."""
    json: bool = False
    """Print JSON."""


def evaluate_command(argv: list[str]) -> None:
    """jaxvision evaluate RUN [--part validation] [--data.path DIR]"""
    from jaxvision.train.evaluate import evaluate

    if not argv or argv[0].startswith("-"):
        if "--help" not in argv and "-h" not in argv:
            raise ConfigError("evaluate: the run folder comes first: jaxvision evaluate RUN [--part PART]")
        argv = ["RUN", *argv]
        default = Data()
    else:
        default = _data_to_evaluate(read_config(argv[0]).data, argv[1:])
    arguments = tyro.cli(
        EvaluateArguments, default=EvaluateArguments(default), args=argv[1:], prog=f"jaxvision evaluate {argv[0]}"
    )
    data = check(Run(data=arguments.data), where="evaluate").data
    metrics = evaluate(argv[0], part=arguments.part, data=data)
    if arguments.json:
        print(json.dumps({"run": argv[0], "part": arguments.part, **metrics}))
    else:
        print(f"{arguments.part}: " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))


def _data_to_evaluate(data: Data, flags: list[str]) -> Data:
    """The run's data; where the flags name other data, without the limits and the set-aside part of the run's own."""
    if flag_value(flags, "--data.source") is None and flag_value(flags, "--data.path") is None:
        return data
    return replace(data, validation_fraction=0.0, limit_train=None, limit_validation=None, limit_test=None)


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
