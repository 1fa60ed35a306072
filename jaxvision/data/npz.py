"""Source `npz`: arrays in one NumPy archive."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jaxvision import config
from jaxvision.data.arrays import array_dataset, array_part
from jaxvision.data.parts import Dataset
from jaxvision.data.paths import existing_path
from jaxvision.data.picture_file import looks_like
from jaxvision.errors import DataError, nearest

KEYS = {
    "train": (("train_inputs", "train_target"), ("x_train", "y_train")),
    "validation": (("validation_inputs", "validation_target"), ("x_validation", "y_validation")),
    "test": (("test_inputs", "test_target"), ("x_test", "y_test")),
}
KNOWN = ("class_names", *(key for pairs in KEYS.values() for pair in pairs for key in pair))
EXPECTED = (
    "Expected: train_inputs, train_target and, where there are such parts, validation_inputs, validation_target, "
    "test_inputs, test_target (or x_train, y_train and so on); class_names may be added."
)


def npz(data: config.Data) -> Dataset:
    """Arrays train_inputs, train_target, validation_*, test_* (or x_train, y_train, x_test, y_test as Keras has them).

    Pictures (N, H, W[, C]) with values 0..255; integer labels (N,), 0 and 1 for each class (N, K), or masks (N, H, W),
    where 255 counts nowhere; class_names is optional.
    """
    path = existing_path(data)
    arrays = _arrays(path)
    received = f"Received: {', '.join(arrays) or 'no arrays'}."
    for key in arrays:
        if key not in KNOWN:
            raise DataError(f"{path}: unknown array {key!r}.{nearest(key, KNOWN)} {received} {EXPECTED}")
    parts = {}
    for name, pairs in KEYS.items():
        for inputs, target in pairs:
            if (inputs in arrays) != (target in arrays):
                raise DataError(f"{path}: {inputs} and {target} must come together. {received}")
            if inputs in arrays:
                parts[name] = array_part(arrays[inputs], arrays[target], f"The {name} part of {path}", data)
    if "train" not in parts:
        raise DataError(f"{path}: no array train_inputs (or x_train). {received} {EXPECTED}")
    class_names = arrays.get("class_names")
    return array_dataset(parts, None if class_names is None else tuple(map(str, class_names.ravel())), data)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the archive. NumPy's own errors advise unpickling, which can run what a stranger wrote."""
    wrong = f"{path} cannot be read as a NumPy archive (.npz). Received:"
    try:
        with path.open("rb") as file:
            start = file.read(1024)
        if start.startswith(b"\x93NUMPY"):
            raise DataError(f"{wrong} one array (.npy). Save pictures and labels together with numpy.savez. {EXPECTED}")
        if not zipfile.is_zipfile(path):
            raise DataError(f"{wrong} {looks_like(start) if start else 'an empty file'}, not a zip archive.")
        arrays = {}
        with np.load(path, allow_pickle=False) as archive:
            for key in archive.files:
                try:
                    arrays[key] = archive[key]
                except ValueError as error:
                    if "allow_pickle" not in str(error):
                        raise
                    raise DataError(
                        f"{wrong} Python objects in {key!r}. Save plain arrays (labels as int32, class_names as str)."
                    ) from error
    except DataError:
        raise
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{wrong} {error}.") from error
    return arrays
