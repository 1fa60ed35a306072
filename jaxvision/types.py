"""The value that data and models meet at. Shapes, dtypes and units are written once, here."""

from typing import Any, NamedTuple

import jax
import numpy as np

Array = jax.Array | np.ndarray
PyTree = Any


class Batch(NamedTuple):
    """A batch of examples; a JAX pytree. B is the batch size.

    inputs: pictures, uint8 or float32 of shape (B, H, W, C) in pixel units 0..255; or cached features, float (B, ...).
    target: int32 (B,) class numbers; float32 (B, K) for soft or multiple labels; int32 (B, H, W) for masks.
    valid: bool (B,), False on rows that only pad the last evaluation batch.
    """

    inputs: Array
    target: Array
    valid: Array
