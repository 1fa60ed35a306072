"""Our weights as files that others read: Keras 3's `.weights.h5` and `.safetensors`."""

import io
import json
import os
from pathlib import Path

import h5py
import numpy as np
import safetensors.numpy
from flax import nnx

from jaxvision.errors import ConfigError
from jaxvision.outputs import write_whole
from jaxvision.weights.names import model_layers

FORMAT_VERSION = "1"
"""Of the layout of our safetensors: LAYER/TENSOR in Keras' names and shapes, layers in order in the metadata."""


def export_keras(model: nnx.Module, path: str | os.PathLike[str], *, name: str | None = None) -> None:
    """Writes a Keras 3 `.weights.h5` that `keras_model.load_weights` takes, of the model with the same layers.

    For our published architectures that is keras.applications' (with classifier_activation=None or not, which has no
    weights); for a convnet the book's; a head of `hidden` layers comes as Dense layers of the same model, after the
    base. Numbers and their types are unchanged. name: the model's, kept in the file.

    Raises: ConfigError: the path does not end in .weights.h5, without which Keras does not load it; or it cannot be
      written.
    """
    target, layers = _target(path, ".weights.h5"), model_layers(model)
    # In memory first: on a full disk h5py does not raise at once, and may crash later.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("vars").attrs["name"] = name or type(model).__name__.lower()
        numbers: dict[str, int] = {}
        for layer in layers:
            number = numbers[layer.kind] = numbers.get(layer.kind, -1) + 1
            # Keras finds a layer by its number among the model's layers of that class, whatever its name.
            group = file.create_group(f"layers/{layer.kind}" + (f"_{number}" if number else "") + "/vars")
            group.attrs["name"] = layer.name
            for index, tensor in enumerate(layer.tensors):
                values = tensor.values()
                stored = group.create_dataset(str(index), data=_plain(values))
                if values.dtype.name == "bfloat16":
                    stored.attrs["dtype"] = "bfloat16"
    _write(target, content.getbuffer())


def export_safetensors(model: nnx.Module, path: str | os.PathLike[str], *, name: str | None = None) -> None:
    """Writes `.safetensors`: tensors called LAYER/TENSOR in Keras' names and shapes (block1_conv1/kernel).

    Metadata: format "jaxvision", format_version, model (`name`, as in `create_model`) and layers, a JSON list of the
    layers in order. ConfigError: the path does not end in .safetensors, or cannot be written.
    """
    target, layers = _target(path, ".safetensors"), model_layers(model)
    metadata = {
        "format": "jaxvision",
        "format_version": FORMAT_VERSION,
        "layers": json.dumps([layer.name for layer in layers]),
    }
    if name is not None:
        metadata["model"] = name
    tensors = {f"{layer.name}/{tensor.name}": tensor.values() for layer in layers for tensor in layer.tensors}
    contiguous = {key: np.asarray(value, order="C") for key, value in tensors.items()}
    _write(target, safetensors.numpy.save(contiguous, metadata))


def _plain(values: np.ndarray) -> np.ndarray:
    """HDF5 has no bfloat16; Keras keeps it as two opaque bytes."""
    return values.view("V2") if values.dtype.name == "bfloat16" else values


def _target(path: str | os.PathLike[str], suffix: str) -> Path:
    target = Path(path).expanduser()
    if not target.name.endswith(suffix):
        raise ConfigError(f"{os.fspath(path)}: the file to write must be called NAME{suffix}.")
    return target


def _write(target: Path, content: bytes | memoryview) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, content)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written. Received: {error.strerror or error}") from error
