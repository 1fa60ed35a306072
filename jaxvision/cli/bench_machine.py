"""`jaxvision bench` without other frameworks: ceilings of the machine, convolutions and input."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxvision.bench.peers import OURS, PEERS
from jaxvision.cli.bench_turns import Cases, Turns, check_out, checked_threads, make_console, write
from jaxvision.errors import ConfigError


@dataclass(frozen=True)
class InputArguments(Turns):
    """Decode a folder of pictures by jaxvision's streamed input and by bare tf.data, in turn; then from the cache."""

    data: Annotated[str, tyro.conf.Positional] = ""
    """A folder of pictures, one sub-folder a class or with train/ above them. Its files should have been read before:
    it is decoding that is to be measured, not the disk."""
    image_size: tuple[int, int] = (180, 180)
    """Height and width to stretch to."""
    batch_size: int = 32
    """Pictures in a batch."""


def run_input(argv: list[str]) -> None:
    """jaxvision bench input ..."""
    arguments = tyro.cli(InputArguments, args=argv, prog="jaxvision bench input")
    from jaxvision.bench.decoding import as_dict, run_decoding
    from jaxvision.bench.tables import print_decoding

    threads = checked_threads(arguments)
    if not arguments.data:
        raise ConfigError("bench input: name a folder of pictures: jaxvision bench input DATA")
    with Console(stderr=True).status("") as status:
        count, rates = run_decoding(
            arguments.data,
            image_size=arguments.image_size,
            batch_size=arguments.batch_size,
            repeats=arguments.repeats,
            seconds=arguments.seconds,
            threads=threads,
            progress=status.update,
        )
    height, width = arguments.image_size
    title = f"{count:,} pictures decoded to {height}x{width}, pictures/s"
    print_decoding(make_console(), title, rates)
    if arguments.out is not None:
        settings = {"image_size": arguments.image_size, "batch_size": arguments.batch_size, "threads": threads}
        write("input", argv, arguments.out, **arguments.settings(), pictures=count, readers=as_dict(rates), **settings)


@dataclass(frozen=True)
class CeilingArguments(Turns):
    """A matrix product and a copy on the first device, and the share of the product's FLOP/s that training steps
    and inference have."""

    cases: Cases = ()
    """Which; all where none is named."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of activations and products of the models."""


def run_ceiling(argv: list[str]) -> None:
    """jaxvision bench ceiling ..."""
    arguments = tyro.cli(CeilingArguments, args=argv, prog="jaxvision bench ceiling")
    from jaxvision.bench.cases import as_dict, find_cases
    from jaxvision.bench.ceiling import copy_ceiling, flops_per_picture, matmul_ceiling
    from jaxvision.bench.compare import run_case
    from jaxvision.bench.tables import print_steps

    cases, threads = find_cases(arguments.cases), checked_threads(arguments)
    console = make_console()
    products = {precision: matmul_ceiling(precision) for precision in ("float32", "bfloat16")}
    for name, (flops, size) in products.items():
        console.print(f"{size} x {size} matrix product, {name}: {flops / 1e9:,.0f} GFLOP/s")
    copied = copy_ceiling()
    console.print(f"copy: {copied / 1e9:,.1f} GB/s read and written")
    steps = []
    for case in cases:
        with Console(stderr=True).status(case.name) as status:
            (result,) = run_case(
                case,
                {OURS: PEERS[OURS]},
                repeats=arguments.repeats,
                seconds=arguments.seconds,
                precision=arguments.precision,
                threads=threads,
                progress=status.update,
            )
        if result.median is None:
            raise ConfigError(f"bench ceiling: {case.name}: {result.reason}")
        flops = flops_per_picture(case)
        achieved = flops * result.median
        steps.append(
            {
                "case": as_dict(case),
                "flops_per_picture": flops,
                "images_per_second": result.median,
                "turns": result.turns,
                "flops_per_second": achieved,
                "share": achieved / products[arguments.precision][0],
            }
        )
    print_steps(console, steps)
    if arguments.out is not None:
        matmul = {name: {"flops_per_second": flops, "size": size} for name, (flops, size) in products.items()}
        settings = {"precision": arguments.precision, "threads": threads}
        write(
            "ceiling",
            argv,
            arguments.out,
            **arguments.settings(),
            matmul=matmul,
            copy_bytes_per_second=copied,
            steps=steps,
            **settings,
        )


@dataclass(frozen=True)
class ConvArguments:
    """Every way to compute a convolution and its gradients, timed on the shapes that convnets have; * is used."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of pictures and kernels."""
    repeats: int = 6
    """Times each is computed, in turn; the fastest counts."""
    out: str | None = None
    """A JSON file to write."""


def run_conv(argv: list[str]) -> None:
    """jaxvision bench conv ..."""
    arguments = tyro.cli(ConvArguments, args=argv, prog="jaxvision bench conv")
    if arguments.repeats < 1:
        raise ConfigError(f"--repeats: must be at least 1. Received: {arguments.repeats}")
    check_out(arguments.out)
    from jaxvision.bench.convolutions import SHAPES, time_shape
    from jaxvision.bench.tables import print_convolutions
    from jaxvision.train.memory import keep_memory

    keep_memory()  # as in training
    with Console(stderr=True).status("") as status:
        timings = {}
        for shape in SHAPES:
            status.update(shape.where)
            timings[shape] = time_shape(shape, arguments.precision, arguments.repeats)
    print_convolutions(make_console(), timings)
    if arguments.out is not None:
        found = [
            {"shape": dataclasses.asdict(shape), "flops": shape.flops, "timings": list(map(dataclasses.asdict, entry))}
            for shape, entry in timings.items()
        ]
        write("conv", argv, arguments.out, precision=arguments.precision, repeats=arguments.repeats, shapes=found)
