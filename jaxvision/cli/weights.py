"""`jaxvision weights`: published weights, and files of weights between Keras and here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table

from jaxvision.cli.subcommands import run_subcommand
from jaxvision.errors import ConfigError, DataError
from jaxvision.outputs import require_absent

if TYPE_CHECKING:
    from jaxvision.train.ready import ReadyModel

PIPED_WIDTH = 1000

WeightsPath = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
"""A file of weights: Keras .h5, .weights.h5 or .keras, or .safetensors."""


def weights_command(argv: list[str]) -> None:
    """jaxvision weights {list, fetch, verify, convert} ..."""
    subcommands: dict[str, Callable[[list[str]], None]] = {
        "list": _list,
        "fetch": _fetch,
        "verify": _verify,
        "convert": _convert,
    }
    usage = f"jaxvision weights {{{','.join(subcommands)}}} ..."
    run_subcommand(argv, subcommands, usage=usage, asks="weights: say what to do")


@dataclass(frozen=True)
class ListArguments:
    """List the weights that Keras publishes for models of ours: which are here, and under what licence."""


def _list(argv: list[str]) -> None:
    from jaxvision.weights.fetch import weights_folder
    from jaxvision.weights.published import PUBLISHED

    tyro.cli(ListArguments, args=argv, prog="jaxvision weights list")
    files = PUBLISHED.values()
    notes = list(dict.fromkeys(file.licence for file in files))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("model", "top", "here", "hash", "note", "file"):
        table.add_column(column, overflow="fold")
    for file in files:
        here = f"{file.path.stat().st_size / 2**20:.1f} MB" if file.path.is_file() else "-"
        note = str(1 + notes.index(file.licence))
        table.add_row(file.model, "yes" if file.top else "no", here, "md5" if file.md5 else "-", note, file.file_name)
    console = Console(highlight=False, soft_wrap=True)
    # Piped, a line is a file, however long.
    Console(highlight=False, width=None if console.is_terminal else PIPED_WIDTH).print(table)
    console.print(f"\nkept in {weights_folder()}")
    for number, note in enumerate(notes, start=1):
        console.print(f"note {number}: {note}")


@dataclass(frozen=True)
class FetchArguments:
    """Download published weights, unless they are here; go on with a download that was cut short. Prints the path."""

    model: Annotated[str, tyro.conf.Positional]
    """A model of `jaxvision weights list`."""
    top: bool = True
    """With the published head of 1,000 classes; --no-top for the base alone."""


def _fetch(argv: list[str]) -> None:
    from jaxvision.weights import published_file

    arguments = tyro.cli(FetchArguments, args=argv, prog="jaxvision weights fetch")
    print(published_file(arguments.model, arguments.top))


@dataclass(frozen=True)
class ModelArguments:
    """The model that a file's weights are for."""

    file: WeightsPath
    """A file of weights: Keras .h5, .weights.h5 or .keras, or .safetensors."""
    input_shape: tuple[int, int, int] | None = None
    """Height, width and channels of the pictures; otherwise the run's, or those the model is usually made with."""
    num_classes: int | None = None
    """Units of the last layer, 0 for a model without a head; otherwise as many as the file's last dense layer has."""


@dataclass(frozen=True)
class VerifyArguments(ModelArguments):
    """Read a whole file of weights; with --model see that it fits. Exit code 2 if anything is wrong."""

    model: str | None = None
    """A model or an experiment of `jaxvision list --all`, package.module:Class of your own, or a run folder."""


def _verify(argv: list[str]) -> None:
    import numpy as np

    from jaxvision.weights.open import open_weights
    from jaxvision.weights.published import looks_like

    arguments = tyro.cli(VerifyArguments, args=argv, prog="jaxvision weights verify")
    with open_weights(arguments.file) as file:
        tensors = [(layer, tensor) for layer in file.layers for tensor in layer.tensors]
        values = [tensor.read() for _, tensor in tensors]
        bad = [
            f"{layer.name}/{tensor.name}"
            for (layer, tensor), value in zip(tensors, values, strict=True)
            if not np.isfinite(value.astype(np.float64)).all()
        ]
        if bad:
            raise DataError(f"{arguments.file}: NaN or infinite numbers in {', '.join(bad[:20])} ({len(bad)} tensors)")
        likely = looks_like(file)
        print(
            f"{arguments.file}: {file.format}, {len(file.layers)} layers, {len(tensors)} tensors,"
            f" {sum(value.size for value in values):,} numbers" + (f"; by its layers {likely}" if likely else "")
        )
    if arguments.model is not None:
        ready = _model(arguments.model, arguments)
        print(f"they are those of {arguments.model}" + (", without a head" if ready.num_outputs is None else ""))


@dataclass(frozen=True)
class ConvertArguments(ModelArguments):
    """Write a file of weights as .safetensors (or .weights.h5), under the names of the model they are for."""

    out: Annotated[str, tyro.conf.Positional] = tyro.MISSING
    """The file to write: NAME.safetensors, or NAME.weights.h5 for Keras 3."""
    model: str = tyro.MISSING
    """A model or an experiment of `jaxvision list --all`, package.module:Class of your own, or a run folder."""


def _convert(argv: list[str]) -> None:
    arguments = tyro.cli(ConvertArguments, args=argv, prog="jaxvision weights convert")
    from jaxvision.weights import export_keras, export_safetensors

    _check_out(arguments.out)
    ready = _model(arguments.model, arguments)
    write = export_keras if arguments.out.endswith(".weights.h5") else export_safetensors
    write(ready.model, arguments.out, name=ready.name)
    print(f"{arguments.out} ({Path(arguments.out).expanduser().stat().st_size / 2**20:.1f} MB)")


def _model(name: str, arguments: "VerifyArguments | ConvertArguments") -> "ReadyModel":
    from jaxvision.train.ready import model_with_file

    return model_with_file(name, arguments.file, input_shape=arguments.input_shape, num_outputs=arguments.num_classes)


def _check_out(out: str) -> None:
    """Before minutes of work rather than after them."""
    if not out.endswith((".weights.h5", ".safetensors")):
        raise ConfigError(f"the file to write must be called NAME.weights.h5 or NAME.safetensors. Received: {out}")
    require_absent(Path(out).expanduser())
