"""HDF5 from strangers: numbers that lie in this file, and nothing else, are read from it."""

import contextlib
import math
from collections.abc import Iterator

import h5py
import ml_dtypes
import numpy as np

from jaxvision.errors import DataError, UserError
from jaxvision.weights.contents import FileTensor

BUILT_IN_FILTERS = {*range(1, 7), 32000}
"""HDF5's own (1-6) and h5py's LZF; for any other the library would load a plug-in, code, from a folder."""

BOMB_BYTES, BOMB_RATIO = 2**26, 2000
"""A dataset above so many bytes must have at least this fraction of them in the file; deflate reaches 1/1030."""

MAX_OBJECTS, MAX_DEPTH = 100_000, 32


@contextlib.contextmanager
def faults_of_hdf5(name: str) -> Iterator[None]:
    """Whatever h5py says inside the block against the file called `name` becomes one DataError."""
    try:
        yield
    except UserError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        reason = str(error).strip("'\"") or type(error).__name__
        advice = "not a whole HDF5 file of weights; fetch or save it again"
        raise DataError(f"{name}: {advice}. HDF5 says: {reason}") from error


def child(group: h5py.Group, path: str, name: str) -> h5py.Group | h5py.Dataset:
    """What lies at `path` ("a/b") below `group`; `name` is the file's in messages.

    Raises: DataError: nothing is there, or a link leads there that need not end in this file, or no numbers lie there.
    """
    for part in path.split("/"):
        link = group.get(part, getlink=True) if isinstance(group, h5py.Group) and part not in ("", ".", "..") else None
        if link is None:
            raise DataError(f"{name}: the file names {path!r} in {group.name!r}, but nothing is there; it is damaged.")
        if not isinstance(link, h5py.HardLink):
            raise DataError(
                f"{name}: {group.name.rstrip('/')}/{part} is a link (an HDF5 {type(link).__name__}) that can lead to"
                " other files; such files are refused. Keras writes none."
            )
        group = group[part]
    if not isinstance(group, h5py.Group | h5py.Dataset):
        raise DataError(f"{name}: {path!r} is neither a group nor a dataset. Received: {type(group).__name__}")
    return group


def subgroup(group: h5py.Group, path: str, name: str) -> h5py.Group:
    """`child` that must be a group."""
    found = child(group, path, name)
    if not isinstance(found, h5py.Group):
        raise DataError(f"{name}: {found.name} is a dataset where a group of them is expected; the file is damaged.")
    return found


def tensor(group: h5py.Group, path: str, name: str) -> FileTensor:
    """The dataset at `path` below `group`.

    Raises: DataError: no numbers, or numbers kept elsewhere (external or virtual storage), behind a filter that needs
      a plug-in, or hardly any bytes for the size that is claimed.
    """
    dataset = child(group, path, name)
    where = f"{name}: {dataset.name}"
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{where} is a group where numbers are expected; the file is damaged.")
    if dataset.is_virtual or dataset.external:
        raise DataError(f"{where} keeps its numbers in another file (external storage); such files are refused.")
    filters = dataset.id.get_create_plist()
    used = {filters.get_filter(i)[0] for i in range(filters.get_nfilters())}
    if used - BUILT_IN_FILTERS:
        raise DataError(f"{where} is compressed by a plug-in, which would be run; refused. Received: filter {used}")
    dtype = dataset.dtype
    if dtype == np.dtype("V2") and text(dataset, "dtype") == "bfloat16":
        dtype = np.dtype(ml_dtypes.bfloat16)  # as Keras 3 writes it
    elif dtype.kind not in "fiub":
        raise DataError(f"{where} holds no numbers; such files are refused. Received: type {dtype}")
    size = math.prod(dataset.shape or ()) * dtype.itemsize
    if size > BOMB_BYTES and size > BOMB_RATIO * dataset.id.get_storage_size():
        raise DataError(
            f"{where} claims {size:,} bytes of numbers; {dataset.id.get_storage_size():,} are in the file. Refused."
        )

    def read() -> np.ndarray:
        with faults_of_hdf5(name):
            return dataset[()].view(dtype) if dtype.kind == "V" else np.asarray(dataset[()])

    return FileTensor(path, tuple(dataset.shape or ()), dtype, read)


def strings(group: h5py.Group, attribute: str) -> list[str] | None:
    """A list of names kept as an attribute, or as attribute0, attribute1, ... where it is long; None where absent."""
    if attribute in group.attrs:
        return _texts(group, attribute)
    names: list[str] = []
    number = 0
    while f"{attribute}{number}" in group.attrs:
        names += _texts(group, f"{attribute}{number}")
        number += 1
    return names if number else None


def text(group: h5py.Group | h5py.Dataset, attribute: str) -> str | None:
    """A string kept as an attribute; None where absent."""
    return _texts(group, attribute)[0] if attribute in group.attrs else None


def _texts(group: h5py.Group | h5py.Dataset, attribute: str) -> list[str]:
    # Looked at before it is read: a damaged type can make the library crash, which no exception tells of.
    found = group.attrs.get_id(attribute)
    if found.shape is None or math.prod(found.shape) == 0:
        return []
    if found.get_type().get_class() != h5py.h5t.STRING:
        raise ValueError(f"attribute {attribute} is no text")
    values = np.ravel(group.attrs[attribute])
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]
