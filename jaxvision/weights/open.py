"""A file of weights, whatever its format: what is in the file decides, not what it is called."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from jaxvision.errors import DataError
from jaxvision.weights.contents import (
    FileLayer,
    FileTensor,
    WeightsFile,
    automatic_kind,
    kind_from_tensors,
    natural_key,
)
from jaxvision.weights.hdf5 import faults_of_hdf5, text
from jaxvision.weights.keras3_h5 import Place, is_keras3, read_keras3
from jaxvision.weights.keras_archive import NO_PYTORCH, refuse_code, unpack
from jaxvision.weights.legacy_h5 import is_legacy, read_legacy

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
FORMATS = "Keras HDF5 (.h5, .weights.h5), a .keras archive or .safetensors"
_PYTORCH_NAMES = {"weight", "running_mean", "running_var", "num_batches_tracked"}
_DTYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16, "BOOL": np.bool_},
    **{f"{kind}{bits}": np.dtype(f"{kind.lower()}{bits // 8}") for kind in "IU" for bits in (8, 16, 32, 64)},
}


@contextlib.contextmanager
def open_weights(path: str | os.PathLike[str]) -> Iterator[WeightsFile]:
    """What the file holds; tensors can be read inside the block.

    Nothing in a file is ever run or unpickled. Refused: links and storage outside the file, plug-in filters, archive
    members that escape or explode, Lambda layers, and classes that are not Keras' own in a `.keras` archive.

    Raises: DataError: no such file, damaged, refused, or of no known format.
    """
    name = os.fspath(path)
    try:
        real = str(Path(name).expanduser())
        with open(real, "rb") as file:
            start = file.read(512)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{name}: a file of weights is needed. Received: {reason}") from error
    with contextlib.ExitStack() as stack:
        if start.startswith(HDF5):
            contents = _open_hdf5(real, name, stack)
        elif start.startswith(ZIP):
            weights, places = unpack(real, stack.enter_context(tempfile.TemporaryDirectory()))
            contents = _open_hdf5(weights, name, stack, places)
        elif len(start) >= 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**27:
            contents = _open_safetensors(real, name, stack)
        else:
            raise DataError(f"{name}: not a file of weights, which is {FORMATS}.{_what(start)}")
        yield contents


def _what(start: bytes) -> str:
    """What a file is that is none of ours, where its first bytes tell."""
    if not start:
        return " Received: an empty file"
    if start.startswith(b"version https://git-lfs"):
        return " Received: a pointer of Git LFS; fetch the file itself with `git lfs pull`"
    if start.lstrip()[:1] == b"<":
        return " Received: a web page; a download went wrong"
    if start.startswith(b"\x80"):
        return f" Received: a pickle, as PyTorch's .pth and .pt are, which is never opened here. {NO_PYTORCH}"
    if start.startswith(b"\x93NUMPY"):
        return " Received: a NumPy array"
    if all(byte >= 32 or byte in b"\t\r\n\f" for byte in start):
        return " Received: a text file"
    return f" Received: a file that begins with {start[:8]!r}"


def _open_hdf5(
    path: str, name: str, stack: contextlib.ExitStack, places: dict[str, Place] | None = None
) -> WeightsFile:
    with faults_of_hdf5(name):
        file = stack.enter_context(h5py.File(path, "r"))
        if places is not None:
            return WeightsFile(name, ".keras archive", tuple(read_keras3(file, name, places)))
        if is_legacy(file):
            config = json.loads(text(file, "model_config") or "null")
            refuse_code(config, name)
            return WeightsFile(name, "legacy Keras HDF5", tuple(read_legacy(file, name, config)))
        if is_keras3(file):
            return WeightsFile(name, "Keras 3 HDF5", tuple(read_keras3(file, name)))
        has = ", ".join(file) or "nothing"
        raise DataError(f"{name}: HDF5, but without the groups of Keras' weights. It has: {has}")


def _open_safetensors(path: str, name: str, stack: contextlib.ExitStack) -> WeightsFile:
    """Tensors called LAYER/TENSOR, as `export` writes them with the layers' order in the metadata; or LAYER.TENSOR."""
    with _faults_of_safetensors(name):
        file = stack.enter_context(safe_open(path, framework="numpy"))
        metadata = file.metadata() or {}
        tensors: dict[str, list[FileTensor]] = {}
        for key in file.keys():  # noqa: SIM118 (no mapping)
            layer, _, tensor = key.rpartition("/" if "/" in key else ".")
            part = file.get_slice(key)
            shape, dtype = tuple(part.get_shape()), _DTYPES.get(part.get_dtype())
            if tensor in _PYTORCH_NAMES and metadata.get("format") != "jaxvision":
                raise DataError(f"{name}: tensors under PyTorch's names. {NO_PYTORCH} Received: {key!r} {shape}")
            if dtype is None:
                raise DataError(f"{name}: {key}: numbers of an unknown type. Received: {part.get_dtype()}")
            read = partial(_read_safetensors, file, key, name)
            found = tensors.setdefault(layer, [])
            if tensor in (other.name for other in found):
                raise DataError(
                    f"{name}: {layer} has two tensors {tensor}; keep one. Received: {layer}.{tensor}, {layer}/{tensor}"
                )
            found.append(FileTensor(tensor, shape, np.dtype(dtype), read))
        names = [layer for layer in _order_of_layers(metadata, name) if layer in tensors]
    ordered = set(names) == set(tensors)
    layers = [
        FileLayer(
            layer,
            automatic_kind(layer) or kind_from_tensors(tuple(tensors[layer])),
            tuple(tensors[layer]),
            (("" if ordered else layer, number),),
        )
        for number, layer in enumerate(names if ordered else sorted(tensors, key=natural_key))
    ]
    return WeightsFile(name, "safetensors", tuple(layers), metadata.get("model"))


def _order_of_layers(metadata: dict[str, str], name: str) -> list[str]:
    """As `export_safetensors` notes it; of files that others wrote nothing is known."""
    if metadata.get("format") != "jaxvision":
        return []
    order = json.loads(metadata.get("layers", "[]"))
    names = isinstance(order, list) and all(isinstance(layer, str) for layer in order)
    if not names or len(set(order)) < len(order):
        raise DataError(f"{name}: damaged: the layers that its metadata list are not names, each once.")
    return order


def _read_safetensors(file: Any, key: str, name: str) -> np.ndarray:
    with _faults_of_safetensors(name):
        return file.get_tensor(key)


@contextlib.contextmanager
def _faults_of_safetensors(name: str) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, json.JSONDecodeError, RecursionError, OSError) as error:
        raise DataError(f"{name}: not a whole .safetensors file; fetch or save it again. It says: {error}") from error
