"""What the benchmarks print."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jaxvision.bench.cases import Case, from_dict
from jaxvision.bench.compare import PeerResult, ratio
from jaxvision.bench.convolutions import Shape, Timing
from jaxvision.bench.decoding import READERS, Rates
from jaxvision.bench.peers import OURS


def print_peers(
    console: Console, case: Case, results: Sequence[PeerResult], shares: dict[str, float] | None = None
) -> None:
    """A row a peer: rates, how many times as fast jaxvision is, time to the first step, and whether losses or
    features agree.

    shares: {peer: share of the matmul ceiling}. Reasons and settings stand below the table.
    """
    height, width, channels = case.image_shape
    columns = ["", "min", "median", "max", "jaxvision is", *(["of ceiling"] if shares else []), "first step"]
    columns += ["features" if case.is_inference else "losses"]
    table = make_table(f"{case.name}: {case.measures}, {case.batch_size} x {height}x{width}x{channels}, img/s", columns)
    ours = next((result for result in results if result.peer == OURS), None)
    for result in results:
        if result.median is None:
            table.add_row(f"[bold]{result.peer}", *[""] * (len(columns) - 2), result.status)
            continue
        times = None if ours is None or result is ours else ratio(ours, result)
        table.add_row(
            f"[bold]{result.peer}",
            *(rate(value) for value in (min(result.turns), result.median, max(result.turns))),
            "" if times is None else f"{times:.2f} x",
            *([f"{shares[result.peer]:.1%}"] if shares else []),
            f"{result.seconds_to_first_step:.1f} s",
            "agree" if result.status == "ok" else result.status,
        )
    console.print(table)
    for result in results:
        said = [f"{result.status}: {result.reason}"] if result.reason else []
        said += [result.setup] if result.setup else []
        console.print(f"{result.peer}: {'; '.join(said)}", markup=False, soft_wrap=True)
    console.print()


def peers_markdown(document: Mapping[str, Any]) -> str:
    """A document of `bench peers` as Markdown: median img/s by case and peer, and how many times as fast we are.

    A table of training steps, and one of inference where it was measured. A last line says by which command, on which
    machine and with which versions.
    """
    peers = list(dict.fromkeys(result["peer"] for entry in document["cases"] for result in entry["peers"]))
    measured: dict[str, list[str]] = {}
    for entry in document["cases"]:
        case, results = from_dict(entry["case"]), {result["peer"]: result for result in entry["peers"]}
        cells = [_cell(peer, results.get(peer) or {}) for peer in peers]
        row = f"| {case.name}, batches of {case.batch_size} | {' | '.join(cells)} |"
        measured.setdefault(case.measures, []).append(row)
    lines: list[str] = []
    for what, rows in measured.items():
        lines += [f"| {what}, {document['precision']} | {' | '.join(peers)} |", "|---" * (len(peers) + 1) + "|"]
        lines += [*rows, ""]
    versions = {
        name: number
        for entry in document["cases"]
        for r in entry["peers"]
        for name, number in (r["versions"] or {}).items()
    }
    told = ", ".join(f"{name} {number}" for name, number in sorted(versions.items()))
    lines += [f"Medians of {document['repeats']} turns, and in brackets how many times as fast jaxvision is."]
    lines += [
        f"`{document['command']}`, {document['machine']}, {document['threads']} threads, {document['date']}; {told}.",
        "",
    ]
    return "\n".join(lines)


def _cell(peer: str, result: Mapping[str, Any]) -> str:
    if not result.get("turns"):
        return result.get("status", "")
    times = "" if peer == OURS or not result["ratio"] else f" ({result['ratio']:.2f} x)"
    return f"{rate(result['images_per_second']['median'])} img/s{times}"


def print_decoding(console: Console, title: str, rates: Rates) -> None:
    """A row a reader: rates, and how many times as fast jaxvision decodes."""
    table = make_table(title, ["", "min", "median", "max", "jaxvision is"])
    ours = statistics.median(rates["jaxvision"])
    for reader, turns in rates.items():
        median = statistics.median(turns)
        times = f"{ours / median:.2f} x" if reader == "tf.data" else ""
        table.add_row(f"[bold]{READERS[reader]}", rate(min(turns)), rate(median), rate(max(turns)), times)
    console.print(table)


def print_convolutions(console: Console, timings: Mapping[Shape, Sequence[Timing]]) -> None:
    """A table for each of the three computations, a row a shape: ms by candidate, * at the one used, its GFLOP/s."""
    for what in ("forward", "input gradient", "weight gradient"):
        chosen = {shape: next(t for t in entry if t.what == what) for shape, entry in timings.items()}
        names = list(dict.fromkeys(name for timing in chosen.values() for name in timing.seconds))
        table = make_table(f"{what}, fastest ms (* is used)", ["", *names, "GFLOP/s"])
        for shape, timing in chosen.items():
            cells = [
                f"{'*' if name == timing.used else ''}{1e3 * timing.seconds[name]:.3g}"
                if name in timing.seconds
                else ""
                for name in names
            ]
            rate = f"{shape.flops / timing.seconds[timing.used] / 1e9:,.0f}"
            size = f"{shape.batch} x {shape.size}x{shape.size}x{shape.channels} to {shape.features}"
            table.add_row(f"[bold]{shape.where}[/bold]  {size}", *cells, rate)
        console.print(table)


def print_steps(console: Console, steps: Sequence[dict]) -> None:
    """A row a case: counted operations, rate, and the share of the matmul ceiling that makes."""
    table = make_table("", ["", "", "MFLOP a picture", "img/s", "GFLOP/s", "of ceiling"])
    for step in steps:
        table.add_row(
            f"[bold]{step['case']['name']}",
            from_dict(step["case"]).measures,
            f"{step['flops_per_picture'] / 1e6:,.1f}",
            rate(step["images_per_second"]),
            f"{step['flops_per_second'] / 1e9:,.0f}",
            f"{step['share']:.1%}",
        )
    console.print(table)


def rate(value: float) -> str:
    """1,013 or 25.3."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def make_table(title: str, columns: Sequence[str]) -> Table:
    """The first column is text, the others are numbers."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    return table
