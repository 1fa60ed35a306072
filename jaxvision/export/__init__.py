"""A model with its weights as a file that other programs use, each format in a file of its own."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from jaxvision.errors import ConfigError, nearest
from jaxvision.export.savedmodel import write_savedmodel
from jaxvision.export.stablehlo import write_stablehlo
from jaxvision.outputs import require_absent
from jaxvision.train.ready import ReadyModel, ready_model
from jaxvision.weights import export_keras, export_safetensors


class Format(NamedTuple):
    """write(model, path) makes a file called NAME + suffix (a folder for savedmodel) that was not there before."""

    write: Callable[[ReadyModel, Path], None]
    suffix: str


FORMATS = {
    "stablehlo": Format(write_stablehlo, ""),
    "savedmodel": Format(write_savedmodel, ""),
    "safetensors": Format(lambda ready, path: export_safetensors(ready.model, path, name=ready.name), ".safetensors"),
    "keras": Format(lambda ready, path: export_keras(ready.model, path, name=ready.name), ".weights.h5"),
}

ONNX = """onnx is made in an environment of its own, as jax2onnx pins another orbax than training needs:
  jaxvision export RUN --to safetensors --out model.safetensors
  python -m venv onnx
  onnx/bin/pip install jax2onnx h5py pydantic rich safetensors
  onnx/bin/pip install --no-deps -e PATH_TO_CLONE
and in onnx/bin/python, with name, options, picture shape and number of outputs (1 for two classes) of the run:
  model = jaxvision.create_model(NAME, (H, W, C), OUTPUTS, conv="lax", **OPTIONS)
  jaxvision.load_keras_weights(model, "model.safetensors")
  jax2onnx.to_onnx(model, [("B", H, W, C)], return_mode="file", output_path="model.onnx")
Its input is float32 pixels, 0..255; its output logits."""


def export(
    source: str | os.PathLike[str],
    to: str,
    out: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    image_size: tuple[int, int] | None = None,
    top: bool = True,
) -> Path:
    """Writes a run's best checkpoint, or a model by name with `weights`, as `to`, a name of FORMATS; gives the path.

    weights, image_size, top: see `ready_model`. Nothing is written over, and nothing half-written stays.

    Raises: ConfigError: no such format, a file called otherwise than its format wants, or one that is there already.
      Others as `ready_model`.
    """
    if to == "onnx":
        raise ConfigError(f"to: {ONNX}")
    if to not in FORMATS:
        raise ConfigError(
            f"to: no such format.{nearest(to, FORMATS)} There are: {', '.join(FORMATS)}. Received: {to!r}"
        )
    path = Path(out).expanduser()
    if not path.name.endswith(FORMATS[to].suffix) or path.name == FORMATS[to].suffix:
        raise ConfigError(f"out: {to} is called NAME{FORMATS[to].suffix}. Received: {os.fspath(out)!r}")
    require_absent(path)
    ready = ready_model(source, weights=weights, image_size=image_size, top=top)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        FORMATS[to].write(ready, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written. Received: {error.strerror or error}") from error
    return path
