"""Commands that take a run by name and any of its fields as flags."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, TypeVar

import tyro

from jaxvision.config import SCHEMA_VERSION, Model, Option, Run
from jaxvision.errors import ConfigError
from jaxvision.experiments import load_run
from jaxvision.serialize import check


@dataclass(frozen=True)
class RunFlags(Run):
    """A run without flags for what there is nothing to choose about."""

    task: Annotated[Literal["classification"], tyro.conf.Suppress] = "classification"
    schema_version: Annotated[int, tyro.conf.Suppress] = SCHEMA_VERSION


RunFields = Annotated[Run, tyro.conf.arg(name="", constructor=RunFlags), tyro.conf.FlagConversionOff]
"""A run whose fields are flags without a prefix: --data.batch-size 64, --data.shuffle False, --phases.0.epochs 3."""


@dataclass(frozen=True)
class RunArguments:
    """Arguments of a command that takes a run; commands add their own."""

    run: RunFields


Arguments = TypeVar("Arguments", bound=RunArguments)


def parse_run(
    command: str, arguments: type[Arguments], argv: list[str], find: Callable[[str], Run] = load_run
) -> Arguments:
    """Parses `NAME [--flag value ...]` into a dataclass of arguments.

    NAME gives the values that no flag changes. Options of the run's model are flags too (--model.options.dropout);
    --model.name starts from the other model's own options. The run comes back checked.
    """
    wants_help = any(flag in argv for flag in ("-h", "--help"))
    if argv and not argv[0].startswith("-"):
        name, flags, run = argv[0], argv[1:], find(argv[0])
    elif wants_help:
        name, flags, run = "NAME", argv, Run()
    else:
        raise ConfigError(f"{command}: the name comes first: jaxvision {command} NAME [--field value ...]")
    default = arguments(run=RunFlags(**_shallow(_with_model_options(run, flags))))
    parsed = tyro.cli(arguments, default=default, args=flags, prog=f"jaxvision {command} {name}")
    return replace(parsed, run=check(Run(**_shallow(parsed.run)), where=name))


def flag_value(flags: list[str], name: str) -> str | None:
    """What follows a flag such as --model.name on the command line; None where the flag is not there."""
    for number, flag in enumerate(flags):
        given, equals, value = flag.partition("=")
        if given == name:
            return value if equals else next(iter(flags[number + 1 :]), None)
    return None


def _shallow(run: Run) -> dict[str, Any]:
    return {field.name: getattr(run, field.name) for field in fields(run)}


def _with_model_options(run: Run, flags: list[str]) -> Run:
    """The run with every option of its model spelled out, so that each has a flag of the option's type."""
    from jaxvision.models import model_options

    name = flag_value(flags, "--model.name") or run.model.name
    defaults = model_options(name)
    given = run.model.options if name == run.model.name else {}
    options = {**defaults, **{option: _as_type_of(defaults.get(option), value) for option, value in given.items()}}
    return replace(run, model=Model(name, options))


def _as_type_of(default: Option, value: Option) -> Option:
    # `dropout: 0` in a run must not make the flag one for whole numbers.
    return float(value) if type(default) is float and type(value) is int else value
