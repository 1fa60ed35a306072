"""`jaxvision export`: a finished run for programs that know nothing of this package."""

from dataclasses import dataclass
from typing import Annotated

import tyro


@dataclass(frozen=True)
class ExportArguments:
    """Write a run's best checkpoint for other programs: the whole model with its preprocessing (stablehlo, savedmodel),
    or its weights (safetensors, keras)."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_MODEL")]
    """A run folder, or the name of a model, which needs --weights."""
    to: str
    """stablehlo (a file for JAX), savedmodel (a folder for TensorFlow), safetensors, or keras (.weights.h5); onnx tells
    how it is made, in an environment of its own."""
    out: str
    """The file or folder to write; safetensors are called NAME.safetensors, Keras' weights NAME.weights.h5."""
    weights: str | None = None
    """With a model: imagenet (published weights, fetched once) or a file of weights."""
    image_size: tuple[int, int] | None = None
    """With a model: height and width of the pictures; otherwise what it is usually made for."""
    top: bool = True
    """With the head; --no-top for the base alone, which gives features."""


def export_command(argv: list[str]) -> None:
    """jaxvision export RUN --to {stablehlo, savedmodel, safetensors, keras} --out PATH"""
    arguments = tyro.cli(ExportArguments, args=argv, prog="jaxvision export")
    from jaxvision.export import export

    path = export(
        arguments.source,
        arguments.to,
        arguments.out,
        weights=arguments.weights,
        image_size=arguments.image_size,
        top=arguments.top,
    )
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    print(f"{path} ({sum(file.stat().st_size for file in files if file.is_file()) / 2**20:.1f} MB)")
