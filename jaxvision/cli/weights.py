"""`jaxvision weights`: published weights, and files of weights between Keras and here."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from jaxvision.cli.subcommands import run_subcommand
from jaxvision.errors import ConfigError, DataError

WeightsPath = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
"""A file of weights: Keras .h5, .weights.h5 or .keras, or .safetensors."""


def weights_command(argv: list[str]) -> None:
    """jaxvision weights {list, fetch, verify, convert, export} ..."""
    subcommands: dict[str, Callable[[list[str]], None]] = {
        "list": _list,
        "fetch": _fetch,
        "verify": _verify,
        "convert": _convert,
        "export": _export,
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
    console.print(table)
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

    input_shape: tuple[int, int, int] | None = None
    """Height, width and channels of the pictures; otherwise those the model is usually made with."""
    num_classes: int | None = None
    """Units of the last layer, 0 for a model without a head; otherwise as many as the file's last dense layer has."""


@dataclass(frozen=True)
class VerifyArguments(ModelArguments):
    """Read a whole file of weights; with --model see that it fits. Exit code 2 if anything is wrong."""

    file: WeightsPath = tyro.MISSING
    """A file of weights."""
    model: str | None = None
    """A name from `jaxvision list --all`, or package.module:Class of your own."""


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
        likely = file.model or looks_like({layer.name.replace("/", "_") for layer in file.layers})
        print(
            f"{arguments.file}: {file.format}, {len(file.layers)} layers, {len(tensors)} tensors,"
            f" {sum(value.size for value in values):,} numbers" + (f"; by its layers {likely}" if likely else "")
        )
    if arguments.model is not None:
        _loaded(arguments.model, arguments.file, arguments)
        print(f"they are those of {arguments.model}")


@dataclass(frozen=True)
class ConvertArguments(ModelArguments):
    """Write a file of weights as .safetensors (or .weights.h5), under the names of the model they are for."""

    file: WeightsPath = tyro.MISSING
    """A file of weights: Keras .h5, .weights.h5 or .keras, or .safetensors."""
    out: Annotated[str, tyro.conf.Positional] = tyro.MISSING
    """The file to write: NAME.safetensors, or NAME.weights.h5 for Keras 3."""
    model: str = tyro.MISSING
    """A name from `jaxvision list --all`, or package.module:Class of your own."""


def _convert(argv: list[str]) -> None:
    arguments = tyro.cli(ConvertArguments, args=argv, prog="jaxvision weights convert")
    _check_out(arguments.out)
    _write(_loaded(arguments.model, arguments.file, arguments), arguments.model, arguments.out)


@dataclass(frozen=True)
class ExportArguments(ModelArguments):
    """Write the weights of a run's best checkpoint, or of a model with a file of weights, for Keras 3."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_MODEL")] = tyro.MISSING
    """A run folder, or the name of a model, which needs --weights."""
    out: Annotated[str, tyro.conf.Positional] = tyro.MISSING
    """The file to write: NAME.weights.h5, which Keras' load_weights takes, or NAME.safetensors."""
    weights: str | None = None
    """With a model: a file of weights."""


def _export(argv: list[str]) -> None:
    arguments = tyro.cli(ExportArguments, args=argv, prog="jaxvision weights export")
    _check_out(arguments.out)
    if os.path.isdir(arguments.source):
        from jaxvision.train.checkpoint import restore_best

        given = {"--weights": arguments.weights, "--input-shape": arguments.input_shape}
        given["--num-classes"] = arguments.num_classes  # type: ignore[assignment]
        for flag, value in given.items():
            if value is not None:
                raise ConfigError(f"weights export: a run has its own; {flag} is for a model. Received: {value}")
        restored = restore_best(arguments.source)
        _write(restored.model, restored.card.run.model.name, arguments.out)
    elif arguments.weights is None:
        raise ConfigError(
            f"weights export: {arguments.source!r} is no run folder; a model needs --weights FILE to write."
        )
    else:
        _write(_loaded(arguments.source, arguments.weights, arguments), arguments.source, arguments.out)


def _loaded(name: str, path: str, arguments: ModelArguments):
    """The model of that name with the file's weights."""
    from jaxvision.models import abstract_model, model_options
    from jaxvision.models.registry import BOOK_INPUTS
    from jaxvision.weights import load_keras_weights

    model_options(name)  # raises where there is no such model
    shape = arguments.input_shape or (BOOK_INPUTS[name][0] if name in BOOK_INPUTS else None)
    if shape is None:
        raise ConfigError(f"--input-shape: {name!r} has no usual pictures; give their HEIGHT WIDTH CHANNELS.")
    if min(shape) < 1:
        raise ConfigError(f"--input-shape: height, width and channels must be at least 1. Received: {shape}")
    outputs = _units(path) if arguments.num_classes is None else arguments.num_classes or None
    model = abstract_model(name, shape, outputs)
    load_keras_weights(model, path)
    return model


def _units(path: str) -> int | None:
    """Of the file's last dense layer; None where it has none."""
    from jaxvision.weights.open import open_weights

    with open_weights(path) as file:
        dense = [layer for layer in file.layers if layer.kind == "dense"]
        return max(tensor.shape for tensor in dense[-1].tensors)[-1] if dense else None


def _check_out(out: str) -> None:
    """Before minutes of work rather than after them."""
    if not out.endswith((".weights.h5", ".safetensors")):
        raise ConfigError(f"the file to write must be called NAME.weights.h5 or NAME.safetensors. Received: {out}")


def _write(model, name: str, out: str) -> None:
    from jaxvision.weights import export_keras, export_safetensors

    write = export_keras if out.endswith(".weights.h5") else export_safetensors
    write(model, out, name=name)
    print(f"{out} ({Path(out).expanduser().stat().st_size / 2**20:.1f} MB)")
