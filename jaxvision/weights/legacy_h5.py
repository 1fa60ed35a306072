"""Keras' older HDF5 layout, that of the published files: a list of layer names, a group of tensors for each."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import h5py

from jaxvision.errors import DataError
from jaxvision.weights.contents import FileLayer, FileTensor, Rank, automatic_kind, kind_from_tensors, layer_settings
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
    configured = {_name(layer): layer for layer in _configured_layers(config)}
    layers: list[FileLayer] = []
    for number, layer_name in enumerate(strings(group, "layer_names") or ()):
        layer_group = subgroup(group, layer_name, name)
        # Keras 2 writes block1_conv1/kernel:0, Keras 3 block1_conv1/kernel or MODEL/block1_conv1/kernel.
        owners: dict[str, list[FileTensor]] = {}
        for weight in strings(layer_group, "weight_names") or ():
            owners.setdefault(weight.rpartition("/")[0], []).append(tensor(layer_group, weight, name))
        config = configured.get(layer_name)
        if len(owners) == 1 and not _configured_layers(config):
            layers.append(_layer(layer_name, owners.popitem()[1], (("", number),), config))
            continue
        inner = _inner_layers(config)
        found = []
        for owner, tensors in owners.items():
            own_name = owner.rpartition("/")[2]
            if own_name in inner:
                place, config = inner[own_name]
                found.append(_layer(own_name, tensors, (("", number), ("", place)), config))
            else:
                found.append(_layer(own_name, tensors, (("", number), (owner, 0)), within=layer_name))
        layers += sorted(found, key=lambda layer: layer.rank[1][1])
    if text(group, "backend") == "theano" and any("conv" in (layer.kind or "") for layer in layers):
        raise DataError(
            f"{name}: saved by Keras on Theano, whose convolutions take their kernels rotated by 180 degrees; here they"
            " would compute something else. Load the file in Keras 2.2 on TensorFlow, which turns them, and save it"
            " again. Received: backend 'theano'"
        )
    return layers


def _layer(
    name: str, tensors: list[FileTensor], rank: Rank, config: Any = None, within: str | None = None
) -> FileLayer:
    kind = automatic_kind(name) or kind_from_tensors(tuple(tensors))
    settings = layer_settings(config.get("config")) if isinstance(config, dict) else {}
    return FileLayer(name, kind, tuple(tensors), rank, within, settings)


def _inner_layers(model: Any) -> dict[str, tuple[int, Any]]:
    """The places and the configurations of the layers of a configured model, by their names.

    Layers of models inside it count with its own, at the place of their model. A name that occurs twice has no place.
    """
    layers = list(_all_layers(model))
    count = Counter(map(_name, layers))
    return {_name(layer): (place, layer) for place, layer in enumerate(layers) if count[_name(layer)] == 1}


def _all_layers(model: Any) -> Iterator[Any]:
    for layer in _configured_layers(model):
        yield layer
        yield from _all_layers(layer)


def _configured_layers(model: Any) -> list[Any]:
    """The layers of a model in Keras' configuration, in their order; Keras 1 gave those of a Sequential alone."""
    config = model.get("config") if isinstance(model, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else config
    return layers if isinstance(layers, list) else []


def _name(layer: Any) -> str:
    config = layer.get("config") if isinstance(layer, dict) else None
    given = config.get("name") if isinstance(config, dict) else None
    return str(given or (layer.get("name") if isinstance(layer, dict) else ""))
