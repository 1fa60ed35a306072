"""`jaxvision bench scaling`: how a run would scale over many chips, on paper."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxvision.cli.bench_turns import check_out, make_console, write
from jaxvision.errors import ConfigError, nearest

Plans = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PLAN...")]


@dataclass(frozen=True)
class ScalingArguments:
    """How runs would scale over many chips: operations and bytes are counted, chips are taken from data sheets, the
    rest is assumed or what you measured. Nothing is trained.

    With --out FILE.json, a chart FILE.png is drawn too.
    """

    plans: Plans = ()
    """Which of mini-xception, mini-xception-imagenet, resnet50, vgg16; all where none is named."""
    chip: str = "tpu-v5e"
    """tpu-v5e or h100."""
    chips: tuple[int, ...] = (1, 8, 64, 1024)
    """Numbers of chips."""
    utilization: float | None = None
    """Share of the chip's bfloat16 FLOP/s that a training step reaches; none: assumed for the chip."""
    step_seconds: float | None = None
    """Measured time of a step of --batch-per-chip pictures on one chip, in place of FLOPs and utilization."""
    batch_per_chip: int | None = None
    """Pictures a step on each chip at most; none: the plan's."""
    largest_batch: int | None = None
    """Pictures a step over all chips at most; none: the plan's."""
    examples: int | None = None
    """Training pictures; none: the plan's."""
    input_rate: float | None = None
    """Pictures decoded a second and core (`bench input`); none: as measured on one machine."""
    overlap: float | None = None
    """Share of the backward pass during which gradients travel; none: 0.5."""
    out: str | None = None
    """A JSON file to write."""


def run_scaling(argv: list[str]) -> None:
    """jaxvision bench scaling ..."""
    arguments = tyro.cli(ScalingArguments, args=argv, prog="jaxvision bench scaling")
    _check(arguments)
    from jaxvision.bench.scaling import CHIPS, Assumptions
    from jaxvision.bench.scaling_table import print_scaling, scaling_document
    from jaxvision.bench.workloads import count, find_plans

    plans = find_plans(arguments.plans)
    if arguments.chip not in CHIPS:
        raise ConfigError(
            f"--chip: there is no such chip.{nearest(arguments.chip, CHIPS)} Chips: {', '.join(CHIPS)}; another is near"
            f" enough with --step-seconds. Received: {arguments.chip!r}"
        )
    changes = {name: getattr(arguments, name) for name in ("batch_per_chip", "largest_batch", "examples")}
    changes = {name: value for name, value in changes.items() if value is not None}
    given = {name: getattr(arguments, name) for name in ("utilization", "step_seconds", "input_rate", "overlap")}
    assumptions = Assumptions(**{name: value for name, value in given.items() if value is not None})
    works = [count(name, dataclasses.replace(plan, **changes)) for name, plan in plans.items()]
    document = scaling_document(works, CHIPS[arguments.chip], arguments.chips, assumptions)
    print_scaling(make_console(), document)
    if arguments.out is None:
        return
    from jaxvision.figures.scaling import draw_scaling

    written = write("scaling", argv, arguments.out, **document)
    chart = Path(arguments.out).with_suffix(".png")
    draw_scaling(written, chart)
    print(chart)


def _check(arguments: ScalingArguments) -> None:
    """ConfigError: a number that cannot be."""
    check_out(arguments.out)
    if not arguments.chips or min(arguments.chips) < 1:
        raise ConfigError(f"--chips: must be numbers of at least 1. Received: {' '.join(map(str, arguments.chips))}")
    for name in ("step_seconds", "batch_per_chip", "largest_batch", "examples", "input_rate"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise ConfigError(f"--{name.replace('_', '-')}: must be above 0. Received: {value}")
    if arguments.utilization is not None and not 0 < arguments.utilization <= 1:
        raise ConfigError(f"--utilization: must be above 0 and at most 1. Received: {arguments.utilization}")
    if arguments.overlap is not None and not 0 <= arguments.overlap <= 1:
        raise ConfigError(f"--overlap: must be from 0 to 1. Received: {arguments.overlap}")
    if arguments.step_seconds is not None and len(arguments.plans) != 1:
        raise ConfigError(
            "--step-seconds: is of one plan; name it: jaxvision bench scaling resnet50 --step-seconds 0.05. Received:"
            f" {' '.join(arguments.plans) or 'none'}"
        )
