"""Metrics of segmentation, all from one confusion matrix of the pixels."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import DataError
from jaxvision.train.metrics import Direction
from jaxvision.types import Array, PyTree


class ConfusionMatrix:
    """Pixels by true class (rows) and predicted class (columns); ignored pixels are in no cell.

    Values: accuracy, the share of pixels predicted rightly; per class iou/NAME = tp / (tp + fp + fn) (Jaccard) and
    their mean, mean_iou; dice, the mean over classes of 2 tp / (2 tp + fp + fn) (F1). A class that is neither true nor
    predicted anywhere has no iou and does not count in the means.

    Counts: uint32 (2, K, K), the low and the high half of 64-bit numbers: exact over any epoch.
    """

    def __init__(self, class_names: Sequence[str]):
        self.class_names = tuple(class_names)
        names = ("accuracy", "mean_iou", "dice", *(f"iou/{name}" for name in self.class_names))
        self.directions: Mapping[str, Direction] = dict.fromkeys(names, "max")

    def zero(self) -> PyTree:
        return jnp.zeros((2, len(self.class_names), len(self.class_names)), jnp.uint32)

    def add(self, counts: PyTree, logits: jax.Array, target: Array, valid: Array) -> PyTree:
        """logits (B, H, W, K), target uint8 (B, H, W)."""
        low, high = counts
        each = jnp.where(valid[:, None, None], pixel_counts(logits, target), 0)
        new = low + jnp.sum(each, axis=0, dtype=jnp.uint32)
        return jnp.stack([new, high + (new < low).astype(jnp.uint32)])

    def compute(self, counts: PyTree) -> dict[str, float]:
        """Raises DataError: there is no pixel that counts."""
        matrix = pixel_matrix(counts).astype(np.float64)
        if not matrix.sum():
            raise DataError(
                "segmentation: no pixel of these masks counts, all are marked to be ignored. Check data.ignore_label."
            )
        right = np.diag(matrix)
        either = matrix.sum(axis=0) + matrix.sum(axis=1) - right
        there = either > 0
        iou = right[there] / either[there]
        names = [name for name, is_there in zip(self.class_names, there, strict=True) if is_there]
        return {
            "accuracy": float(right.sum() / matrix.sum()),
            "mean_iou": float(iou.mean()),
            "dice": float((2 * iou / (1 + iou)).mean()),
            **{f"iou/{name}": float(value) for name, value in zip(names, iou, strict=True)},
        }


def pixel_matrix(counts: PyTree) -> np.ndarray:
    """uint64 (K, K): the pixels of a `ConfusionMatrix`'s counts, true classes in rows."""
    low, high = np.asarray(counts).astype(np.uint64)
    return low + (high << np.uint64(32))


def pixel_counts(logits: jax.Array, target: Array) -> jax.Array:
    """uint32 (B, K, K): how many pixels of true class i are predicted as j. Arguments as of `ConfusionMatrix.add`."""
    batch, height, width, classes = logits.shape
    predicted = jax.nn.one_hot(jnp.argmax(logits, axis=-1).reshape(batch, -1), classes, dtype=jnp.float32)
    # An ignored pixel's number is beyond the classes: its row is all zeros.
    true = jax.nn.one_hot(jnp.asarray(target).reshape(batch, -1), classes, dtype=jnp.float32)
    # A product of zeros and ones is exact up to 2**24 pixels a picture, also in the short formats of accelerators.
    if height * width > 2**24:
        raise DataError(f"segmentation: pictures of at most 2**24 pixels are counted. Received: {height} x {width}")
    each = jnp.einsum("bpi,bpj->bij", true, predicted, preferred_element_type=jnp.float32)
    return each.astype(jnp.uint32)
