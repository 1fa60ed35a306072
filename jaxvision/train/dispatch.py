"""How many training steps one call to the device takes."""

from collections.abc import Callable

import jax
from flax import nnx

from jaxvision.config import Run
from jaxvision.data import Feed
from jaxvision.train.step import Forward

MOST_STEPS, CALL_FLOPS = 32, 2e13
"""Of one call to an accelerator: two seconds' work at 10 TFLOP/s, since a signal is heeded between two calls.
Operations are counted, not timed: which programs a run goes through, and so its bits, must not hang on the clock."""


def steps_per_dispatch(run: Run, feed: Feed, flops: Callable[[], float]) -> int:
    """Training steps in one device call: run.steps_per_dispatch, or 1 on a CPU and up to `MOST_STEPS` elsewhere, as
    many as `CALL_FLOPS` allow; at most what comes between two evaluations or in an epoch, and 1 where batches are
    streamed. flops: of a step."""
    if not feed.resident:
        return 1
    if run.steps_per_dispatch is not None or jax.default_backend() == "cpu":
        most = run.steps_per_dispatch or 1
    else:
        most = int(min(MOST_STEPS, CALL_FLOPS // max(flops(), 1.0)))
    return max(1, min(most, feed.steps_per_epoch - 1, run.evaluation.every_steps or most))


def step_flops(graph: nnx.GraphDef, variables: nnx.State, forward: Forward, feed: Feed) -> float:
    """About the floating-point operations of a training step on a resident feed: three times those of the forward
    pass, as the compiler counts them; 0 where it cannot."""
    inputs = next(feed.stretches(0, [1])).inputs
    one = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), inputs.dtype)
    lowered = jax.jit(lambda v, x: forward(nnx.merge(graph, v), x, False, None)).lower(variables, one)
    counted = lowered.cost_analysis() or {}
    return 3.0 * feed.batch_size * counted.get("flops", 0.0)


def stretch_lengths(first: int, last: int, most: int, stops: Callable[[int], bool]) -> list[int]:
    """Into how many steps a device call each the steps after `first` up to `last` are cut: `most` or 1, so that few
    programs are compiled. Never over a step after which `stops`; the epoch's last step, which may be smaller, alone.
    """
    lengths, begin = [], first
    for step in range(first + 1, last + 1):
        if stops(step) or step >= last - 1:
            whole, rest = divmod(step - begin, most)
            lengths += [most] * whole + [1] * rest
            begin = step
    return lengths
