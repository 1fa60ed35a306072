"""Metrics as running totals: sums that add up over batches, padding excluded, and values computed from them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.types import Array

METRIC_NAMES = ("loss", "accuracy")
"""What `Totals.compute` gives."""


class Totals(NamedTuple):
    """Sums over valid examples, float32 scalars: how many, their losses, how many were classified rightly.

    Whole numbers are exact up to 2**24 examples.
    """

    examples: jax.Array
    loss: jax.Array
    correct: jax.Array

    @classmethod
    def zero(cls) -> "Totals":
        return cls(*(jnp.zeros((), jnp.float32) for _ in cls._fields))

    def add(self, *, losses: jax.Array, correct: jax.Array, valid: Array) -> "Totals":
        """Adds a batch: losses float32 (B,), correct bool (B,), valid bool (B,)."""
        return Totals(
            self.examples + jnp.sum(valid, dtype=jnp.float32),
            self.loss + jnp.sum(jnp.where(valid, losses, 0.0)),
            self.correct + jnp.sum(correct & valid, dtype=jnp.float32),
        )

    def compute(self) -> dict[str, float]:
        """Means over the examples, on the host: {"loss": ..., "accuracy": ...}. Waits for the device."""
        examples, loss, correct = (float(np.asarray(value)) for value in self)
        return {"loss": loss / examples, "accuracy": correct / examples}


def predicted_class(logits: jax.Array) -> jax.Array:
    """int32 (B,): the class with the largest logit; for one logit 1 where it is positive (a sigmoid over 0.5)."""
    if logits.shape[-1] == 1:
        return (logits[:, 0] > 0).astype(jnp.int32)
    return jnp.argmax(logits, axis=-1).astype(jnp.int32)


def class_probabilities(logits: jax.Array) -> jax.Array:
    """float32 (B, K): softmax of (B, K) logits; for (B, 1) logits the sigmoid's two probabilities."""
    logits = logits.astype(jnp.float32)
    if logits.shape[-1] == 1:
        return jax.nn.sigmoid(jnp.concatenate([-logits, logits], axis=-1))
    return jax.nn.softmax(logits, axis=-1)
