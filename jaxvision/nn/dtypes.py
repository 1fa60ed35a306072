"""Computing in one type while parameters stay float32."""

import jax.numpy as jnp


def in_dtype(dtype: jnp.dtype, *arrays):
    """Each array (or NNX variable) cast to `dtype`; one array gives one array, several a tuple."""
    cast = tuple(jnp.asarray(a[...], dtype) for a in arrays)
    return cast[0] if len(cast) == 1 else cast
