"""What the hardware can do, and how much of it a case uses."""

import time
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.bench.cases import Case, Precision, fresh_model, pictures
from jaxvision.config import Augment
from jaxvision.train.freeze import select
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.state import init_state
from jaxvision.train.step import make_train_step
from jaxvision.train.task import make_task
from jaxvision.types import Batch

SECONDS = 1.0
"""How long each size is repeated; the best time counts."""


def matmul_ceiling(precision: Precision) -> tuple[float, int]:
    """FLOP/s of the fastest of a few square matrix products on the first device, and its size.

    float32 is the device's default precision, as in training: TF32 where the device has it.
    """
    sizes = (1024, 2048) if jax.default_backend() == "cpu" else (4096, 8192, 16384)
    product = jax.jit(jnp.matmul)
    rates = []
    for size in sizes:
        a = jax.random.normal(jax.random.key(0), (size, size), jnp.float32).astype(precision)
        rates.append((2 * size**3 / _best_seconds(product, a, a), size))
    return max(rates)


def copy_ceiling() -> float:
    """Bytes per second read and written by `-x` over an array that fits no cache."""
    count = 2**26 if jax.default_backend() == "cpu" else 2**29
    x = jnp.ones(count, jnp.float32)
    negate = jax.jit(jnp.negative)
    return 2 * x.nbytes / _best_seconds(negate, x)


def _best_seconds(function: Callable[..., jax.Array], *arguments: jax.Array) -> float:
    function(*arguments).block_until_ready()
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        function(*arguments).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return best


def flops_per_picture(case: Case) -> float:
    """Floating-point operations of one training step, or of inference, over its pictures, as XLA counts them before it
    optimizes.

    Of the model with the compiler's own convolutions and without augmentation: what has to be computed, whatever a
    lowering makes of it; no gradients of what is frozen. A multiplication and an addition are two operations.
    """
    run = replace(replace(case, augment=Augment()).run("float32"), conv="lax")
    model, count = fresh_model(case, run), case.batch_size
    inputs = np.zeros((count, *case.image_shape), np.uint8)
    if case.num_classes is None:
        graph, variables = nnx.split(model)
        lowered = jax.jit(lambda variables, images: nnx.merge(graph, variables)(images)).lower(variables, inputs)
    else:
        phase = run.phases[0]
        optimizer, _ = make_optimizer(phase, 1)
        task = make_task(run, case.num_classes)
        graph, state = init_state(model, optimizer, task, trained=select(model, phase))
        step = make_train_step(graph, task, optimizer, run, case.num_classes)
        batch = Batch(inputs, pictures(case)[1][:count], np.ones(count, np.bool_))
        lowered = step.lower(state, batch)  # type: ignore[attr-defined]
    return lowered.cost_analysis()["flops"] / count  # type: ignore[index]
