"""Keras' older HDF5 layout, that of the published files: a list of layer names, a group of tensors for each."""

import h5py

from jaxvision.weights.contents import FileLayer, FileTensor, automatic_kind, kind_from_tensors
from jaxvision.weights.hdf5 import strings, subgroup, tensor


def is_legacy(file: h5py.File) -> bool:
    """Whether the file is of this layout: weights alone, or a whole model with its weights in `model_weights`."""
    return strings(file, "layer_names") is not None or "model_weights" in file


def read_legacy(file: h5py.File, name: str) -> list[FileLayer]:
    """The layers with tensors, in the order of the model.

    A model inside the model is one entry there, of tensors called LAYER/kernel; its layers are taken apart.
    """
    group = file if strings(file, "layer_names") is not None else subgroup(file, "model_weights", name)
    layers: list[FileLayer] = []
    for layer_name in strings(group, "layer_names") or ():
        layer_group = subgroup(group, layer_name, name)
        weights = strings(layer_group, "weight_names") or ()
        # Keras 2 writes block1_conv1/kernel:0, Keras 3 block1_conv1/kernel or MODEL/block1_conv1/kernel.
        owners: dict[str, list[FileTensor]] = {}
        for weight in weights:
            owners.setdefault(weight.rpartition("/")[0], []).append(tensor(layer_group, weight, name))
        for owner, tensors in owners.items():
            inner = layer_name if len(owners) == 1 else owner.rpartition("/")[2]
            kind = automatic_kind(inner) or kind_from_tensors(tuple(tensors))
            layers.append(FileLayer(inner, kind, tuple(tensors)))
    return layers
