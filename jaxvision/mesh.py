"""The devices of a run, of one process or of several: each batch is spread over them, the model is on each. Or of
several runs that are trained together: each device has some of them, and sees whole batches.

The compiler adds up over all what a step adds up over the batch (losses, gradients, BatchNorm's statistics), so a step
on several devices is that on one, to rounding.
"""

from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from jaxvision.errors import ConfigError

AXIS, MODEL, MEMBERS = "batch", "model", "members"
WIDE = 512
"""Outputs from which on a matrix is cut over the devices of the model axis."""

Tree = TypeVar("Tree")


def batch_mesh(count: int | None = None, model_devices: int = 1) -> Mesh:
    """All devices of all processes in one axis, those of a process side by side; of one process alone, also the first
    `count` of them. With `model_devices` a second axis of so many, over which wide matrices are cut.

    Raises: ConfigError: there are fewer; or with several processes, another number than there are; or they cannot be
      put into groups of `model_devices`.
    """
    devices = _devices(count)
    if model_devices == 1:
        return Mesh(devices, (AXIS,))
    if devices.size % model_devices:
        raise ConfigError(
            f"model_devices: {devices.size} devices cannot be put into groups of so many. Received: {model_devices}"
        )
    return Mesh(devices.reshape(-1, model_devices), (AXIS, MODEL))


def member_mesh(count: int | None, members: int) -> Mesh:
    """The first `count` devices, or all of them, to spread runs over: at most as many as there are runs.

    Raises: ConfigError: there are fewer than `count`.
    """
    return Mesh(_devices(count)[:members], (MEMBERS,))


def _devices(count: int | None) -> np.ndarray:
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if count is not None and count != len(devices) and jax.process_count() > 1:
        raise ConfigError(
            f"devices: {jax.process_count()} processes train on all {len(devices)} devices they have between them."
            f" Leave it at None. Received: {count}"
        )
    if count is not None and count > len(devices):
        raise ConfigError(f"devices: this machine has {len(devices)} {devices[0].platform} devices. Received: {count}")
    return np.array(devices[:count])


def one_device() -> Mesh:
    """The first device of this process."""
    return Mesh(np.array(jax.local_devices()[:1]), (AXIS,))


def on_each(mesh: Mesh, tree: Tree) -> Tree:
    """The arrays of a pytree, whole on each device. Each process must have the same."""
    return placed(NamedSharding(mesh, PartitionSpec()), tree)


def cut_wide(mesh: Mesh, tree: Tree) -> Tree:
    """As `on_each`, but wide matrices are cut along their outputs where the mesh has an axis for it."""
    return jax.tree.map(lambda leaf: placed(NamedSharding(mesh, _spec(mesh, leaf.shape)), leaf), tree)


def is_wide(shape: tuple[int, ...], model_devices: int) -> bool:
    """Whether an array is a matrix that so many devices share."""
    return len(shape) == 2 and shape[1] >= WIDE and shape[1] % model_devices == 0


def _spec(mesh: Mesh, shape: tuple[int, ...]) -> PartitionSpec:
    cut = MODEL in mesh.axis_names and is_wide(shape, mesh.shape[MODEL])
    return PartitionSpec(None, MODEL) if cut else PartitionSpec()


def on_all(array: jax.Array) -> Sharding:
    """Whole on each of the devices that an array is on."""
    sharding = array.sharding
    return NamedSharding(sharding.mesh, PartitionSpec()) if isinstance(sharding, NamedSharding) else sharding


def shardings_of(state: Any, mesh: Mesh) -> tuple[Any, Sharding]:
    """Where a training step leaves its state (as it is) and its losses (whole on each device): the compiler would else
    choose anew, another process could not read them, and the next step would be another program."""
    return jax.tree.map(lambda leaf: leaf.sharding, state), NamedSharding(mesh, PartitionSpec())


def placed(sharding: Sharding, tree: Tree) -> Tree:
    """The arrays of a pytree, which each process has whole."""
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)
    return jax.tree.map(lambda leaf: _placed(sharding, leaf), tree)


def _placed(sharding: Sharding, leaf: Any) -> jax.Array:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _placed(sharding, jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    whole = np.asarray(leaf)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])


def own_rows(mesh: Mesh, rows: int) -> slice:
    """Which of a batch's rows are for devices of this process: its share; all where the batch is whole on each."""
    if AXIS not in mesh.axis_names:
        return slice(0, rows)
    groups = mesh.devices.reshape(mesh.shape[AXIS], -1)
    if rows % len(groups):
        return slice(0, rows)
    here = jax.process_index()
    mine = [number for number, group in enumerate(groups) if any(device.process_index == here for device in group)]
    share = rows // len(groups)
    return slice(mine[0] * share, (mine[-1] + 1) * share)


def spread(mesh: Mesh, own: np.ndarray, axis: int = 0, *, rows: int | None = None) -> jax.Array:
    """An array cut along its batch axis, an equal share on each device; where that cannot be, as with the smaller batch
    at the end of an epoch, or on a mesh of runs, whole on each.

    own, rows: this process' share of so many rows in all (see `own_rows`); None: the whole array.
    """
    rows = own.shape[axis] if rows is None else rows
    whole = AXIS not in mesh.axis_names or rows % mesh.shape[AXIS]
    spec = PartitionSpec() if whole else PartitionSpec(*[None] * axis, AXIS)
    sharding = NamedSharding(mesh, spec)
    if sharding.is_fully_addressable:
        return jax.device_put(own, sharding)
    share = own_rows(mesh, rows)
    if own.shape[axis] != share.stop - share.start:
        own = own[(slice(None),) * axis + (share,)]
    shape = (*own.shape[:axis], rows, *own.shape[axis + 1 :])
    # The shape is always said: from uneven shares JAX would make up a wrong one.
    return jax.make_array_from_process_local_data(sharding, own, shape)
