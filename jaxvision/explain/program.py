"""Running a model over pictures in batches of one shape, and finding what its pictures and classes are."""

import contextlib
import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.errors import ConfigError
from jaxvision.explain.scores import check_classes, predicted
from jaxvision.models.layers import find_layer, layer_name, layer_outputs
from jaxvision.nn import Conv, Dense
from jaxvision.nn.activation import linear as no_activation
from jaxvision.nn.mode import call, call_model, set_mode
from jaxvision.nn.watch import Path, current_trace, watch

Classes = Sequence[int] | np.ndarray | int | None
"""Of each picture, or of all of them; None: what the model predicts."""


class Subject(NamedTuple):
    """What is explained: a model; raw pixels float32 (B, H, W, C); classes int32 (B,); and of a model that segments the
    pixels whose score counts, float32 (B, H, W)."""

    graph: nnx.GraphDef
    state: nnx.State
    images: np.ndarray
    classes: np.ndarray
    region: np.ndarray | None

    def in_batches(self, function: Callable[..., jax.Array], batch_size: int) -> np.ndarray:
        """What `function(images, classes, region)` makes of all pictures, a batch at a time."""
        arrays = (self.images, self.classes, self.region)
        return in_batches(lambda *batch: (function(*batch),), arrays, batch_size)[0]

    def one_by_one(self, function: Callable[..., jax.Array]) -> np.ndarray:
        """What `function(image, label, region)` makes of each picture."""
        regions = [None] * len(self.images) if self.region is None else self.region
        return np.stack([function(*each) for each in zip(self.images, self.classes, regions, strict=True)])


def subject(
    model: nnx.Module, images: np.ndarray, classes: Classes, region: np.ndarray | None, batch_size: int
) -> Subject:
    """The model with pictures, classes and pixels to explain.

    Args:
      images: (B, H, W, C), raw pixels 0..255.
      classes: None: those that the model predicts.
      region: of a model that segments, (B, H, W); None: the pixels predicted as the picture's class, or all where there
        are none.

    Raises: ConfigError: no pictures, classes that the model does not know, a region that does not fit.
    """
    images = check_images(images).astype(np.float32)
    graph, state = nnx.split(model)
    try:
        logits = jax.eval_shape(partial(logits_of, graph), state, jax.ShapeDtypeStruct(images.shape, jnp.float32))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"images: the model does not take pictures of {images.shape[1:]}: {error}") from error
    if len(logits.shape) not in (2, 4):
        raise ConfigError(f"model: must give logits (B, K), or (B, H, W, K). Received: {logits.shape}")
    segments = len(logits.shape) == 4
    if region is not None and (not segments or np.shape(region) != images.shape[:3]):
        wanted = f"must be {images.shape[:3]}" if segments else "is for a model that segments"
        raise ConfigError(f"region: {wanted}. Received: an array {np.shape(region)}")
    pixels = None
    if classes is None or (segments and region is None):
        answers = in_batches(lambda images: _predicted(graph, state, images), (images,), batch_size)
        likeliest, pixels = (*answers, None)[:2]
        classes = likeliest if classes is None else classes
    classes = check_classes(np.asarray(classes), len(images), logits.shape[-1])
    if region is None and pixels is not None:
        where = pixels == classes[:, None, None]
        region = where | ~where.any(axis=(1, 2), keepdims=True)
    return Subject(graph, state, images, classes, None if region is None else np.asarray(region, np.float32))


def check_images(images: np.ndarray) -> np.ndarray:
    """A batch of pictures. Raises: ConfigError: it is not (B, H, W, C), is empty, or holds what is no number."""
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise ConfigError(f"images: a batch of pictures (B, H, W, C), raw pixels. Received: an array {images.shape}")
    if not np.isfinite(images).all():
        raise ConfigError("images: raw pixels are numbers from 0 to 255. Received: NaN or infinity among them")
    return images


def in_batches(
    function: Callable[..., tuple[Any, ...]], arrays: Sequence[np.ndarray | None], batch_size: int
) -> tuple[np.ndarray, ...]:
    """What `function` makes of arrays (N, ...), a batch at a time; None stays None. The last batch is filled up with
    zeros, so that one program does for all.

    Raises: ConfigError: batch_size below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size: must be at least 1. Received: {batch_size}")
    count = len(next(array for array in arrays if array is not None))
    batch_size = min(batch_size, count)
    results = []
    for first in range(0, count, batch_size):
        batch = [array if array is None else array[first : first + batch_size] for array in arrays]
        rows = min(batch_size, count - first)
        filled = [b if b is None else np.pad(b, [(0, batch_size - rows), *((0, 0),) * (b.ndim - 1)]) for b in batch]
        results.append([np.asarray(values)[:rows] for values in function(*filled)])
    return tuple(np.concatenate(values) for values in zip(*results, strict=True))


def spatial_layer(model: nnx.Module, image_shape: tuple[int, ...], name: str | None) -> tuple[Path, tuple[int, ...]]:
    """Path and output (h, w, c) of the layer of this name; None: of the deepest, the last of the fewest pixels.

    Pools are passed over, as what they leave is in the layer before with more detail; chains, whose last layer gives
    the same; what comes before the first layer with parameters; and layers inside `jax.checkpoint`, a scan or another
    transformation, whose outputs do not come out of it.

    Raises: ConfigError: no such layer, or none that gives more than one pixel.
    """
    if name is not None:
        path = find_layer(model, name)
        return path, output_shape(model, path, image_shape)
    modules, layers = dict(nnx.iter_modules(model)), layer_outputs(model, image_shape)
    before = list(itertools.takewhile(lambda layer: not nnx.state(modules[layer.path], nnx.Param), layers))
    first_calls = {layer.path: layer for layer in reversed(layers[len(before) :])}
    fit = [
        layer
        for layer in reversed(first_calls.values())
        if layer.reachable and len(layer.shape) == 3 and layer.shape[0] * layer.shape[1] > 1
        and "Pool" not in layer.kind.__name__ and layer.kind.__name__ != "Chain"
    ]  # fmt: skip
    if not fit:
        raise ConfigError(
            f"layer: no layer of the model gives more than one pixel for pictures of {image_shape}: there is no place"
            " to point to."
        )
    deepest = min(reversed(fit), key=lambda layer: layer.shape[0] * layer.shape[1])
    return deepest.path, deepest.shape


def output_shape(model: nnx.Module, path: Path, image_shape: tuple[int, ...]) -> tuple[int, ...]:
    """(h, w, c), what a layer gives for pictures of `image_shape`. Nothing is computed.

    Raises: ConfigError: the layer does not give height, width and channels, or is not run.
    """
    graph, state = nnx.split(model)
    pictures = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    found = jax.eval_shape(partial(outputs_at, graph, paths=(path,)), state, pictures)
    shape = found[path].shape[1:]
    if len(shape) != 3:
        raise ConfigError(f"layer: {layer_name(path)} gives {shape}, not height, width and channels.")
    return shape


class Reached(Exception):  # noqa: N818
    """No error: ends a forward pass."""


def outputs_at(
    graph: nnx.GraphDef, state: nnx.State, images: jax.Array, paths: Sequence[Path], *, linear: bool = False
) -> dict[Path, jax.Array]:
    """What the layers of these paths give, when they are first called; layers behind the last of them are not run, and
    may not even fit.

    linear: without the activation that a layer of `jaxvision.nn` ends with.
    """
    found: dict[Path, jax.Array] = {}
    outside = current_trace()

    def note(path: Path, output: jax.Array) -> jax.Array:
        if path in paths and path not in found:
            if current_trace() != outside or not hasattr(output, "shape"):
                raise ConfigError(
                    f"layer: {layer_name(path)} gives no array, or runs inside jax.checkpoint, a scan or another"
                    " transformation, which its output does not leave. Take the block around it."
                )
            found[path] = output
            if len(found) == len(set(paths)):
                raise Reached
        return output

    model = nnx.merge(graph, state, copy=True)
    if linear:
        _drop_activations(model, paths)
    set_mode(model, train=False)
    watch(model, note)
    with contextlib.suppress(Reached):
        call(model, images)
    if missing := [layer_name(path) for path in paths if path not in found]:
        raise ConfigError(f"layer: not run for a prediction: {', '.join(missing)}.")
    return found


def _drop_activations(model: nnx.Module, paths: Sequence[Path]) -> None:
    ends = {*paths, *((*path, "pointwise") for path in paths)}  # a separable convolution ends with its 1x1 one
    for path, module in nnx.iter_modules(model):
        if path in ends and isinstance(module, Conv | Dense):
            module.activation = no_activation


def with_change(
    graph: nnx.GraphDef, state: nnx.State, images: jax.Array, path: Path, change: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(logits, the layer's output) where `change` was added to what the layer gives when it is first called: the way to
    its gradient."""
    found: list[jax.Array] = []

    def add(at: Path, output: jax.Array) -> jax.Array:
        if at != path or found:
            return output
        found.append(output)
        return output + change.astype(output.dtype)

    model = nnx.merge(graph, state, copy=True)
    set_mode(model, train=False)
    watch(model, add)
    return call(model, images), found[-1]


def logits_of(graph: nnx.GraphDef, state: nnx.State, images: jax.Array) -> jax.Array:
    """The model's logits in evaluation mode."""
    return call_model(nnx.merge(graph, state, copy=True), images)


@partial(jax.jit, static_argnums=0)
def _predicted(graph: nnx.GraphDef, state: nnx.State, images: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(values for values in predicted(logits_of(graph, state, images)) if values is not None)
