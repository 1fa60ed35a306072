"""From a phase's description to an optax optimizer with Keras' numbers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxvision.config import Optimizer, Phase, Schedule
from jaxvision.varied import is_zero

LearningRate = Callable[[Any], Any]
"""Step within the phase (int) -> learning rate."""


def make_optimizer(
    phase: Phase, steps_per_epoch: int, groups: optax.GradientTransformation | None = None
) -> tuple[optax.GradientTransformation, LearningRate]:
    """The phase's optimizer and its learning rate as a function of the step within the phase.

    Order: clip the gradient's global norm, scale it (rmsprop, adam, momentum of sgd), add decayed weights (decoupled,
    Loshchilov & Hutter 2019), multiply by the negative learning rate and by the scales of `groups`. RMSprop adds
    epsilon inside the square root and applies its momentum after the learning rate, both as Keras does (optax and
    PyTorch differ by default).
    """
    settings = phase.optimizer
    learning_rate = make_schedule(phase.schedule, settings.learning_rate, phase.epochs, steps_per_epoch)
    parts = []
    if settings.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(settings.clip_norm))
    parts.append(_scaling(settings))
    decay = optax.identity() if is_zero(settings.weight_decay) else optax.add_decayed_weights(settings.weight_decay)
    parts.append(optax.masked(decay, _kernels))
    parts.append(optax.scale_by_learning_rate(learning_rate))
    if groups is not None:
        parts.append(groups)
    if settings.name == "rmsprop" and not is_zero(settings.momentum):
        parts.append(optax.trace(settings.momentum))
    return optax.chain(*parts), learning_rate


def _scaling(settings: Optimizer) -> optax.GradientTransformation:
    match settings.name:
        case "rmsprop":
            return optax.scale_by_rms(settings.rho, settings.epsilon, initial_scale=0.0, eps_in_sqrt=True)
        case "adam" | "adamw":
            return _promoting(optax.scale_by_adam(settings.beta_1, settings.beta_2, settings.epsilon))
        case "sgd" if not is_zero(settings.momentum):
            return optax.trace(settings.momentum, nesterov=settings.nesterov)
        case "sgd":
            return optax.identity()


def _promoting(transformation: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same under `jax_numpy_dtype_promotion=strict`, which optax' Adam breaks (a float to an integer power)."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        with jax.numpy_dtype_promotion("standard"):
            return transformation.update(updates, state, params)

    return optax.GradientTransformation(transformation.init, update)


def _kernels(params: Any) -> Any:
    """True for kernels: biases and the scales and offsets of norms, all vectors, are not decayed."""
    return jax.tree.map(lambda p: p.ndim > 1, params)


def make_schedule(schedule: Schedule, peak: float, epochs: int, steps_per_epoch: int) -> LearningRate:
    """Learning rate by step: a linear warm-up from 0, then constant, cosine, linear or step, ending with the phase."""
    warmup = round(schedule.warmup_epochs * steps_per_epoch)
    rest = max(epochs * steps_per_epoch - warmup, 1)
    match schedule.name:
        case "constant":
            after = optax.constant_schedule(peak)
        case "cosine":
            after = optax.cosine_decay_schedule(peak, rest, alpha=schedule.final_scale)
        case "linear":
            after = optax.linear_schedule(peak, peak * schedule.final_scale, rest)
        case "step":
            after = optax.piecewise_constant_schedule(
                peak, {round(e * steps_per_epoch) - warmup: schedule.step_factor for e in schedule.step_epochs}
            )
    whole = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup]) if warmup else after
    # The step as a float: optax mixes it with floats, which strict type promotion refuses for integers.
    return lambda step: jnp.asarray(whole(jnp.asarray(step, jnp.float32)), jnp.float32)
