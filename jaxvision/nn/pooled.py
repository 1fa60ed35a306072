"""A convolution that is pooled at once: bias and activation wait until after the pooling, on a fraction of the pixels.

Adding a number and ReLU keep the order of numbers, rounding included, so the largest of a window stays the largest, and
the same finite numbers come out, bit for bit. Only where rounding makes two pixels of a window equal that were not, the
gradient goes to the larger one instead of the first.
"""

import jax
from flax import nnx

from jaxvision.nn.activation import linear
from jaxvision.nn.conv import Conv
from jaxvision.nn.pooling import MaxPool


def finishes_after(pool: nnx.Module, conv: nnx.Module) -> bool:
    """Whether `conv` may add its bias and apply its activation after `pool`. Not where someone watches either: what a
    watched layer gives is looked at (`jaxvision.nn.watch`)."""
    return type(pool) is MaxPool and type(conv) is Conv and conv.activation in (linear, jax.nn.relu)


def pooled(pool: nnx.Module, conv: nnx.Module, x: jax.Array) -> jax.Array:
    """`pool(conv(x))`, where `finishes_after(pool, conv)`."""
    assert isinstance(conv, Conv)
    assert isinstance(pool, MaxPool)
    return conv.finish(pool(conv.convolve(x)))
