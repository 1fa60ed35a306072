"""A model as one function from raw pixels, as other programs call it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.nn.mode import call_model
from jaxvision.train.metrics import class_probabilities
from jaxvision.train.ready import ReadyModel

PLATFORMS = ("cpu", "cuda", "tpu")

Parameters = dict[str, Any]
Function = Callable[[Parameters, jax.Array], dict[str, jax.Array]]


def as_function(ready: ReadyModel) -> tuple[Function, Parameters]:
    """`function(parameters, images)` for uint8 (B, H, W, C), and the parameters by their paths, base/conv1/kernel.

    It gives float32 "logits" (B, outputs) and "probabilities" (B, classes), which are two for one logit; of a model
    without a head, "features". To be exported for any batch: only then are all convolutions the compiler's own, and the
    program bound to no machine.
    """
    graph, random, state = nnx.split(ready.model, nnx.RngState, ...)  # type: ignore[misc]
    variables = {"/".join(map(str, path)): (path, variable) for path, variable in nnx.to_flat_state(state)}
    parameters = {name: variable[...] for name, (_, variable) in variables.items()}

    def function(parameters: Parameters, images: jax.Array) -> dict[str, jax.Array]:
        filled = [(path, variable.replace(parameters[name])) for name, (path, variable) in variables.items()]
        model = nnx.merge(graph, random, nnx.from_flat_state(filled))
        outputs = call_model(model, images).astype(jnp.float32)
        if ready.num_outputs is None:
            return {"features": outputs}
        return {"logits": outputs, "probabilities": class_probabilities(outputs)}

    return function, parameters


def describe(ready: ReadyModel, function: Function, parameters: Parameters) -> dict[str, Any]:
    """What who calls the function must know, as JSON: pictures, outputs, class names, versions."""
    height, width, channels = ready.image_shape
    images = jax.ShapeDtypeStruct((1, *ready.image_shape), jnp.uint8)
    outputs = jax.eval_shape(function, parameters, images)
    colours = "red, green, blue" if channels == 3 else "grey"
    cut = "cut to the aspect ratio about the middle, then " if ready.resize == "crop" else ""
    return {
        **ready.about(),
        "class_names": list(ready.class_names),
        "input": {"name": "images", "dtype": "uint8", "shape": ["batch", height, width, channels]},
        "outputs": {name: ["batch", *info.shape[1:]] for name, info in outputs.items()},
        "pixels": f"0..255 as decoded, {colours}; the model itself rescales them",
        "resize": f"{cut}stretched bilinearly with half-pixel centres, without antialiasing",
    }
