"""The values that data and models meet at. Shapes, dtypes and units are written once, here."""

from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray
PyTree = Any

IGNORE = 255
"""Class number in masks of pixels that count nowhere: not in the loss, not in any metric."""

MAX_MASK_CLASSES = IGNORE
"""Classes that a mask of uint8 can tell apart beside IGNORE."""


class Batch(NamedTuple):
    """A batch of examples; a JAX pytree. B is the batch size.

    inputs: pictures, uint8 or float32 of shape (B, H, W, C) in pixel units 0..255; or cached features, float (B, ...).
    target: int32 (B,) class numbers; float32 (B, K) of 0 and 1, any number of labels (soft ones within a step); or
      uint8 (B, H, W) masks of class numbers, IGNORE on pixels that count nowhere, as high and wide as the inputs.
    valid: bool (B,), False on rows that only pad the last evaluation batch.
    """

    inputs: Array
    target: Array
    valid: Array


class Stretch(NamedTuple):
    """What k training steps in a row see; a JAX pytree. N is the number of examples that stay on the device.

    inputs, target: all N of them, with `rows`; or one batch of B and no rows, for a single step.
    rows: int32 (k, B), the examples of each step, or (M, k, B) of M runs that are trained together; or None.
    """

    inputs: Array
    target: Array
    rows: Array | None

    @property
    def num_steps(self) -> int:
        return 1 if self.rows is None else self.rows.shape[-2]

    @property
    def num_examples(self) -> int:
        """Of one run."""
        return self.inputs.shape[0] if self.rows is None else self.rows.shape[-2] * self.rows.shape[-1]
