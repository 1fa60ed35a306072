"""`jaxvision bench`: how fast, beside what, and how far from what the hardware can do."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from jaxvision.bench.peers import OURS
from jaxvision.cli.bench_machine import run_ceiling, run_conv, run_input
from jaxvision.cli.bench_scaling import run_scaling
from jaxvision.cli.bench_turns import Cases, Turns, checked_threads, make_console, write
from jaxvision.cli.subcommands import run_subcommand


def bench_command(argv: list[str]) -> None:
    """jaxvision bench {peers, conv, input, ceiling, scaling} ..."""
    usage = f"jaxvision bench {{{','.join(BENCHMARKS)}}} ..."
    run_subcommand(argv, BENCHMARKS, usage=usage, asks="bench: say what to measure")


@dataclass(frozen=True)
class PeersArguments(Turns):
    """Work on the same batches with the same models in jaxvision and in other frameworks, in turn (extra `bench`):
    training steps, and inference by a base without a head.

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

    cases, peers, threads = find_cases(arguments.cases), find_peers(arguments.peers), checked_threads(arguments)
    console, measured = make_console(), []
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

    document = write(
        "peers",
        argv,
        arguments.out,
        **arguments.settings(),
        precision=arguments.precision,
        threads=threads,
        cases=measured,
    )
    chart = Path(arguments.out).with_suffix(".png")
    panels = {
        f"{case.name}: {case.measures}": {p["peer"]: p["turns"] for p in entry["peers"]}
        for case, entry in zip(cases, measured, strict=True)
    }
    title = f"{arguments.precision}, {document['machine']}"
    draw_bars(panels, str(chart), title, unit="img/s: median, minimum to maximum", highlight=OURS)
    print(chart)


BENCHMARKS: dict[str, Callable[[list[str]], None]] = {
    "peers": _peers,
    "conv": run_conv,
    "input": run_input,
    "ceiling": run_ceiling,
    "scaling": run_scaling,
}
