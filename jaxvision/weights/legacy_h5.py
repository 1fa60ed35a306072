"""Keras' older HDF5 layout, that of the published files: a list of layer names, a group of tensors for each."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import h5py

from jaxvision.errors import DataError
from jaxvision.weights.contents import FileLayer, FileTensor, Rank, automatic_kind, kind_from_tensors
from jaxvision.weights.hdf5 import strings, subgroup, tensor, text


def is_legacy(file: h5py.File) -> bool:
    """Whether the file is of this layout: weights alone, or a whole model with its weights in `model_weights`."""
    return strings(file, "layer_names") is not None or "model_weights" in file


def read_legacy(file: h5py.File, name: str, config: Any = None) -> list[FileLayer]:
    """The layers with tensors.

    Those of the model itself are in its order. A model inside the model is one entry there, of tensors called
    LAYER/kernel, the trainable ones of all its layers before the others: which of its layers comes first only the
    configuration tells, `config`, that a file of a whole model has.

    Raises: DataError: damaged; or kernels as Keras kept them with Theano, rotated by 180 degrees.
    """
    group = file if strings(file, "layer_names") is not None else subgroup(file, "model_weights", name)
    inner = {model: places for model, places in _inner_places(config)}
    layers: list[FileLayer] = []
    for number, layer_name in enumerate(strings(group, "layer_names") or ()):
        layer_group = subgroup(group, layer_name, name)
        # Keras 2 writes block1_conv1/kernel:0, Keras 3 block1_conv1/kernel or MODEL/block1_conv1/kernel.
        owners: dict[str, list[FileTensor]] = {}
        for weight in strings(layer_group, "weight_names") or ():
            owners.setdefault(weight.rpartition("/")[0], []).append(tensor(layer_group, weight, name))
        if len(owners) == 1 and layer_name not in inner:
            layers.append(_layer(layer_name, owners.popitem()[1], (("", number),)))
            continue
        places = inner.get(layer_name, {})
        found = []
        for owner, tensors in owners.items():
            own_name = owner.rpartition("/")[2]
            known = own_name in places
            rank = (("", number), ("", places[own_name]) if known else (owner, 0))
            found.append(_layer(own_name, tensors, rank, None if known else layer_name))
        layers += sorted(found, key=lambda layer: layer.rank[1][1])
    if text(group, "backend") == "theano" and any("conv" in (layer.kind or "") for layer in layers):
        raise DataError(
            f"{name}: saved by Keras on Theano, whose convolutions take their kernels rotated by 180 degrees; here they"
            " would compute something else. Load the file in Keras 2.2 on TensorFlow, which turns them, and save it"
            " again. Received: backend 'theano'"
        )
    return layers


def _layer(name: str, tensors: list[FileTensor], rank: Rank, within: str | None = None) -> FileLayer:
    return FileLayer(name, automatic_kind(name) or kind_from_tensors(tuple(tensors)), tuple(tensors), rank, within)


def _inner_places(config: Any) -> Iterator[tuple[str, dict[str, int]]]:
    """For each model among the layers of the configured model its name, and the places of its layers by their names.

    Layers of models inside it count with its own, at the place of their model. A name that occurs twice has no place.
    """
    for layer in _configured_layers(config):
        if _configured_layers(layer):
            names = list(_all_names(layer))
            count = Counter(names)
            yield _name(layer), {each: place for place, each in enumerate(names) if count[each] == 1}


def _all_names(model: Any) -> Iterator[str]:
    for layer in _configured_layers(model):
        yield _name(layer)
        yield from _all_names(layer)


def _configured_layers(model: Any) -> list[Any]:
    """The layers of a model in Keras' configuration, in their order; Keras 1 gave those of a Sequential alone."""
    config = model.get("config") if isinstance(model, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else config
    return layers if isinstance(layers, list) else []


def _name(layer: Any) -> str:
    config = layer.get("config") if isinstance(layer, dict) else None
    given = config.get("name") if isinstance(config, dict) else None
    return str(given or (layer.get("name") if isinstance(layer, dict) else ""))
