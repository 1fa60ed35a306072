"""`jaxvision bench`: how fast, beside what, and how far from what the hardware can do."""

import dataclasses
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from jaxvision.bench.peers import OURS, PEERS
from jaxvision.cli.subcommands import run_subcommand
from jaxvision.cores import available_cores
from jaxvision.errors import ConfigError

Cases = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CASE...")]
"""Names of cases."""


def bench_command(argv: list[str]) -> None:
    """jaxvision bench {peers, conv, input, ceiling} ..."""
    usage = f"jaxvision bench {{{','.join(BENCHMARKS)}}} ..."
    run_subcommand(argv, BENCHMARKS, usage=usage, asks="bench: say what to measure")


@dataclass(frozen=True)
class Turns:
    """How long is measured, and where the result goes."""

    repeats: int = 5
    """Turns of each competitor; they alternate."""
    seconds: float = 3.0
    """About how long a turn takes."""
    threads: int | None = None
    """CPU threads of each competitor; none: as many as cores."""
    out: str | None = None
    """A JSON file to write."""


@dataclass(frozen=True)
class PeersArguments(Turns):
    """Train the same models on the same batches in jaxvision and in other frameworks, in turn (extra `bench`).

    With --out FILE.json, a bar chart FILE.png is drawn too.
    """

    cases: Cases = ()
    """Which; all where none is named."""
    peers: tuple[str, ...] = ()
    """Who takes part: jaxvision, keras-jax, keras-tensorflow, torch-eager, torch-compile; all where none is named."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of activations and products."""
    ceiling: bool = False
    """Also say which share of a matrix product's FLOP/s each reaches."""


def _peers(argv: list[str]) -> None:
    arguments = tyro.cli(PeersArguments, args=argv, prog="jaxvision bench peers")
    from jaxvision.bench.cases import as_dict, find_cases
    from jaxvision.bench.compare import as_dicts, run_case
    from jaxvision.bench.peers import find_peers
    from jaxvision.bench.tables import print_peers

    cases, peers, threads = find_cases(arguments.cases), find_peers(arguments.peers), _checked_threads(arguments)
    console, measured = _console(), []
    for case in cases:
        with Console(stderr=True).status(case.name) as status:
            results = run_case(
                case,
                peers,
                repeats=arguments.repeats,
                seconds=arguments.seconds,
                precision=arguments.precision,
                threads=threads,
                progress=status.update,
            )
            entry: dict[str, Any] = {"case": as_dict(case), "peers": as_dicts(results)}
            shares = None
            if arguments.ceiling:
                from jaxvision.bench.ceiling import flops_per_picture, matmul_ceiling

                # Measured with each case: a machine that others use too changes.
                flops, (ceiling, _) = flops_per_picture(case), matmul_ceiling(arguments.precision)
                shares = {result.peer: flops * result.median / ceiling for result in results if result.median}
                entry |= {"flops_per_picture": flops, "matmul_flops_per_second": ceiling, "shares": shares}
        print_peers(console, case, results, shares)
        measured.append(entry)
    if arguments.out is None:
        return
    from jaxvision.figures.bars import draw_bars

    document = _write(
        "peers",
        argv,
        arguments.out,
        **_turns(arguments),
        precision=arguments.precision,
        threads=threads,
        cases=measured,
    )
    chart = Path(arguments.out).with_suffix(".png")
    panels = {entry["case"]["name"]: {p["peer"]: p["turns"] for p in entry["peers"]} for entry in measured}
    title = f"Training step, {arguments.precision}, {document['machine']}"
    draw_bars(panels, str(chart), title, unit="img/s: median, minimum to maximum", highlight=OURS)
    print(chart)


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


def _input(argv: list[str]) -> None:
    arguments = tyro.cli(InputArguments, args=argv, prog="jaxvision bench input")
    from jaxvision.bench.decoding import as_dict, run_decoding
    from jaxvision.bench.tables import print_decoding

    threads = _checked_threads(arguments)
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
    print_decoding(_console(), title, rates)
    if arguments.out is not None:
        settings = {"image_size": arguments.image_size, "batch_size": arguments.batch_size, "threads": threads}
        _write("input", argv, arguments.out, **_turns(arguments), pictures=count, readers=as_dict(rates), **settings)


@dataclass(frozen=True)
class CeilingArguments(Turns):
    """A matrix product and a copy on the first device, and the share of the product's FLOP/s a training step has."""

    cases: Cases = ()
    """Which; all where none is named."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of activations and products of the training steps."""


def _ceiling(argv: list[str]) -> None:
    arguments = tyro.cli(CeilingArguments, args=argv, prog="jaxvision bench ceiling")
    from jaxvision.bench.cases import as_dict, find_cases
    from jaxvision.bench.ceiling import copy_ceiling, flops_per_picture, matmul_ceiling
    from jaxvision.bench.compare import run_case
    from jaxvision.bench.tables import print_steps

    cases, threads = find_cases(arguments.cases), _checked_threads(arguments)
    console = _console()
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
        _write(
            "ceiling",
            argv,
            arguments.out,
            **_turns(arguments),
            matmul=matmul,
            copy_bytes_per_second=copied,
            steps=steps,
            **settings,
        )


def _console() -> Console:
    """Standard output; wide enough for the tables where it is no terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=110)


@dataclass(frozen=True)
class ConvArguments:
    """Every way to compute a convolution and its gradients, timed on the shapes that convnets have; * is used."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of pictures and kernels."""
    repeats: int = 6
    """Times each is computed, in turn; the fastest counts."""
    out: str | None = None
    """A JSON file to write."""


def _conv(argv: list[str]) -> None:
    arguments = tyro.cli(ConvArguments, args=argv, prog="jaxvision bench conv")
    if arguments.repeats < 1:
        raise ConfigError(f"--repeats: must be at least 1. Received: {arguments.repeats}")
    _check_out(arguments.out)
    from jaxvision.bench.convolutions import SHAPES, time_shape
    from jaxvision.bench.tables import print_convolutions
    from jaxvision.train.memory import keep_memory

    keep_memory()  # as in training
    with Console(stderr=True).status("") as status:
        timings = {}
        for shape in SHAPES:
            status.update(shape.where)
            timings[shape] = time_shape(shape, arguments.precision, arguments.repeats)
    print_convolutions(_console(), timings)
    if arguments.out is not None:
        found = [
            {"shape": dataclasses.asdict(shape), "flops": shape.flops, "timings": list(map(dataclasses.asdict, entry))}
            for shape, entry in timings.items()
        ]
        _write("conv", argv, arguments.out, precision=arguments.precision, repeats=arguments.repeats, shapes=found)


BENCHMARKS: dict[str, Callable[[list[str]], None]] = {
    "peers": _peers,
    "conv": _conv,
    "input": _input,
    "ceiling": _ceiling,
}


def _checked_threads(arguments: Turns) -> int:
    """Threads to use; and all that can be found wrong before minutes go into measuring."""
    for flag, value in (("--repeats", arguments.repeats), ("--seconds", arguments.seconds)):
        if not value > 0:
            raise ConfigError(f"{flag}: must be above 0. Received: {value}")
    _check_out(arguments.out)
    cores = available_cores()
    if arguments.threads is not None and not 1 <= arguments.threads <= cores:
        raise ConfigError(f"--threads: this process may run on {cores} cores. Received: {arguments.threads}")
    if arguments.threads is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])  # the ceiling's too
    # This process keeps nothing on an accelerator that the competitors need.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    return arguments.threads or cores


def _turns(arguments: Turns) -> dict[str, Any]:
    return {"repeats": arguments.repeats, "seconds": arguments.seconds}


def _check_out(out: str | None) -> None:
    if out is not None and (not out.endswith(".json") or not Path(out).parent.is_dir()):
        raise ConfigError(f"--out: must be a .json file in a folder that exists. Received: {out!r}")


def _write(benchmark: str, argv: list[str], out: str, **content: Any) -> dict[str, Any]:
    from jaxvision.bench.document import document, write_document

    written = document(benchmark, command=shlex.join(["jaxvision", "bench", benchmark, *argv]), **content)
    write_document(out, written)
    print(out)
    return written
