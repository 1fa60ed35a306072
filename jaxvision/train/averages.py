"""What a run evaluates beside what it trains: averaged weights and BatchNorm's statistics, and warnings about them."""

import math
import warnings

import numpy as np
from flax import nnx

from jaxvision.config import Run
from jaxvision.errors import ShortRunWarning
from jaxvision.nn import BatchNorm
from jaxvision.train.freeze import select

MOST_OF_WEIGHTS, FEW_OF_WEIGHTS = 0.5, 0.1
MOST_OF_STATISTICS, FEW_OF_STATISTICS = 0.03, 0.01
"""Shares of initial values in an average: over the first of each, validation on the embedded digits was far below
training, and a run is warned of; the second is what it is advised to come to."""


def warn_of_averaged_weights(run: Run, steps_per_epoch: int) -> None:
    """Warns of phases too short for `ema_decay`, whose average is what is evaluated."""
    if run.ema_decay is None:
        return
    for number, phase in enumerate(run.phases):
        steps = phase.epochs * steps_per_epoch
        if (left := run.ema_decay**steps) > MOST_OF_WEIGHTS:
            decay = math.floor(1000 * FEW_OF_WEIGHTS ** (1 / steps)) / 1000
            epochs = math.ceil(math.log(FEW_OF_WEIGHTS) / math.log(run.ema_decay) / steps_per_epoch)
            warnings.warn(
                f"ema_decay: after the {steps} steps of phases.{number}, {left:.0%} of the averaged weights are still"
                " those that the phase began with, and the average is what is evaluated, saved and tested. Set"
                f" ema_decay to {decay:g} or less, or phases.{number}.epochs to {epochs} or more. Received:"
                f" {run.ema_decay}",
                ShortRunWarning,
                stacklevel=2,
            )


def warn_of_batch_norm(run: Run, model: nnx.Module, steps_per_epoch: int) -> None:
    """Warns where the run trains BatchNorm on pieces of batches, or moves its statistics too few times to use them in
    evaluation. model: as it is before training."""
    norms = {path: layer for path, layer in nnx.iter_modules(model) if isinstance(layer, BatchNorm | nnx.BatchNorm)}
    moves = dict.fromkeys(norms, 0)
    for phase in run.phases if norms else ():
        for path in norms.keys() - select(model, phase).frozen:
            moves[path] += phase.epochs * steps_per_epoch * run.accumulate
    if run.accumulate > 1 and any(moves.values()):
        size = run.data.batch_size // run.accumulate
        warnings.warn(
            f"accumulate: BatchNorm takes mean and variance of each piece of {size} images, not of the batch of"
            f" {run.data.batch_size}, and moves its moving statistics with each piece: with this model, a step in"
            f" {run.accumulate} pieces is not the step on the whole batch. Received: {run.accumulate}",
            stacklevel=2,
        )
    # Weights from elsewhere bring their statistics along.
    left = {
        path: norms[path].momentum ** count
        for path, count in moves.items()
        if count
        and norms[path].momentum < 1
        and not np.any(norms[path].mean[...])
        and np.all(norms[path].var[...] == 1)
    }
    if short := [path for path in left if left[path] > MOST_OF_STATISTICS]:
        path = max(short, key=left.__getitem__)
        momentum = norms[path].momentum
        epochs = math.ceil(math.log(FEW_OF_STATISTICS) / math.log(momentum) / steps_per_epoch / run.accumulate)
        warnings.warn(
            f"BatchNorm: {moves[path]} times the run moves the statistics that evaluation uses, after which"
            f" {left[path]:.0%} of them are still the 0 and 1 of a new model (momentum {momentum:g}; {len(short)}"
            f" layers, such as {'/'.join(map(str, path))}). Validation may be at chance where training is not. Train"
            f" {epochs} epochs or more, or on smaller batches.",
            ShortRunWarning,
            stacklevel=2,
        )
