"""Metrics of multi-label classification: how well each class's scores rank the pictures, and who passes the bar."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.train.metrics import Direction
from jaxvision.types import Array, PyTree

BINS = 2**16
FINE = 2048
"""Bins of one unit of logits."""


class MultilabelScores:
    """Average precision and F1 of each class, and their means.

    average_precision/NAME = sum_n (R_n - R_{n-1}) P_n over all thresholds, as scikit-learn's `average_precision_score`
    of logits rounded up to multiples of 1/2048 and cut at -16 and 16; f1/NAME = 2 tp / (2 tp + fp + fn) for
    probabilities over 0.5. Classes without a positive example have no average precision, and those neither true nor
    predicted anywhere no F1; they do not count in the means, which are 0 where nothing is left.

    Counts: uint32 (2, K, 65536), a histogram of logits for negatives and positives: a sum over batches and devices,
    where scores kept one by one would not be. 0.5 MB a class.
    """

    def __init__(self, class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        single = (f"{kind}/{name}" for kind in ("average_precision", "f1") for name in self.class_names)
        self.directions: Mapping[str, Direction] = dict.fromkeys(("average_precision", "f1", *single), "max")

    def zero(self) -> PyTree:
        return jnp.zeros((2, len(self.class_names), BINS), jnp.uint32)

    def add(self, counts: PyTree, logits: jax.Array, target: Array, valid: Array) -> PyTree:
        """logits (B, K), target (B, K) of 0 and 1."""
        positive = (jnp.asarray(target) > 0.5).astype(jnp.int32)
        classes = jnp.broadcast_to(jnp.arange(logits.shape[1])[None, :], logits.shape)
        ones = jnp.broadcast_to(valid.astype(jnp.uint32)[:, None], logits.shape)
        return counts.at[positive, classes, bin_of(logits)].add(ones)

    def compute(self, counts: PyTree) -> dict[str, float]:
        # From the highest logit down: how many of each kind lie at or above each threshold.
        false, true = np.cumsum(np.asarray(counts)[:, :, ::-1].astype(np.int64), axis=-1)
        positives = true[:, -1]
        over = BINS // 2 - 2  # the lowest bin above zero, counted from the top
        tp, fp = true[:, over], false[:, over]
        f1_of = 2 * tp / np.maximum(2 * tp + fp + (positives - tp), 1)
        precision = true / np.maximum(true + false, 1)
        steps = np.diff(true, prepend=0, axis=-1)
        average = (precision * steps).sum(axis=-1) / np.maximum(positives, 1)
        return {
            **self._mean_and_each("average_precision", average, positives > 0),
            **self._mean_and_each("f1", f1_of, positives + fp > 0),
        }

    def _mean_and_each(self, kind: str, values: np.ndarray, there: np.ndarray) -> dict[str, float]:
        each = zip(self.class_names, values.tolist(), there, strict=True)
        return {
            kind: float(values[there].mean()) if there.any() else 0.0,
            **{f"{kind}/{name}": value for name, value, is_there in each if is_there},
        }


def bin_of(logits: jax.Array) -> jax.Array:
    """int32, 0 to 65535: logits in steps of 1/2048; those up to 0 are in bins up to 32768."""
    steps = jnp.ceil(jnp.clip(logits.astype(jnp.float32), -16.0, 16.0) * FINE).astype(jnp.int32)
    return jnp.clip(steps + BINS // 2, 0, BINS - 1)
