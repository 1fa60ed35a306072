"""`jaxvision evaluate`, `predict` and `results`: using finished runs."""

import json
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from jaxvision.cli.runs import flag_value
from jaxvision.config import Data, Run
from jaxvision.errors import ConfigError
from jaxvision.report.results import collect_results, measured_line
from jaxvision.serialize import check
from jaxvision.train.folder import read_config, write_json

RunFolder = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="The run folder, runs/NAME.")]


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
class PredictArguments:
    """Classify pictures with a run's best checkpoint: the likeliest classes with their probabilities."""

    run_dir: RunFolder
    images: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE...")]
    """Picture files."""
    top: int = 3
    """How many classes to show."""
    json: bool = False
    """Print JSON: a list of {"path", "classes": [{"name", "probability"}]}."""


def predict_command(argv: list[str]) -> None:
    """jaxvision predict RUN IMAGE... [--top K] [--json]"""
    arguments = tyro.cli(PredictArguments, args=argv, prog="jaxvision predict")
    if not arguments.images:
        raise ConfigError("predict: name at least one picture: jaxvision predict RUN IMAGE...")
    if arguments.top < 1:
        raise ConfigError(f"--top: must be at least 1. Received: {arguments.top}")
    from jaxvision.train.predict import predict

    predictions = predict(arguments.run_dir, arguments.images)
    if arguments.json:
        documents = [
            {
                "path": prediction.path,
                "classes": [
                    {"name": name, "probability": probability}
                    for name, probability in prediction.classes[: arguments.top]
                ],
            }
            for prediction in predictions
        ]
        print(json.dumps(documents, indent=2))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for prediction in predictions:
        shown = "  ".join(f"{name} {probability:.3f}" for name, probability in prediction.classes[: arguments.top])
        table.add_row(prediction.path, shown)
    Console(highlight=False, soft_wrap=True).print(table)


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
