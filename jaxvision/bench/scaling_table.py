"""What `bench scaling` leaves and prints."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console

from jaxvision.bench.scaling import Assumptions, Chip, Estimate, Ring, Workload, all_reduce_seconds, estimate, scales_to
from jaxvision.bench.tables import make_table, rate

BOUNDS = {
    "compute": "compute",
    "gradients": "gradients",
    "statistics": "BatchNorm's sums",
    "stragglers": "the slowest chip",
    "overhead": "starting steps",
    "input": "decoding",
    "batch": "small batches",
}
"""What takes longest, in words."""
HEAD = ("", "chips", "batch", "img/s", "of linear", "all epochs", "takes longest")


def scaling_document(works: Sequence[Workload], chip: Chip, chips: Sequence[int], given: Assumptions) -> dict[str, Any]:
    """JSON values: {chip, assumptions, runs: [{workload, scales_to, estimates}]}, all that `estimates_of` needs."""
    runs = []
    for work in works:
        found = [estimate(work, chip, n, given)._asdict() for n in chips]
        runs.append(
            {"workload": dataclasses.asdict(work), "scales_to": scales_to(work, chip, given), "estimates": found}
        )
    return {"chip": dataclasses.asdict(chip), "assumptions": dataclasses.asdict(given), "runs": runs}


def again(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document's simulation once more, from what it says was put in."""
    works = [TypeAdapter(Workload).validate_python(run["workload"]) for run in document["runs"]]
    chip = TypeAdapter(Chip).validate_python(document["chip"])
    given = TypeAdapter(Assumptions).validate_python(document["assumptions"])
    return scaling_document(works, chip, [found["chips"] for found in document["runs"][0]["estimates"]], given)


def scaling_markdown(document: Mapping[str, Any]) -> str:
    """A Markdown table, a row a run and number of chips; then up to how many chips each run scales, and the command."""
    lines = ["| " + " | ".join(("run", *HEAD[1:])) + " |", "|---|" + "---:|" * 5 + "---|"]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(document)]
    lines += ["", f"{_up_to(document)}", "", f"`{document['command']}`"]
    return "\n".join(lines) + "\n"


def print_scaling(console: Console, document: Mapping[str, Any]) -> None:
    """The same as a table, and up to which number of chips each run scales."""
    chip, given = document["chip"], document["assumptions"]
    used = given["utilization"] or chip["utilization"]
    of = f"{used:.0%} of its FLOP/s" if given["step_seconds"] is None else f"{given['step_seconds']:g} s a step"
    table = make_table(f"{chip['name']}, {of}: not measured, simulated", list(HEAD))
    for row in _rows(document):
        table.add_row(f"[bold]{row[0]}", *row[1:])
    console.print(table)
    console.print(_up_to(document), soft_wrap=True)


def _up_to(document: Mapping[str, Any]) -> str:
    chips = (f"{run['workload']['name']} {run['scales_to']:,}" for run in document["runs"])
    return f"Chips up to which each doubling makes at least 1.5 times as many pictures a second: {', '.join(chips)}."


def two_processes_markdown(document: Mapping[str, Any]) -> str:
    """A Markdown table of what `jaxvision.bench.two_processes` left, in ms, and a line with command and machine."""
    lines = ["| ms | alone | together | simulated |", "|---|---:|---:|---:|"]
    for step in document["steps"]:
        times = " | ".join(f"{1e3 * step[name]:.1f}" for name in ("alone", "together", "predicted"))
        lines.append(f"| step of {step['case']} | {times} |")
    ring = Ring(**document["ring"])
    for size, seconds in document["all_reduce_seconds"].items():
        simulated = 1e3 * all_reduce_seconds(int(size), 2, (ring,))
        lines.append(f"| all-reduce of {int(size):,} bytes | | {1e3 * seconds:.2f} | {simulated:.2f} |")
    lines += ["", f"`{document['command']}`, {document['machine']}, {document['date']}."]
    return "\n".join(lines) + "\n"


def _rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for run in document["runs"]:
        for values in run["estimates"]:
            found = Estimate(**values)
            rows.append(
                (
                    run["workload"]["name"],
                    f"{found.chips:,}",
                    f"{found.batch:,.0f}",
                    rate(found.rate),
                    f"{found.efficiency:.0%}",
                    duration(found.hours),
                    BOUNDS[found.bound],
                )
            )
    return rows


def duration(hours: float) -> str:
    """12 s, 5.0 min, 3.1 h, 4.2 days."""
    for unit, seconds in (("days", 86400), ("h", 3600), ("min", 60)):
        if 3600 * hours >= 1.5 * seconds:
            return f"{3600 * hours / seconds:.1f} {unit}"
    return f"{3600 * hours:.1f} s"
