"""What is predicted: a loss, a metric and a number of outputs. The loop and the models know nothing of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp

from jaxvision.config import Loss, Run
from jaxvision.errors import ConfigError
from jaxvision.train.confusion import ConfusionMatrix
from jaxvision.train.losses import (
    multilabel_cross_entropy,
    pixel_cross_entropy,
    pixel_weights,
    sigmoid_cross_entropy,
    soft_dice_loss,
    softmax_cross_entropy,
)
from jaxvision.train.metrics import Accuracy, Direction, Metric, Totals
from jaxvision.train.ranking import MultilabelScores
from jaxvision.types import Array, Batch

TARGETS = {1: ("classification", "a class each"), 2: ("multilabel", "any classes each"), 3: ("segmentation", "masks")}
"""By the number of axes of a part's target: the task it is for, and what it is in words."""


@dataclass(frozen=True)
class Task:
    """num_outputs: of the model, per picture or per pixel. loss(logits, target) -> float32 (B,).
    weights(target) -> float32 (B,): what an example counts in means of the loss. headline: the metric that a run is
    judged by.
    """

    num_outputs: int
    loss: Callable[[jax.Array, Array], jax.Array]
    weights: Callable[[Array], jax.Array]
    metric: Metric
    headline: str

    @property
    def directions(self) -> Mapping[str, Direction]:
        """What `compute` gives at most, and which value of it is better."""
        return {"loss": "min", **self.metric.directions}

    def zero(self) -> Totals:
        """Totals before the first batch."""
        return Totals(jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32), self.metric.zero())

    def batch_weight(self, batch: Batch) -> jax.Array:
        """float32 (B,): `weights`, 0 on rows that only pad."""
        return jnp.where(batch.valid, self.weights(batch.target), 0.0)

    def weighted_sum(self, batch: Batch, losses: jax.Array) -> jax.Array:
        """Of the losses (B,), by the examples' weights; float32 scalar."""
        # Not a product alone: where an example that only pads has a loss of infinity, that would be NaN.
        return jnp.sum(jnp.where(batch.valid, self.weights(batch.target) * losses, 0.0))

    def add(self, totals: Totals, logits: jax.Array, batch: Batch, losses: jax.Array) -> Totals:
        """Adds a batch with its losses (B,)."""
        return Totals(
            totals.weight + jnp.sum(self.batch_weight(batch)),
            totals.loss + self.weighted_sum(batch, losses),
            self.metric.add(totals.counts, logits, batch.target, batch.valid),
        )

    def compute(self, totals: Totals) -> dict[str, float]:
        """Mean loss and metrics, on the host. Waits for the device. Raises DataError: nothing to compute them from."""
        metrics = self.metric.compute(totals.counts)
        return {"loss": float(totals.loss) / float(totals.weight), **metrics}


def monitor_direction(run: Run, class_names: Sequence[str]) -> Direction:
    """Whether a smaller or a larger value of the monitored metric is better: as `checkpoint.direction` says, or with
    auto the metric itself. "max" where nothing is monitored."""
    monitor, direction = run.checkpoint.monitor, run.checkpoint.direction
    if direction != "auto":
        return direction
    if monitor is None:
        return "max"
    return make_task(run, len(class_names), class_names).directions[monitor.partition("/")[2]]


def make_task(run: Run, num_classes: int, class_names: Sequence[str] = ()) -> Task:
    """The task a run describes, for that many classes; their names ("0", "1", ... if not given) name metrics.

    Raises: ConfigError: an option of the loss that the task or the number of classes has no use for.
    """
    loss = run.loss
    names = tuple(class_names) or tuple(map(str, range(num_classes)))
    if loss.class_weights and (len(loss.class_weights) != num_classes or not any(loss.class_weights)):
        raise ConfigError(
            f"loss.class_weights: one number for each of the {num_classes} classes, not all of them 0. Received:"
            f" {loss.class_weights}"
        )
    if loss.dice and run.task != "segmentation":
        raise ConfigError(f"loss.dice: is a loss of segmentation. Received: {loss.dice} with task={run.task!r}")
    if loss.two_logits and run.task != "classification":
        raise ConfigError(f"loss.two_logits: is an option of classification. Received: True with task={run.task!r}")
    class_weights = jnp.asarray(loss.class_weights or (1.0,) * num_classes, jnp.float32)
    if run.task == "segmentation":
        return _segmentation(loss, names, class_weights)
    if run.task == "multilabel":
        return _multilabel(loss, names, class_weights)
    return _classification(loss, num_classes, class_weights)


def _classification(loss: Loss, num_classes: int, class_weights: jax.Array) -> Task:
    """One label per picture. Two classes mean one logit and a sigmoid unless `loss.two_logits`."""
    one_logit = num_classes == 2 and not loss.two_logits
    cross_entropy = sigmoid_cross_entropy if one_logit else softmax_cross_entropy

    def weights(target: Array) -> jax.Array:
        return class_weights[target] if target.ndim == 1 else jnp.sum(target * class_weights[None, :], axis=-1)

    return Task(
        num_outputs=1 if one_logit else num_classes,
        loss=partial(cross_entropy, label_smoothing=loss.label_smoothing),
        weights=weights,
        metric=Accuracy(),
        headline="accuracy",
    )


def _multilabel(loss: Loss, names: tuple[str, ...], class_weights: jax.Array) -> Task:
    """Any number of labels per picture: one logit with a sigmoid for each class."""
    return Task(
        num_outputs=len(names),
        loss=partial(multilabel_cross_entropy, class_weights=class_weights, label_smoothing=loss.label_smoothing),
        weights=lambda target: jnp.ones((len(target),), jnp.float32),
        metric=MultilabelScores(names),
        headline="average_precision",
    )


def _segmentation(loss: Loss, names: tuple[str, ...], class_weights: jax.Array) -> Task:
    """One class per pixel, a softmax over as many logits as classes. A picture counts by the weights of its pixels, so
    that the loss is the weighted mean over all pixels of a batch or an epoch, as Keras' with `ignore_class`."""

    def losses(logits: jax.Array, target: Array) -> jax.Array:
        target = jnp.asarray(target)
        cross_entropy = pixel_cross_entropy(
            logits, target, pixel_weights(target, class_weights), label_smoothing=loss.label_smoothing
        )
        return cross_entropy + loss.dice * soft_dice_loss(logits, target) if loss.dice else cross_entropy

    return Task(
        num_outputs=len(names),
        loss=losses,
        weights=lambda target: jnp.mean(pixel_weights(jnp.asarray(target), class_weights), axis=(1, 2)),
        metric=ConfusionMatrix(names),
        headline="mean_iou",
    )
