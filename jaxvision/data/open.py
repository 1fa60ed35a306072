"""Opening a dataset: find its source, check it, set a validation part aside, apply limits."""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from jaxvision import config
from jaxvision.bucket import expanded
from jaxvision.data.arrays import check_values, refuse_channels_first
from jaxvision.data.given import given_dataset
from jaxvision.data.names import composed
from jaxvision.data.order import choose
from jaxvision.data.parts import (
    ArrayPart,
    Dataset,
    FilePart,
    Part,
    SequentialPart,
    describe,
    has_masks,
    image_shape,
    take,
)
from jaxvision.data.reading import readable
from jaxvision.data.targets import check_target
from jaxvision.errors import ConfigError, DataError, nearest
from jaxvision.importing import import_attribute
from jaxvision.types import IGNORE, MAX_MASK_CLASSES

Source = Callable[[config.Data], Dataset]

SOURCES = {
    "digits": "jaxvision.data.digits:digits",
    "shapes": "jaxvision.data.shapes:shapes",
    "npz": "jaxvision.data.npz:npz",
    "folder": "jaxvision.data.folder:folder",
    "masks": "jaxvision.data.mask_folder:masks",
    "pets": "jaxvision.data.pets:pets",
    "csv": "jaxvision.data.csv_table:csv",
}
"""Sources by name; each is imported when it is used. `tfds:NAME` and `package.module:Name` come on top."""

FILE_SOURCES = ("folder", "masks", "pets", "csv")
"""Those that read picture files one by one."""

CSV_FIELDS = ("labels_per_image", "file_column", "part_column", "image_folder")


def open_dataset(data: config.Data, *, given: Mapping[str, Any] | None = None) -> Dataset:
    """The examples that `data` describes, or those `given` in Python, checked and cut to the parts asked for.

    given: {"train": X, "validation": X, "test": X}; X is (pictures, labels) or a tf.data.Dataset of such pairs;
    `data.source` is then not used. Raises DataError for wrong data and ConfigError for a wrong field.
    """
    if data.path is not None:
        data = replace(data, path=expanded(data.path))
    if given is not None:
        dataset = given_dataset(given, data)
    elif data.source == "given":
        raise DataError(
            "data.source: this run was trained on data handed to fit in Python; hand it over again, or name data with "
            "--data.source and --data.path. Received: 'given'."
        )
    else:
        source = find_source(data.source)
        with readable(data.path) if data.source in SOURCES else contextlib.nullcontext():
            dataset = source(data)
    if not isinstance(dataset, Dataset):
        raise DataError(f"data.source={data.source} must return a Dataset. Received: {type(dataset).__name__}.")
    _check(dataset, custom=given is None and ":" in data.source)
    _check_fields(dataset, data, given=given is not None)
    return drawn(dataset, data)


def drawn(dataset: Dataset, data: config.Data) -> Dataset:
    """The dataset with the validation part that `data.validation_fraction` asks for, and its parts cut to
    `data.limit_*`."""
    dataset = _set_aside(dataset, data)
    for name in config.PARTS:
        dataset = _limit(dataset, name, getattr(data, f"limit_{name}"), data.split_seed)
    return dataset


def undrawn(data: config.Data) -> config.Data:
    """The same data, of which nothing is drawn: as the source has it."""
    return replace(data, validation_fraction=0.0, limit_train=None, limit_validation=None, limit_test=None)


def find_source(name: str) -> Source:
    """The function behind `data.source`."""
    target = "jaxvision.data.tfds:tfds" if name.startswith("tfds:") else SOURCES.get(name, name)
    if ":" not in target:
        raise ConfigError(
            f"data.source: there is no such source.{nearest(name, SOURCES)} Received: {name!r}. "
            f"Known: {', '.join(SOURCES)}, tfds:NAME, package.module:Name."
        )
    source = import_attribute(target, field="data.source")
    try:
        inspect.signature(source).bind(config.Data())
    except (TypeError, ValueError) as error:  # ValueError: compiled, and its arguments cannot be told
        raise DataError(
            f"data.source: a source is a function of one argument, the run's jaxvision.config.Data, that returns a "
            f"jaxvision.data.Dataset ({error}). Received: {name}."
        ) from error
    return source


def _check(dataset: Dataset, *, custom: bool) -> None:
    classes = len(dataset.class_names)
    for name in config.PARTS:
        part: Part | None = getattr(dataset, name)
        if part is None:
            continue
        if not isinstance(part, ArrayPart | FilePart | SequentialPart):
            raise DataError(f"The {name} part is not a part of a dataset. Received: {type(part).__name__}.")
        if not len(part.target):
            raise DataError(f"The {name} part is empty. Received: 0 examples.")
        if isinstance(part, ArrayPart):
            _check_arrays(part, name)
            if custom:
                refuse_channels_first(image_shape(part), f"The {name} part")
            if custom and part.inputs.dtype == np.float32:
                check_values(part.inputs, f"The {name} part")
        if image_shape(part) != tuple(dataset.image_shape):
            raise DataError(
                f"The {name} part: pictures must be {dataset.image_shape} as in the training part. "
                f"Received: {image_shape(part)}. Set data.image_size to resize all."
            )
        if part.target.ndim != dataset.train.target.ndim:
            raise DataError(
                f"The {name} part: labels or masks must be of the same kind as in the training part. "
                f"Received: {part.target.shape} beside {dataset.train.target.shape}."
            )
        if has_masks(part) and part.target.shape[1:] != image_shape(part)[:2]:
            raise DataError(
                f"The {name} part: masks must be as high and wide as the pictures. "
                f"Received: masks {part.target.shape[1:]}, pictures {image_shape(part)[:2]}."
            )
        check_target(part, dataset.class_names, name, describe)
    if has_masks(dataset.train) and classes > MAX_MASK_CLASSES:
        raise DataError(f"Masks can tell {MAX_MASK_CLASSES} classes apart. Received: {classes}.")
    if classes < 2 and dataset.train.target.ndim != 2:
        mend = ""
        if has_masks(dataset.train):
            mend = f" If {IGNORE}, which is ignored, is one, set data.mask_values to the numbers of all (0 {IGNORE})."
        raise DataError(
            f"There must be at least two classes.{mend} Received: {classes} ({', '.join(dataset.class_names)})."
        )


def chooses_target(source: str) -> bool:
    """Whether `data.target` chooses what a source gives to predict: TFDS, shapes, CSV, and a source of your own."""
    return ":" in source or source in ("shapes", "csv")


def _check_fields(dataset: Dataset, data: config.Data, *, given: bool) -> None:
    """Fields that this data has no use for are wrong, not passed over."""
    names = ", ".join(dataset.class_names)
    if data.class_names and tuple(map(composed, data.class_names)) != tuple(map(composed, dataset.class_names)):
        raise DataError(
            f"data.class_names: the data has names of its own, {names}. Received: {', '.join(data.class_names)}. "
            "Leave data.class_names out; a run can be evaluated only on data of its own classes."
        )
    own = chooses_target(data.source)
    only = "mask" if has_masks(dataset.train) else "label"
    if data.target not in (None, only) and (given or not own):
        raise ConfigError(
            f"data.target: there is but one thing to predict in these data, a {only}. Received: {data.target!r}. Set it"
            " to None."
        )
    if data.bad_pictures != "refuse" and (given or (not own and data.source not in FILE_SOURCES)):
        raise ConfigError(
            f"data.bad_pictures: only sources of picture files ({', '.join(FILE_SOURCES)}) can leave some out. "
            f"Received: {data.bad_pictures!r}."
        )
    if data.bad_pictures == "refuse" and data.max_bad != config.Data.max_bad:
        raise ConfigError(f"data.max_bad goes with data.bad_pictures=skip. Received: {data.max_bad:g}.")
    imported = not given and ":" in data.source and not data.source.startswith("tfds:")
    for field in CSV_FIELDS:
        if (value := getattr(data, field)) != getattr(config.Data, field) and not (imported or data.source == "csv"):
            raise ConfigError(f"data.{field} is for data.source=csv. Received: {value!r} with {data.source!r}.")
    arrays = given or imported or data.source == "npz"
    for field, default in (("ignore_label", None), ("mask_values", ()), ("mask_thresholds", ())):
        if not has_masks(dataset.train) and (value := getattr(data, field)) != default:
            raise ConfigError(f"data.{field} is for masks, and these data have none. Received: {value}.")
    if data.label_values and has_masks(dataset.train):
        raise ConfigError(
            f"data.label_values is for labels, and these data have masks: set data.mask_values. "
            f"Received: {data.label_values}."
        )
    for field in ("label_offset", "label_values"):
        numbers = has_masks(dataset.train) or (arrays and dataset.train.target.ndim == 1)
        if (value := getattr(data, field)) and not numbers:
            raise ConfigError(
                f"data.{field} is for arrays of class numbers and for masks, and these data have other labels. "
                f"Received: {value}."
            )
    for field, more in (("label_values", 0), ("mask_values", 0), ("mask_thresholds", 1)):
        if (value := getattr(data, field)) and len(value) + more != len(dataset.class_names):
            raise DataError(
                f"data.{field}: the data has {len(dataset.class_names)} classes, {names}. Received: {value}, for "
                f"{len(value) + more} classes."
            )


def _check_arrays(part: ArrayPart, name: str) -> None:
    if part.inputs.ndim != 4 or part.inputs.dtype not in (np.uint8, np.float32):
        raise DataError(
            f"The {name} part: pictures must be uint8 or float32 (N, H, W, C). "
            f"Received: {part.inputs.dtype} {part.inputs.shape}."
        )
    if len(part.target) != len(part.inputs):
        raise DataError(
            f"The {name} part: as many labels as pictures. "
            f"Received: {len(part.inputs)} pictures, {len(part.target)} labels."
        )


def _set_aside(dataset: Dataset, data: config.Data) -> Dataset:
    """Move a share of the training part, drawn by split_seed, to a validation part, where there is none."""
    if not data.validation_fraction or dataset.validation is not None:
        return dataset
    total = len(dataset.train.target)
    count = round(total * data.validation_fraction)
    if not 0 < count < total:
        raise DataError(
            f"data.validation_fraction leaves one part empty. Received: {data.validation_fraction} of {total} examples."
        )
    aside = choose(data.split_seed, "validation", total, count)
    kept = np.setdiff1d(np.arange(total), aside)
    train, validation = take(dataset.train, kept), take(dataset.train, aside)
    return replace(dataset, train=train, validation=validation, validation_drawn=True)


def _limit(dataset: Dataset, name: str, limit: int | None, seed: int) -> Dataset:
    if limit is None:
        return dataset
    part: Part | None = getattr(dataset, name)
    if part is None:
        raise DataError(
            f"data.limit_{name}: the dataset has no {name} part. Received: {limit}. Leave data.limit_{name} out."
        )
    count = len(part.target)
    if limit > count:
        raise DataError(
            f"data.limit_{name} is larger than the {name} part. Received: {limit} with {count} examples. "
            f"Make data.limit_{name} at most {count}."
        )
    limited: dict[str, Any] = {name: take(part, choose(seed, f"limit {name}", count, limit))}
    return replace(dataset, **limited)
