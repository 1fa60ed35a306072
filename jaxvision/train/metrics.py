"""Metrics as running totals: sums that add up over batches, padding excluded, and values computed from them."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.types import Array, PyTree

Direction = Literal["min", "max"]
"""Whether a smaller or a larger value of a metric is better."""


class Metric(Protocol):
    """What is counted beside the loss. Its counts are a JAX pytree of fixed shapes."""

    directions: Mapping[str, Direction]
    """What `compute` gives, and which value is better. A value of a single class is called KIND/CLASS, such as iou/cat,
    and is given only where there is something to compute it from."""

    def zero(self) -> PyTree:
        """The counts before the first batch."""

    def add(self, counts: PyTree, logits: jax.Array, target: Array, valid: Array) -> PyTree:
        """Adds a batch; rows that are not `valid`, bool (B,), do not count."""

    def compute(self, counts: PyTree) -> dict[str, float]:
        """The values, on the host. Waits for the device."""


class Totals(NamedTuple):
    """weight: sum of the examples' weights, and loss: of their weighted losses, float32 scalars. counts: a metric's."""

    weight: jax.Array
    loss: jax.Array
    counts: PyTree


class Accuracy:
    """Share of examples whose likeliest class is the target's: {"accuracy": ...}. Counts: two uint32 numbers."""

    directions: Mapping[str, Direction] = {"accuracy": "max"}

    def zero(self) -> PyTree:
        return jnp.zeros((2,), jnp.uint32)

    def add(self, counts: PyTree, logits: jax.Array, target: Array, valid: Array) -> PyTree:
        """logits (B, K) or (B, 1), target int (B,) or float (B, K)."""
        label = target if target.ndim == 1 else jnp.argmax(target, axis=-1)
        correct = predicted_class(logits) == label.astype(jnp.int32)
        return counts + jnp.stack([jnp.sum(correct & valid, dtype=jnp.uint32), jnp.sum(valid, dtype=jnp.uint32)])

    def compute(self, counts: PyTree) -> dict[str, float]:
        correct, examples = np.asarray(counts).tolist()
        return {"accuracy": correct / examples}


def predicted_class(logits: jax.Array) -> jax.Array:
    """int32 (B,): the class with the largest logit; for one logit 1 where it is positive (a sigmoid over 0.5)."""
    if logits.shape[-1] == 1:
        return (logits[:, 0] > 0).astype(jnp.int32)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def class_probabilities(logits: jax.Array) -> jax.Array:
    """float32 (..., K): softmax of (..., K) logits; for one logit the sigmoid's two probabilities."""
    logits = logits.astype(jnp.float32)
    if logits.shape[-1] == 1:
        return jax.nn.sigmoid(jnp.concatenate([-logits, logits], axis=-1))
    return jax.nn.softmax(logits, axis=-1)
