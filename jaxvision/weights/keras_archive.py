"""`.keras` archives: a zip file with the model's configuration and its weights. Nothing of either is ever run."""

import json
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from jaxvision.errors import DataError
from jaxvision.weights.contents import layer_settings
from jaxvision.weights.keras3_h5 import Place

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
MAX_BYTES = 2**34
NO_PYTORCH = (
    "Weights of PyTorch models are not read, as .safetensors neither: their kernels are stored in another order, and"
    " networks of the same name differ. Weights of Keras are: those of `jaxvision weights list` (imagenet in place of a"
    " file), or a file that Keras saved."
)
BOMB_BYTES, BOMB_RATIO = 2**24, 100
"""Keras stores members as they are; one of many bytes that was packed more than this was packed to do harm."""


def unpack(path: str, folder: str) -> tuple[str, dict[str, Place]]:
    """Unpacks the archive's weights into `folder`: their path there, and where each of their groups stands.

    Raises: DataError: not such an archive, damaged, of members that escape or explode, or with a model that runs code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            places = read_places(json.loads(archive.read(CONFIG)), path)
            target = Path(folder, WEIGHTS)
            with archive.open(WEIGHTS) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, 2**20)
            return str(target), places
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        json.JSONDecodeError,
        UnicodeDecodeError,
        RecursionError,
    ) as error:
        raise DataError(f"{path}: a damaged .keras archive; save it again. Zip says: {error}") from error
    except (NotImplementedError, OSError) as error:  # an unusual method of packing; no room to unpack
        raise DataError(f"{path}: the archive cannot be unpacked. Received: {error}") from error


def _check_members(archive: zipfile.ZipFile, path: str) -> None:
    members = archive.infolist()
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        link = stat.S_ISLNK(member.external_attr >> 16)
        if name.is_absolute() or ".." in name.parts or re.match(r"[A-Za-z]:", str(name)) or link:
            raise DataError(f"{path}: a member of the archive leads out of it; refused. Received: {member.filename!r}")
        if member.file_size > BOMB_BYTES and member.file_size > BOMB_RATIO * member.compress_size:
            raise DataError(
                f"{path}: {member.filename} grows from {member.compress_size:,} to {member.file_size:,} bytes; refused."
            )
        if member.flag_bits & 1:
            raise DataError(f"{path}: the archive is encrypted; Keras writes none such.")
    if sum(member.file_size for member in members) > MAX_BYTES:
        raise DataError(f"{path}: the archive holds more than {MAX_BYTES:,} bytes; refused.")
    missing = {CONFIG, WEIGHTS} - {member.filename for member in members}
    if missing:
        hint = ""
        if any(member.filename.endswith(".pkl") for member in members):
            hint = f" It holds a pickle, as PyTorch's .pth and .pt do, which is never opened here. {NO_PYTORCH}"
        elif all(member.filename.endswith(".npy") for member in members):
            hint = (
                " It is NumPy's .npz: save its arrays as .safetensors, called LAYER/TENSOR as in Keras (conv1/kernel)."
            )
        raise DataError(
            f"{path}: a zip file, but no .keras archive: no {' and no '.join(sorted(missing))} in it.{hint}"
        )


def refuse_code(config: Any, path: str) -> None:
    """Raises DataError where a model's configuration holds Python code (Lambda layers, functions), at any depth.

    It would not be run in any case; but what such a layer computes is not known, so neither is what the weights mean.
    """
    if isinstance(config, dict):
        if config.get("class_name") in ("Lambda", "__lambda__"):
            inner = config.get("config")
            name = inner.get("name", "?") if isinstance(inner, dict) else "?"
            raise DataError(
                f"{path}: the model has a Lambda (Python code inside the file), which is never run here; refused."
                " Make the model without it and save that, or only its weights (model.save_weights)."
                f" Received: layer {name!r}"
            )
        config = list(config.values())
    if isinstance(config, list):
        for part in config:
            refuse_code(part, path)


def read_places(config: Any, path: str) -> dict[str, Place]:
    """For each group of the weights, `layers/conv2d_1`, the layer's position in the model and its name.

    Raises: DataError: code in the configuration, or classes that are not Keras' own.
    """
    refuse_code(config, path)
    places: dict[str, Place] = {}

    def enter(model: Any, prefix: str) -> None:
        used: dict[str, int] = {}
        for layer in model["config"]["layers"]:
            kind = _snake_case(layer["class_name"])
            number = used[kind] = used.get(kind, -1) + 1
            group = f"{prefix}layers/{kind}" + (f"_{number}" if number else "")
            _refuse_custom(layer, path)
            if layer["class_name"] in ("Functional", "Sequential", "Model"):
                enter(layer, f"{group}/")
            name = str(layer["config"].get("name", kind))
            places[group] = Place(len(places), name, layer_settings(layer["config"]))

    try:
        _refuse_custom(config, path)
        enter(config, "")
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: config.json is not one of a Keras model. Missing: {error}") from error
    return places


def _refuse_custom(layer: dict[str, Any], path: str) -> None:
    module, registered = layer.get("module"), layer.get("registered_name")
    own = module is None and isinstance(registered, str) and ">" in registered
    if own or (isinstance(module, str) and module.split(".")[0] not in ("keras", "builtins")):
        raise DataError(
            f"{path}: {layer['class_name']!r} is a class of the model's author, whose code is not here, so what its"
            f" weights mean is not known. Save only the weights (model.save_weights('NAME.weights.h5')) and load those."
            f" Received: {registered or module!r}"
        )


def _snake_case(name: str) -> str:
    """As Keras makes group names of class names: SeparableConv2D -> separable_conv2d."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()
