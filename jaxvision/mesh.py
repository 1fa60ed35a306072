"""The devices of a run: each batch is spread over them, the model is on each.

The compiler adds up over all what a step adds up over the batch (losses, gradients, BatchNorm's statistics), so a step
on several devices is that on one, to rounding.
"""

from typing import TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxvision.errors import ConfigError

AXIS = "batch"

Tree = TypeVar("Tree")


def batch_mesh(count: int | None = None) -> Mesh:
    """The first `count` devices of this process, or all of them, in one axis.

    Raises: ConfigError: there are fewer.
    """
    devices = jax.local_devices()
    if count is not None and count > len(devices):
        raise ConfigError(f"devices: this machine has {len(devices)} {devices[0].platform} devices. Received: {count}")
    return Mesh(np.array(devices[:count]), (AXIS,))


def on_each(mesh: Mesh, tree: Tree) -> Tree:
    """The arrays of a pytree, whole on each device."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def spread(mesh: Mesh, array: np.ndarray, axis: int = 0) -> jax.Array:
    """An array cut along its batch axis, an equal share on each device; where that cannot be, as with the smaller batch
    at the end of an epoch, whole on each."""
    spec = PartitionSpec() if array.shape[axis] % mesh.size else PartitionSpec(*[None] * axis, AXIS)
    return jax.device_put(array, NamedSharding(mesh, spec))
