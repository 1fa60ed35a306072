"""Batches as the tests compare them."""

import numpy as np


def assert_same(ours, theirs):
    """The same batches, types included."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
