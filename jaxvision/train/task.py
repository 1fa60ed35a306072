"""What is predicted: a loss, a metric and a number of outputs. The loop and the models know nothing of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from jaxvision.config import Loss, Run
from jaxvision.train.losses import sigmoid_cross_entropy, softmax_cross_entropy
from jaxvision.train.metrics import predicted_class
from jaxvision.types import Array


@dataclass(frozen=True)
class Task:
    """num_outputs: of the model. loss(logits, target) -> float32 (B,). correct(logits, target) -> bool (B,)."""

    num_outputs: int
    loss: Callable[[jax.Array, Array], jax.Array]
    correct: Callable[[jax.Array, Array], jax.Array]


def make_task(run: Run, num_classes: int) -> Task:
    """The task a run describes, for that many classes."""
    return classification(run.loss, num_classes)


def classification(loss: Loss, num_classes: int) -> Task:
    """One label per picture. Two classes mean one logit and a sigmoid unless `loss.two_logits`."""
    one_logit = num_classes == 2 and not loss.two_logits
    cross_entropy = sigmoid_cross_entropy if one_logit else softmax_cross_entropy
    return Task(
        num_outputs=1 if one_logit else num_classes,
        loss=partial(cross_entropy, label_smoothing=loss.label_smoothing),
        correct=_is_correct,
    )


def _is_correct(logits: jax.Array, target: Array) -> jax.Array:
    label = target if target.ndim == 1 else jnp.argmax(target, axis=-1)
    return predicted_class(logits) == label.astype(jnp.int32)
