"""Commands that take a run by name and any of its fields as flags."""

from collections.abc import Callable
from dataclasses import dataclass, fields, make_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin

import tyro

from jaxvision.config import SCHEMA_VERSION, Model, Option, Run
from jaxvision.errors import ConfigError
from jaxvision.experiments import load_run
from jaxvision.serialize import check


@dataclass(frozen=True)
class RunFlags(Run):
    """A run without flags for what there is nothing to choose about."""

    schema_version: Annotated[int, tyro.conf.Suppress] = SCHEMA_VERSION


@dataclass(frozen=True)
class RunArguments:
    """Arguments of a command that takes a run; commands add their own."""

    run: Run


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
    default = _as_flags(arguments, run, flag_value(flags, "--model.name") or run.model.name)
    parsed = tyro.cli(type(default), default=default, args=flags, prog=f"jaxvision {command} {name}")
    values = _shallow(parsed.run)
    settings = _shallow(values["model"])
    values["model"] = Model(**{**settings, "options": _shallow(settings["options"])})
    return arguments(**{**_shallow(parsed), "run": check(Run(**values), where=name)})


def flag_value(flags: list[str], name: str) -> str | None:
    """What follows a flag such as --model.name on the command line; None where the flag is not there."""
    for number, flag in enumerate(flags):
        given, equals, value = flag.partition("=")
        if given == name:
            return value if equals else next(iter(flags[number + 1 :]), None)
    return None


def _shallow(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _as_flags(arguments: type[Arguments], run: Run, model: str) -> Any:
    """The arguments with this run, of a type that has a flag for each field of the run, without a prefix
    (--data.batch-size 64, --phases.0.epochs 3), and for each option of the model, with its type and help."""
    from jaxvision.models import model_option_types, model_options

    defaults, kinds = model_options(model), model_option_types(model)
    values = {**defaults, **(run.model.options if model == run.model.name else {})}
    # `dropout: 0` in a run must not make the flag one for whole numbers.
    values = {k: float(v) if type(defaults.get(k)) is float and type(v) is int else v for k, v in values.items()}
    types = [(option, _flag_type(kinds.get(option, Any), value)) for option, value in values.items()]
    options_type = make_dataclass("Options", types, frozen=True)
    model_type = make_dataclass("ModelFlags", [("options", options_type)], bases=(Model,), frozen=True, kw_only=True)
    settings = {**_shallow(run.model), "name": model, "options": options_type(**values)}
    run_type = make_dataclass("Flags", [("model", model_type)], bases=(RunFlags,), frozen=True, kw_only=True)
    flags = Annotated[run_type, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]  # type: ignore[valid-type]
    typed = make_dataclass(arguments.__name__, [("run", flags)], bases=(arguments,), frozen=True, kw_only=True)
    typed.__doc__ = arguments.__doc__
    return typed(run=run_type(**{**_shallow(run), "model": model_type(**settings)}))


def _flag_type(annotation: Any, default: Option) -> Any:
    """What an option's annotation says as tyro reads it: Annotated[type, "help"]."""
    if annotation is Any:
        return type(default)
    kind, *said = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    help_text = next((text for text in said if isinstance(text, str)), None)
    if kind is Any or help_text is None:
        return kind
    return Annotated[kind, tyro.conf.arg(help=help_text)]
