"""StableHLO by `jax.export`: one file with program and parameters, which JAX runs without this package."""

import json
import os
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp

from jaxvision.export.program import PLATFORMS, as_function, describe
from jaxvision.outputs import require_absent
from jaxvision.train.ready import ReadyModel


def write_stablehlo(ready: ReadyModel, path: Path) -> None:
    """Writes PATH and, for people, PATH.json (class names, pictures, outputs, versions).

    ```
    exported = jax.export.deserialize(bytearray(open(PATH, "rb").read()))
    exported.call(images)["probabilities"]      # images: uint8 (B, H, W, C) of any B
    ```
    For CPU, CUDA and TPU. JAX promises to read such files for six months after the version that wrote them.

    Raises: ConfigError: PATH.json is there already.
    """
    card = path.with_name(path.name + ".json")
    require_absent(card)
    function, parameters = as_function(ready)
    (batch,) = jax.export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *ready.image_shape), jnp.uint8)
    exported = jax.export.export(jax.jit(lambda images: function(parameters, images)), platforms=PLATFORMS)(images)
    document = {
        "format": "jax.export, StableHLO inside; read it by jax.export.deserialize",
        "platforms": list(exported.platforms),
        **describe(ready, function, parameters),
    }
    partials = {path: bytes(exported.serialize()), card: (json.dumps(document, indent=2) + "\n").encode()}
    moved = {target.with_name(f".{target.name}.{os.getpid()}.part"): target for target in partials}
    try:
        for partial, target in moved.items():
            partial.write_bytes(partials[target])
        for partial, target in moved.items():
            partial.rename(target)
    finally:
        for partial in moved:
            partial.unlink(missing_ok=True)
