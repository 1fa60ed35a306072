"""How a run scales over many chips, on paper: the times of a step's parts, added up and compared.

Nothing is measured here. Counted: a model's operations and bytes. From data sheets: chips. Assumed: how much of a chip
a convnet uses, latencies, how evenly chips run, how often they fail. All of it can be replaced by what you measured.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

MICROSECOND = 1e-6


class Ring(NamedTuple):
    """Chips that pass data round. size: how many. bandwidth: bytes a second that each sends. latency: seconds a hop."""

    size: int
    bandwidth: float
    latency: float


@dataclass(frozen=True)
class Chip:
    """flops: a second, bfloat16, dense. rings: the inner first; the last is as large as there are chips.

    chips_per_host, cores_per_host: of the machine it is rented in. utilization: assumed share of flops that a convnet's
    training step reaches.
    """

    name: str
    flops: float
    rings: tuple[Ring, ...]
    chips_per_host: int
    cores_per_host: int
    utilization: float
    source: str


@dataclass(frozen=True)
class Workload:
    """What is trained. flops_per_picture: of a training step. parameter_bytes: of all gradients, float32. norms:
    BatchNorm layers. largest_batch: above it more examples a step no longer save as many steps. batch_per_chip: with
    which a chip runs well. decoded_bytes: of one picture on the device."""

    name: str
    flops_per_picture: float
    parameter_bytes: float
    norms: int
    decoded_bytes: int
    examples: int
    validation: int
    epochs: int
    batch_per_chip: int
    largest_batch: int


@dataclass(frozen=True)
class Assumptions:
    """What is neither counted nor on a data sheet. Rates in units a second, times in seconds."""

    input_rate: float = 400.0
    """Pictures decoded a second and core, see `bench input`; about what a core of a 2-core Intel Xeon did
    (experiments/results/bench/input-cpu.json)."""
    utilization: float | None = None
    """Share of the chip's flops that a step reaches; None: the chip's own."""
    step_seconds: float | None = None
    """Measured time of a step of batch_per_chip pictures on one chip, in place of flops and utilization."""
    overhead: float = 2e-4
    """Of starting a step."""
    overlap: float = 0.5
    """Share of the backward pass (two thirds of a step) during which gradients travel."""
    reduces_per_norm: int = 4
    """All-reduces of a BatchNorm that the step waits for: mean and variance, and two sums in the backward pass."""
    jitter: float = 0.01
    """Standard deviation of a chip's step time, as a share."""
    resident_bytes: float = 2 * 2**30
    """Decoded pictures up to this stay on every device (data.resident_mb), and none is decoded in training."""
    chip_hours_between_failures: float = 50_000.0
    """Of one chip. Llama 3 (Meta 2024): 419 unexpected interruptions in 54 days on 16,384 H100, one in 50,700 hours."""
    restart: float = 300.0
    """From a failure to the next step: allocation, start, compilation, restoring."""
    checkpoint_rate: float = 2e8
    """Bytes a second at which a training state is written."""


class Estimate(NamedTuple):
    """chips, batch: of the run, over all. parts: {part: seconds of a step} without input, which runs beside. step:
    seconds. rate: pictures a second. efficiency: rate over that of as many single chips. bound: what takes longest.
    hours: of the whole run, evaluation, checkpoints and failures included. lost: share of them for these two."""

    chips: int
    batch: float
    parts: dict[str, float]
    input_seconds: float
    step: float
    rate: float
    efficiency: float
    bound: str
    hours: float
    lost: float


def all_reduce_seconds(size: float, chips: int, rings: tuple[Ring, ...]) -> float:
    """Time until the sum over `chips` of `size` bytes is on each: rings within rings.

    Of n chips: 2 (n - 1) / n * size / bandwidth + 2 (n - 1) * latency (a ring, Patarasuk & Yuan 2009: scattered sums,
    then gathered), or where that is less, as for few bytes, 2 log2 n * (size / bandwidth + latency) (a tree). After the
    first half each chip does the same with its 1/n of the bytes on the next ring.
    """
    seconds, left = 0.0, chips
    for number, ring in enumerate(rings):
        n = left if number == len(rings) - 1 else min(left, ring.size)
        once = size / ring.bandwidth
        around = 2 * (n - 1) / n * once + 2 * (n - 1) * ring.latency
        seconds += min(around, 2 * math.ceil(math.log2(n)) * (once + ring.latency))
        size, left = size / n, math.ceil(left / n)
    return seconds


def estimate(work: Workload, chip: Chip, chips: int, given: Assumptions) -> Estimate:
    """What a run on so many chips comes to. Chips beyond a picture each have nothing to do."""
    single, busy = _times(work, chip, 1, given), min(chips, work.largest_batch)
    batch, parts, waits = _times(work, chip, busy, given)
    step = max(sum(parts.values()), waits)
    rate = busy * batch / step
    alone = single[0] / max(sum(single[1].values()), single[2])
    bound = "input" if waits > sum(parts.values()) else max(parts, key=lambda part: parts[part])
    if bound == "compute" and batch < work.batch_per_chip:
        bound = "batch"
    forward = (parts["compute"] / 3 + given.overhead) / batch
    evaluating = work.validation / busy * max(forward, waits / batch)
    useful = work.epochs * (work.examples / rate + evaluating)
    lost = lost_share(work, busy, given)
    hours = useful / (1 - lost) / 3600
    return Estimate(chips, busy * batch, parts, waits, step, rate, rate / (chips * alone), bound, hours, lost)


def _times(work: Workload, chip: Chip, chips: int, given: Assumptions) -> tuple[float, dict[str, float], float]:
    """Batch of each chip; seconds of the parts of a step; seconds that decoding its pictures takes."""
    batch = min(work.batch_per_chip, work.largest_batch / chips)
    if given.step_seconds is None:
        compute = batch * work.flops_per_picture / (chip.flops * (given.utilization or chip.utilization))
    else:
        compute = given.step_seconds * batch / work.batch_per_chip
    gradients = all_reduce_seconds(work.parameter_bytes, chips, chip.rings)
    statistics = work.norms * given.reduces_per_norm * all_reduce_seconds(0, chips, chip.rings)
    parts = {
        "compute": compute,
        "gradients": max(0.0, gradients - given.overlap * compute * 2 / 3),
        "statistics": statistics,
        # The slowest of n normal deviates is about sqrt(2 ln n) deviations late.
        "stragglers": compute * given.jitter * math.sqrt(2 * math.log(chips)),
        "overhead": given.overhead,
    }
    if work.examples * work.decoded_bytes <= given.resident_bytes:
        return batch, parts, 0.0
    return batch, parts, batch * chip.chips_per_host / (chip.cores_per_host * given.input_rate)


def lost_share(work: Workload, chips: int, given: Assumptions) -> float:
    """Share of the time that goes into checkpoints, and into what is done again after failures, with the best interval
    between checkpoints (Young 1974): sqrt(2 * seconds of a checkpoint * seconds between failures)."""
    between = given.chip_hours_between_failures * 3600 / chips
    # Parameters and one moment each, as RMSprop and SGD with momentum have.
    writing = 2 * work.parameter_bytes / given.checkpoint_rate
    return min(0.99, math.sqrt(2 * writing / between) + given.restart / between)


def scales_to(work: Workload, chip: Chip, given: Assumptions, *, most: int = 2**14) -> int:
    """The number of chips, a power of 2, up to which each doubling gives 1.5 times the pictures a second or more."""
    chips = 1
    while 2 * chips <= min(most, work.largest_batch):
        rates = [estimate(work, chip, n, given).rate for n in (chips, 2 * chips)]
        if rates[1] < 1.5 * rates[0]:
            break
        chips *= 2
    return chips


CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            "tpu-v5e",
            flops=197e12,
            # 400 GB/s in both directions over the four links of a 2D torus of 16 x 16: 100 GB/s out along an axis; then
            # 6.4 Tbit/s of data-centre network for 256 chips.
            rings=(
                Ring(16, 100e9, 1 * MICROSECOND),
                Ring(16, 100e9, 1 * MICROSECOND),
                Ring(0, 6.4e12 / 8 / 256, 20 * MICROSECOND),
            ),
            chips_per_host=8,
            cores_per_host=224,
            utilization=0.3,
            source="https://cloud.google.com/tpu/docs/v5e",
        ),
        Chip(
            "h100",
            flops=989e12,
            # NVLink 900 GB/s in both directions among the eight of a machine; then a 400 Gbit/s adapter for each.
            rings=(Ring(8, 450e9, 2 * MICROSECOND), Ring(0, 50e9, 10 * MICROSECOND)),
            chips_per_host=8,
            cores_per_host=208,
            utilization=0.1,
            source="https://www.nvidia.com/en-us/data-center/h100/",
        ),
    )
}
"""By name. Latencies, cores and utilizations are assumed, the rest is the vendors'."""
