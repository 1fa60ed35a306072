"""Source `npz`: arrays in one NumPy archive."""

import zipfile

import numpy as np

from jaxvision import config
from jaxvision.data.arrays import array_dataset, array_part
from jaxvision.data.parts import Dataset
from jaxvision.data.paths import existing_path
from jaxvision.errors import DataError, nearest

KEYS = {
    "train": (("train_inputs", "train_target"), ("x_train", "y_train")),
    "validation": (("validation_inputs", "validation_target"), ("x_validation", "y_validation")),
    "test": (("test_inputs", "test_target"), ("x_test", "y_test")),
}
KNOWN = ("class_names", *(key for pairs in KEYS.values() for pair in pairs for key in pair))


def npz(data: config.Data) -> Dataset:
    """Arrays train_inputs, train_target, validation_*, test_* (or x_train, y_train, x_test, y_test as Keras has them).

    Pictures (N, H, W[, C]) with values 0..255, integer labels (N,); class_names is optional.
    """
    path = existing_path(data)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a NumPy archive (.npz). Received: {error}.") from error
    received = f"Received: {', '.join(arrays) or 'no arrays'}."
    for key in arrays:
        if key not in KNOWN:
            raise DataError(f"{path}: unknown array {key!r}.{nearest(key, KNOWN)} {received}")
    parts = {}
    for name, pairs in KEYS.items():
        for inputs, target in pairs:
            if (inputs in arrays) != (target in arrays):
                raise DataError(f"{path}: {inputs} and {target} must come together. {received}")
            if inputs in arrays:
                parts[name] = array_part(arrays[inputs], arrays[target], f"The {name} part of {path}", data)
    if "train" not in parts:
        raise DataError(f"{path}: no array train_inputs (or x_train). {received}")
    class_names = arrays.get("class_names")
    return array_dataset(parts, None if class_names is None else tuple(map(str, class_names.ravel())))
