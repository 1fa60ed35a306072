"""`jaxvision extract`: features of pictures, for whatever one does with them elsewhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console


@dataclass(frozen=True)
class ExtractArguments:
    """Write what a model's base makes of every picture to an .npz file: features, names, labels, class_names, about.
    Stopped, the same command goes on where it was."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_OR_MODEL")]
    """A run folder, or the name of a model, which needs --weights."""
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """A folder of pictures with or without sub-folders for classes, an .npz file, or a source such as tfds:NAME."""
    out: str
    """The file to write, NAME.npz."""
    level: tuple[str, ...] = ()
    """Layers of the base (`jaxvision summary MODEL` lists them); otherwise its last."""
    pool: Literal["none", "average"] = "none"
    """average: the mean over the picture, one number for each channel."""
    batch_size: int = 32
    """Pictures computed at once."""
    weights: str | None = None
    """With a model: imagenet (published weights, fetched once) or a file of weights."""
    image_size: tuple[int, int] | None = None
    """With a model: height and width to resize to; otherwise what it is usually made for."""


def extract_command(argv: list[str]) -> None:
    """jaxvision extract RUN_OR_MODEL DATA --out FILE.npz [--level LAYER ...]"""
    arguments = tyro.cli(ExtractArguments, args=argv, prog="jaxvision extract")
    from jaxvision.train.extract import extract

    done = extract(
        arguments.source,
        arguments.data,
        arguments.out,
        levels=arguments.level,
        pool=arguments.pool,
        batch_size=arguments.batch_size,
        weights=arguments.weights,
        image_size=arguments.image_size,
        progress=Console(stderr=True).is_terminal,
    )
    print(f"{done.path} ({Path(done.path).stat().st_size / 2**20:.1f} MB)")
    for name, shape in done.shapes.items():
        print(f"  {name}: {shape}")
    if done.resumed:
        print(f"  {done.resumed} of them were there from before")
