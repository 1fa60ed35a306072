"""Parts that the user hands over in Python: arrays or tf.data.Datasets."""

import sys
from collections.abc import Mapping
from typing import Any

from jaxvision import config
from jaxvision.config import PARTS
from jaxvision.data.arrays import array_dataset, array_part
from jaxvision.data.parts import Dataset, Part
from jaxvision.errors import DataError, nearest


def given_dataset(given: Mapping[str, Any], data: config.Data) -> Dataset:
    """{"train": X, "validation": X, "test": X}, X a pair of arrays (pictures, labels or masks) or a tf.data.Dataset.

    Only "train" is needed. "class_names" may be given too, else the training dataset's `class_names` attribute
    (Keras' folder reader sets it) or the numbers are taken.
    """
    for name in given:
        if name not in (*PARTS, "class_names"):
            raise DataError(
                f"Unknown part {name!r} of the given data.{nearest(name, PARTS)} Received: {', '.join(given)}."
            )
    if given.get("train") is None:
        raise DataError(f"The given data has no part 'train'. Received: {', '.join(given) or 'nothing'}.")
    parts = {name: _part(given[name], name, data) for name in PARTS if given.get(name) is not None}
    class_names = given.get("class_names") or getattr(given["train"], "class_names", None)
    return array_dataset(parts, class_names and tuple(map(str, class_names)), data)


def _part(value: Any, name: str, data: config.Data) -> Part:
    where = f"The given {name} part"
    tf = sys.modules.get("tensorflow")  # a tf.data.Dataset cannot exist before TensorFlow is imported
    if tf is not None and isinstance(value, tf.data.Dataset):
        from jaxvision.data.user_dataset import dataset_part

        return dataset_part(value, where, data)
    if isinstance(value, tuple | list) and len(value) == 2:
        return array_part(value[0], value[1], where, data)
    raise DataError(
        f"{where} must be a pair of arrays (pictures, labels) or a tf.data.Dataset. Received: {type(value).__name__}."
    )
