"""What a run's best checkpoint makes of every example of a part of its data, one by one."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.train.confusion import pixel_counts, pixel_matrix
from jaxvision.train.evaluate import RunPart
from jaxvision.train.metrics import Totals, predicted_class
from jaxvision.train.step import from_pictures
from jaxvision.types import Array, Batch

Look = Callable[[jax.Array, Array], tuple[Array, ...]]
"""Logits and target of a batch to what is kept of each of its examples."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Of N examples, in the order of their part. metrics: as `evaluate` gives them. loss: float32 (N,)."""

    metrics: dict[str, float]
    loss: np.ndarray


@dataclass(frozen=True, eq=False)
class JudgedClasses(Judged):
    """target, predicted: int32 (N,). log_odds: float32 (N, K), of every class."""

    target: np.ndarray
    predicted: np.ndarray
    log_odds: np.ndarray

    @cached_property
    def confusion(self) -> np.ndarray:
        """int64 (K, K): examples by true class (rows) and predicted class (columns)."""
        classes = self.log_odds.shape[1]
        pairs = self.target.astype(np.int64) * classes + self.predicted
        return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True, eq=False)
class JudgedLabels(Judged):
    """target: bool (N, K). log_odds: float32 (N, K), over 0 where the class is predicted."""

    target: np.ndarray
    log_odds: np.ndarray


@dataclass(frozen=True, eq=False)
class JudgedMasks(Judged):
    """Of the pixels that count. mean_iou: float32 (N,), over the classes in the picture's true mask, NaN where no pixel
    counts. accuracy: float32 (N,), the share of pixels predicted rightly. confusion: int64 (K, K), pixels of all
    pictures by true class (rows) and predicted class (columns)."""

    mean_iou: np.ndarray
    accuracy: np.ndarray
    confusion: np.ndarray


def judge(opened: RunPart) -> Judged:
    """Every example of the part, in batches as `evaluate` takes them; of masks only each picture's scores are kept.

    Returns: a JudgedClasses, JudgedLabels or JudgedMasks, as the run's task is.
    """
    match opened.restored.card.run.task:
        case "classification":
            metrics, _, columns = _over_all(opened, _look_at_classes)
            return JudgedClasses(metrics, *columns)
        case "multilabel":
            metrics, _, columns = _over_all(opened, _look_at_labels)
            return JudgedLabels(metrics, *columns)
        case "segmentation":
            metrics, totals, columns = _over_all(opened, _look_at_masks)
            loss, mean_iou, accuracy = columns
            confusion = pixel_matrix(totals.counts).astype(np.int64)
            return JudgedMasks(metrics, loss, mean_iou, accuracy, confusion)


def probabilities(log_odds: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-log_odds)), float32."""
    return np.exp(-np.logaddexp(0, -log_odds.astype(np.float64))).astype(np.float32)


def class_log_odds(logits: jax.Array) -> jax.Array:
    """float32 (B, K): log(p / (1 - p)) of each class's probability p; K is 2 where logits are (B, 1).

    They rank examples as p does, and still do where p is so near to 0 or 1 that float32 says 0 or 1.
    """
    logits = logits.astype(jnp.float32)
    if logits.shape[-1] == 1:
        return jnp.concatenate([-logits, logits], axis=-1)
    log_p = jax.nn.log_softmax(logits)
    largest = jnp.argmax(logits, axis=-1, keepdims=True) == jnp.arange(logits.shape[-1])[None, :]
    # log(1 - p) from p itself where p is at most 1/2, and for the largest from the others.
    others = jax.nn.logsumexp(jnp.where(largest, -jnp.inf, logits), axis=-1, keepdims=True)
    rest = jnp.log1p(-jnp.exp(jnp.where(largest, -jnp.inf, log_p)))
    return jnp.where(largest, logits - others, log_p - rest)


def _over_all(opened: RunPart, look: Look) -> tuple[dict[str, float], Totals, tuple[np.ndarray, ...]]:
    """(metrics, totals, (loss (N,), and what `look` keeps, (N, ...) each))."""
    task = opened.task
    graph, variables = nnx.split(opened.restored.model)

    @jax.jit
    def step(variables: nnx.State, totals: Totals, batch: Batch) -> tuple[Totals, tuple[Any, ...]]:
        logits = from_pictures(nnx.merge(graph, variables), batch.inputs, False, None)
        losses = task.loss(logits, batch.target)
        return task.add(totals, logits, batch, losses), (losses, *look(logits, batch.target))

    totals, kept = task.zero(), []
    for batch in opened.feed().batches(epoch=0):
        totals, columns = step(variables, totals, batch)
        valid = np.asarray(batch.valid)
        kept.append([np.asarray(column)[valid] for column in columns])
    return task.compute(totals), totals, tuple(np.concatenate(column) for column in zip(*kept, strict=True))


def _look_at_classes(logits: jax.Array, target: Array) -> tuple[Array, ...]:
    return target, predicted_class(logits), class_log_odds(logits)


def _look_at_labels(logits: jax.Array, target: Array) -> tuple[Array, ...]:
    return target > 0.5, logits.astype(jnp.float32)


def _look_at_masks(logits: jax.Array, target: Array) -> tuple[Array, ...]:
    counts = pixel_counts(logits, target).astype(jnp.float32)
    right = jnp.diagonal(counts, axis1=1, axis2=2)
    true = jnp.sum(counts, axis=2)
    iou = right / jnp.maximum(true + jnp.sum(counts, axis=1) - right, 1.0)
    pixels, there = jnp.sum(true, axis=1), true > 0
    mean_iou = jnp.sum(jnp.where(there, iou, 0.0), axis=1) / jnp.sum(there, axis=1, dtype=jnp.float32)
    return mean_iou, jnp.sum(right, axis=1) / pixels
