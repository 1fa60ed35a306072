"""The command line. What a user can mend gives one message and exit code 2; what we must mend, a traceback."""

import importlib
import io
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from jaxvision.errors import ConfigError, HostGoneError, StoppedError, UserError, nearest

EXIT_HOST_GONE = 1
EXIT_USER_ERROR = 2
EXIT_SIGNAL = 128
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class Command(NamedTuple):
    """A command's function `(argv) -> None` as module:name, its arguments, and a line of help; none of those that other
    commands call."""

    function: str
    arguments: str
    help: str


COMMANDS = {
    "list": Command("jaxvision.cli.look:list_command", "[--all]", "what there is to train"),
    "train": Command(
        "jaxvision.cli.train:train_command", "NAME [--field value ...]", "train a named experiment into a run folder"
    ),
    "train-together": Command("jaxvision.cli.train:train_together_command", "CONFIG=RUN_DIR ...", ""),
    "rerun": Command(
        "jaxvision.cli.rerun:rerun_command", "RUN", "train a finished run again; is the result the same to the bit?"
    ),
    "evaluate": Command("jaxvision.cli.use:evaluate_command", "RUN [--part PART]", "test a finished run"),
    "predict": Command(
        "jaxvision.cli.predict:predict_command", "RUN IMAGE...", "classes or masks of pictures by a finished run"
    ),
    "explain": Command(
        "jaxvision.cli.explain:explain_command",
        "RUN IMAGE... [--what W]",
        "heat maps, activations, filters; --html: a page of a run",
    ),
    "summary": Command("jaxvision.cli.look:summary_command", "NAME", "layers, output shapes, parameters of a model"),
    "preview": Command("jaxvision.cli.look:preview_command", "NAME", "draw nine augmented versions of one picture"),
    "prepare": Command("jaxvision.cli.prepare:prepare_command", "WHAT ...", "make a dataset from what was downloaded"),
    "check": Command("jaxvision.cli.prepare:check_command", "DATA", "read every picture; list each bad file and why"),
    "extract": Command(
        "jaxvision.cli.extract:extract_command", "RUN_OR_MODEL DATA --out FILE", "features of pictures, as .npz"
    ),
    "ablate": Command(
        "jaxvision.cli.ablate:ablate_command",
        "NAME [--seeds N ...]",
        "train a recipe without its parts, or varied, several seeds each",
    ),
    "ablate-weights": Command(
        "jaxvision.cli.ablate_weights:ablate_weights_command",
        "RUN",
        "take blocks out of one trained network: what it owes to each",
    ),
    "export": Command(
        "jaxvision.cli.export:export_command", "RUN --to FORMAT --out PATH", "a model for other programs"
    ),
    "weights": Command("jaxvision.cli.weights:weights_command", "WHAT ...", "fetch, check, convert weights; to Keras"),
    "results": Command("jaxvision.cli.use:results_command", "RUN... --out FILE", "gather finished runs into one file"),
    "report": Command(
        "jaxvision.cli.report:report_command", "FOLDER...", "compare runs over seeds: a page, tables, intervals"
    ),
    "bench": Command("jaxvision.cli.bench:bench_command", "WHAT ...", "measure speed: peers, conv, input, ceiling"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns the exit code: 0, 1 where trials of `ablate` failed, `rerun` came to something else or another process of a
    run is gone, 2 for a `UserError` or wrong arguments, 130 for Ctrl-C, 143 for SIGTERM in training, 141 where nobody
    reads the output.
    """
    arguments = [_with_home(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    # Libraries warn of what their callers, us, do on purpose; TensorFlow also greets.
    logging.getLogger("absl").setLevel(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "" not in sys.path:  # `python -m` finds the user's modules in the current directory; the script must too
        sys.path.insert(0, "")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files that are no text, or not this terminal's
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # `jaxvision ... | head`
        # What is still to be flushed at exit goes nowhere, so that Python has nothing to complain of.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _with_home(argument: str) -> str:
    """~/FILE and --flag=~/FILE with the home folder, as a shell has it where nothing is quoted."""
    name, equals, value = argument.partition("=")
    if equals and name.startswith("-"):
        return f"{name}={os.path.expanduser(value)}"
    return os.path.expanduser(argument)


def _run(arguments: list[str]) -> int:
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(_help())
            return 0
        if arguments[0] == "--version":
            import jaxvision

            print(jaxvision.__version__)
            return 0
        _command(arguments[0])(arguments[1:])
    except UserError as error:
        Console(stderr=True, soft_wrap=True).print(_message(error))
        return EXIT_USER_ERROR
    except HostGoneError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", markup=False)
        return EXIT_HOST_GONE
    except SystemExit as leaving:  # from tyro, which has printed why
        return leaving.code if isinstance(leaving.code, int) else 0
    except StoppedError as stopped:
        Console(stderr=True, soft_wrap=True).print(str(stopped), markup=False)
        return EXIT_SIGNAL + stopped.signal
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:
        from jaxvision.bucket import said

        if (received := said(error)) is None:
            raise
        Console(stderr=True, soft_wrap=True).print(f"error: a bucket fails. Received: {received}", markup=False)
        return EXIT_USER_ERROR
    return 0


def _command(name: str) -> Callable[[list[str]], None]:
    if name not in COMMANDS:
        shown = [name for name, command in COMMANDS.items() if command.help]
        raise ConfigError(f"no such command.{nearest(name, shown)} Commands: {', '.join(shown)}. Received: {name}")
    module, _, function = COMMANDS[name].function.partition(":")
    return getattr(importlib.import_module(module), function)


def _help() -> str:
    usages = {name: f"{name} {command.arguments}" for name, command in COMMANDS.items() if command.help}
    width = max(map(len, usages.values()))
    return "\n".join(
        [
            "usage: jaxvision COMMAND ...",
            "",
            *(f"  {usages[name]:<{width}}  {command.help}" for name, command in COMMANDS.items() if command.help),
            "",
            "`jaxvision COMMAND --help` tells all about one; `jaxvision train NAME --help` lists every field.",
        ]
    )


def _message(error: UserError) -> Text:
    """The message with the place it is about (before the first colon) and what was received made to stand out."""
    text = Text.assemble(("error: ", "bold red"), str(error))
    for match in re.finditer(r"(?m)(?:^error: |^ +)([^\s:]+):(?=\s)", text.plain):
        text.stylize("bold", *match.span(1))
    for match in re.finditer(r"Received: (.*)", text.plain):
        text.stylize("yellow", *match.span(1))
    return text
