"""Keras 3's HDF5 layout: a group `.../layers/KIND_N` for each layer, with its tensors in `vars/0`, `vars/1`, ..."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import h5py

from jaxvision.errors import DataError
from jaxvision.weights.contents import FileLayer, Rank, automatic_kind, kind_from_tensors, natural_key
from jaxvision.weights.hdf5 import MAX_DEPTH, MAX_OBJECTS, subgroup, tensor, text

CONTAINERS = {"layers", "_layer_checkpoint_dependencies"}
_NOT_LAYERS = {"optimizer", "compile_metrics", "metrics", "loss_tracker", "seed_generator", "random_generator"}


@dataclass(frozen=True)
class Place:
    """What a `.keras` archive's configuration says of a layer: its position among all, its name, its settings."""

    position: int
    name: str
    settings: Mapping[str, Any]


def is_keras3(file: h5py.File) -> bool:
    """Whether the file is of this layout: it has `vars`, or a group that has them."""
    return "vars" in file or any(name in file for name in CONTAINERS) or any(_has_vars(file, name) for name in file)


def _has_vars(file: h5py.File, name: str) -> bool:
    return file.get(name, getclass=True, getlink=True) is h5py.HardLink and "vars" in (file.get(name) or ())


def read_keras3(file: h5py.File, name: str, places: dict[str, Place] | None = None) -> list[FileLayer]:
    """The layers with tensors.

    Groups have no order but their numbers, which count within a class: so only layers of one class in one model have a
    known order, unless `places` (by group) says it for all. Layers of a model inside the model are listed first.
    """
    found = [(path, layer) for path, layer in _walk(file, "", name, [0])]
    if places is None:
        return [layer for _, layer in found]
    known = sorted((places[path].position, path, layer) for path, layer in found if path in places)
    return [
        replace(layer, name=places[path].name, rank=(("", position),), settings=places[path].settings, is_named=True)
        for position, path, layer in known
    ] + [layer for path, layer in found if path not in places]


def _walk(group: h5py.Group, path: str, name: str, count: list[int]) -> Iterator[tuple[str, FileLayer]]:
    count[0] += 1
    if count[0] > MAX_OBJECTS or path.count("/") > MAX_DEPTH:
        raise DataError(f"{name}: groups within groups without end; not a file that Keras wrote.")
    children = sorted((key for key in group if key != "vars" and key.lstrip("_") not in _NOT_LAYERS), key=natural_key)
    groups = {key: subgroup(group, key, name) for key in children}
    # Those that hold layers themselves first: the pretrained base inside a model runs before the layers around it.
    for key in sorted(children, key=lambda key: not CONTAINERS & set(groups[key])):
        yield from _walk(groups[key], f"{path}/{key}" if path else key, name, count)
    if path and "vars" in group and (layer := _layer(group, path, name)):
        yield path, layer


def _layer(group: h5py.Group, path: str, name: str) -> FileLayer | None:
    variables = subgroup(group, "vars", name)
    tensors = tuple(tensor(variables, key, name) for key in sorted(variables, key=natural_key))
    if all(one.dtype.kind in "iub" for one in tensors):
        return None  # no tensors; or a counter, or the state of a random-number generator
    container, _, key = path.rpartition("/")
    given = text(variables, "name")
    if container.rpartition("/")[2] in CONTAINERS:
        kind = automatic_kind(key) or kind_from_tensors(tensors)
        return FileLayer(given or key, kind, tensors, _rank(path), is_named=given is not None)
    # A layer that a model's own class keeps as an attribute, which is then its name unless it was given one.
    kind = automatic_kind(given or "") or kind_from_tensors(tensors)
    named = given and not automatic_kind(given)
    return FileLayer(str(given) if named else key, kind, tensors, _rank(path))


def _rank(path: str) -> Rank:
    """layers/functional/layers/conv2d_1: the second Conv2D of the first functional model of the model."""
    parts = [re.fullmatch(r"(.*?)(?:_(\d+))?", part) for part in path.split("/")]
    return tuple((part[1], int(part[2] or 0)) for part in parts if part)
