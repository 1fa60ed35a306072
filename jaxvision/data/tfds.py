"""Source `tfds:NAME`: any TensorFlow dataset of single pictures with class labels or masks."""

import functools
import logging
import sys
from typing import Any

import numpy as np

from jaxvision import config
from jaxvision.bucket import in_bucket
from jaxvision.config import PARTS
from jaxvision.data.mask import mask_classes, rule_of
from jaxvision.data.parts import Dataset, fingerprint, image_shape
from jaxvision.data.paths import existing_path
from jaxvision.data.tf_picture import mapped, tensorflow
from jaxvision.data.user_dataset import StoredMasks, stream_part
from jaxvision.errors import ConfigError, DataError, nearest
from jaxvision.quiet import quiet


def tfds(data: config.Data) -> Dataset:
    """The splits train, validation and test of a TFDS dataset; `data.path` is TFDS' data_dir.

    The records are read once for the labels, which the decoded cache spares the next time; pictures are decoded when
    a feed is opened. What is not there yet is downloaded, and said so.
    `data.target` names the feature to predict: a class label, or an integer picture of one channel, whose masks are
    read as TFDS decodes them, by `data.label_offset`, `data.mask_values`, `data.mask_thresholds` and
    `data.ignore_label`, with the classes of `data.class_names`.
    """
    name = data.source.removeprefix("tfds:")
    tensorflow()
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise DataError(
            f"{data.source} needs tensorflow-datasets: pip install tensorflow-datasets. Received: {error}."
        ) from error
    builder = _builder(tensorflow_datasets, name, data)
    image_key, label_key = _keys(builder, name, data.target)
    image, label = builder.info.features[image_key], builder.info.features[label_key]
    features = tensorflow_datasets.features
    masks = isinstance(label, features.Image) and label.shape[-1] == 1 and np.issubdtype(label.np_dtype, np.integer)
    if not isinstance(image, features.Image) or not (masks or isinstance(label, features.ClassLabel)):
        raise DataError(
            f"tfds:{name} has no single picture with a class label or mask under these names. Received: {image_key!r} "
            f"and {label_key!r} of {builder.info.features}. See data.target."
        )
    for field in ("label_offset", "label_values"):
        if not masks and (value := getattr(data, field)):
            raise ConfigError(f"data.{field}: TFDS numbers its classes from 0 by itself. Received: {value}.")
    class_names = _class_names(label, masks, data)
    feature = f" {label_key}" if masks or data.target else ""  # the cache keeps them with the pictures
    rule = rule_of(data, len(class_names))
    if image.np_dtype not in (np.uint8, np.float32):
        raise DataError(f"tfds:{name}: pictures must be uint8 or float32. Received: {np.dtype(image.np_dtype)}.")
    splits = {part: f"The {part} part of tfds:{name}" for part in PARTS if part in builder.info.splits}
    if "train" not in splits:
        raise DataError(f"tfds:{name} has no split 'train'. Received: {', '.join(builder.info.splits) or 'none'}.")

    def records(split: str) -> Any:
        stored = (image_key, label_key) if masks else (image_key,)
        as_stored = dict.fromkeys(stored, tensorflow_datasets.decode.SkipDecoding())
        features = tensorflow_datasets.decode.PartialDecoding({image_key, label_key}, as_stored)
        reading = tensorflow_datasets.ReadConfig(try_autocache=False)
        # TFDS warns of its own deprecations whenever some features are left out.
        with quiet("absl", logging.ERROR):
            examples = builder.as_dataset(split=split, decoders=features, read_config=reading, shuffle_files=False)
        return mapped(examples, lambda example: (example[image_key], example[label_key]))

    parts = {
        part: stream_part(
            functools.partial(records, part),
            image.decode_example,
            where,
            data,
            identity=f"tfds {tensorflow_datasets.__version__} {_records(builder, part)}{feature}",
            masks=StoredMasks(label.decode_example, rule, builder.info.splits[part].num_examples) if masks else None,
        )
        for part, where in splits.items()
    }
    return Dataset(
        train=parts["train"],
        validation=parts.get("validation"),
        test=parts.get("test"),
        class_names=class_names,
        image_shape=image_shape(parts["train"]),
        fingerprint=fingerprint(
            {f"{builder.info.full_name} {part} {builder.info.splits[part].num_bytes}": parts[part] for part in parts}
        ),
    )


def _records(builder: Any, split: str) -> str:
    """The split's files, by name, size and time."""
    files = [(file.name, file.stat()) for file in builder.info.splits[split].filepaths]
    return f"{builder.info.full_name} {[(name, status.length, status.mtime) for name, status in files]}"


def _builder(tensorflow_datasets: Any, name: str, data: config.Data) -> Any:
    """The dataset's builder, with its files on disk."""
    if data.path is not None and in_bucket(data.path):
        raise DataError(f"data.path: TFDS' data_dir must be a folder of this machine. Received: {data.path}")
    data_dir = None if data.path is None else str(existing_path(data))  # a typing error must not start a download
    try:
        builder = tensorflow_datasets.builder(name, data_dir=data_dir)
    except tensorflow_datasets.core.registered.DatasetNotFoundError as error:
        hint = nearest(name, tensorflow_datasets.list_builders())
        raise DataError(f"TFDS has no dataset {name!r}.{hint} Received: data.source={data.source}.") from error
    except Exception as error:
        raise DataError(f"TFDS cannot open {name!r}. Received: {_reason(error)}.") from error
    if builder.is_prepared():
        return builder
    print(
        f"tfds:{name} is not in {builder.data_path}: downloading and preparing it "
        f"({builder.info.download_size or 'unknown size'}).",
        file=sys.stderr,
    )
    try:
        builder.download_and_prepare()
    except Exception as error:  # whatever a dataset's own script, the network or the disk raises
        raise DataError(
            f"tfds:{name} is not in {builder.data_path} and could not be prepared. Received: {_reason(error)}. "
            f"Point data.path at a data_dir that holds it, or prepare it where there is a network: "
            f"tfds build {name} --data_dir DIR."
        ) from error
    return builder


def _class_names(label: Any, masks: bool, data: config.Data) -> tuple[str, ...]:
    """The names that the feature has, or those of `data` for masks and for classes that have only numbers."""
    if masks and (names := mask_classes(data)):
        return names
    if data.class_names and not label.names:
        return data.class_names
    number = getattr(label, "num_classes", None)  # a plain picture of numbers does not say
    if number is None:
        raise DataError(
            f"{data.source} does not say how many classes the masks of {data.target!r} have. Received: "
            "data.class_names=(). Set data.class_names to the classes in the order of their numbers; masks whose first "
            "class is 1 need data.label_offset=1, and others data.mask_values or data.mask_thresholds."
        )
    return tuple(getattr(label, "names", None) or map(str, range(number)))


def _keys(builder: Any, name: str, target: str | None) -> tuple[str, str]:
    """Names of the picture and of what is to be predicted, the label if not `target`, among the dataset's features."""
    keys = builder.info.supervised_keys or ("image", "label")
    features = builder.info.features
    if target is not None:
        if target not in features:
            raise DataError(
                f"data.target: tfds:{name} has no such feature.{nearest(target, features)} "
                f"Received: {target!r}. It has: {', '.join(features)}."
            )
        keys = (keys[0] if isinstance(keys[0], str) else "image", target)
    if len(keys) != 2 or not all(isinstance(key, str) and key in features for key in keys):
        raise DataError(f"tfds:{name} does not say which features are picture and label. Received: {features}.")
    return keys


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200].rstrip('.')}"
