"""A model ready to use: a run's best checkpoint, or an architecture by its name with weights from elsewhere."""

import hashlib
import os
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from etils import epath
from flax import nnx

from jaxvision.bucket import expanded
from jaxvision.config import Data, Model, Run
from jaxvision.errors import ConfigError, nearest
from jaxvision.experiments import list_experiments, load_run
from jaxvision.models import abstract_model, create_model, model_names
from jaxvision.models.registry import BOOK_INPUTS
from jaxvision.nn import Chain
from jaxvision.train.checkpoint import restore_best
from jaxvision.train.folder import PACKAGES
from jaxvision.weights import load_keras_weights, published_file
from jaxvision.weights.names import model_layers
from jaxvision.weights.open import open_weights
from jaxvision.weights.port import OtherHeadError


@dataclass(frozen=True)
class ReadyModel:
    """A model with its weights, and how pictures are made ready for it.

    image_shape: (H, W, C). num_outputs: None for a base alone. class_names: () where they are not known. resize: how
    pictures get that shape. origin: where the weights come from, in words. task: of a run.
    """

    model: Any
    name: str
    image_shape: tuple[int, int, int]
    num_outputs: int | None
    class_names: tuple[str, ...]
    resize: Literal["stretch", "crop"]
    origin: str
    task: Literal["classification", "multilabel", "segmentation"] = "classification"

    def about(self) -> dict[str, Any]:
        """What another must know of the model, as JSON."""
        return {
            "model": self.name,
            "weights": self.origin,
            "weights_sha256": weights_digest(self.model),
            "image_shape": list(self.image_shape),
            "resize": self.resize,
            "versions": {package: version for package in PACKAGES if (version := _version(package))},
        }


def ready_model(
    source: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None = None,
    image_size: tuple[int, int] | None = None,
    top: bool = True,
) -> ReadyModel:
    """The model of a run folder, resized to as the run did; or a model by name, which needs `weights`.

    Args:
      weights: "imagenet" for Keras' published ones, or a file (see `load_keras_weights`).
      image_size: height and width of the pictures; None: those the model is usually made for.
      top: with the head, of a model by name of as many outputs as the weights have; False: the base alone.

    Raises: UserError: no such run or model, no weights, weights of another model, or no base to take alone.
    """
    source = expanded(source)
    if _is_run(source):
        for flag, value in (("weights", weights), ("image_size", image_size)):
            if value is not None:
                raise ConfigError(f"{flag}: {source} is a run, which has its own. Received: {value!r}")
        return _of_run(source, top)
    if source not in model_names() and ":" not in source:
        raise ConfigError(
            f"{source!r} is neither a run folder (no checkpoints/ in it) nor a model. Models:"
            f" {', '.join(model_names())}; or package.module:Class of your own."
        )
    if weights is None:
        raise ConfigError(f"weights: {source!r} is a model, which needs weights: imagenet or a file. Received: None")
    return _of_name(source, os.fspath(weights), image_size, top)


def model_with_file(
    name: str,
    path: str | os.PathLike[str],
    *,
    input_shape: tuple[int, int, int] | None = None,
    num_outputs: int | None = None,
) -> ReadyModel:
    """The model that a file's weights are of, with them: the file says nothing of a model's options, `name` does.

    Args:
      name: of a model, an experiment, or a run folder, whose options and pictures count and not its own weights.
      input_shape: (H, W, C) of the pictures; None: the run's, or those the model is usually made for.
      num_outputs: of the last layer, 0 for no head; None: as many as the file's head has.

    Raises: UserError: no such model or run, or the file's weights are of another.
    """
    name = expanded(name)
    known = [*model_names(), *list_experiments()]
    if name not in known and ":" not in name and not Path(name).exists():
        raise ConfigError(
            f"model: no model, experiment or run folder of this name.{nearest(name, known)} Received: {name!r}"
        )
    usual: tuple[int, int, int] | None
    if _is_run(name):
        card = restore_best(name).card
        run, usual = card.run, card.image_shape
    else:
        is_model = name in model_names() or (":" in name and ".py:" not in name)
        run = Run(model=Model(name)) if is_model else load_run(name)
        usual = _usual_shape(run)
    shape = input_shape or usual
    if shape is None:
        raise ConfigError(f"input_shape: {name!r} has no usual pictures; give their height, width, channels.")
    if min(shape) < 1:
        raise ConfigError(f"input_shape: height, width and channels must be at least 1. Received: {shape}")
    outputs = _outputs(path, run.model, shape) if num_outputs is None else num_outputs or None
    try:
        model = _filled(run.model, shape, outputs, path)
    except OtherHeadError as error:
        raise error.advising(
            "Name an experiment or a run folder whose model.options describe the file's head (--model), and leave out"
            " the number of classes (--num-classes), which the file tells."
        ) from error
    return ReadyModel(model, run.model.name, shape, outputs, (), run.data.resize, os.fspath(path))


def _is_run(source: str) -> bool:
    return (epath.Path(source) / "checkpoints").is_dir()


def _usual_shape(run: Run) -> tuple[int, int, int] | None:
    """Of the run's pictures as far as its description tells, else of those its model is usually made for."""
    book = BOOK_INPUTS[run.model.name][0] if run.model.name in BOOK_INPUTS else None
    size = run.data.image_size or (book and book[:2])
    return size and (*size, run.data.channels or (book[2] if book else 3))


def _of_run(source: str, top: bool) -> ReadyModel:
    restored = restore_best(source)
    model, card = restored.model, restored.card
    if not top:
        if not (hasattr(model, "base") and hasattr(model, "head")):
            raise ConfigError(
                f"top: the model of {source} has no base and head, of which the base could be taken alone. Received:"
                f" {card.run.model.name!r}"
            )
        model.head = Chain()
    return ReadyModel(
        model,
        card.run.model.name,
        card.image_shape,
        card.num_outputs if top else None,
        card.class_names if top else (),
        card.run.data.resize,
        f"run {card.run.name}, step {restored.step}",
        card.run.task,
    )


def _of_name(name: str, weights: str, image_size: tuple[int, int] | None, top: bool) -> ReadyModel:
    shape = _usual_shape(Run(model=Model(name), data=Data(image_size=image_size)))
    if shape is None:
        raise ConfigError(f"image_size: say for which pictures; {name!r} has no usual ones. Received: None")
    if min(shape) < 1:
        raise ConfigError(f"image_size: height and width must be at least 1. Received: {image_size}")
    # The file comes first: whether it is there is soon known, and it tells the number of outputs.
    path = published_file(name, top=top) if weights == "imagenet" else weights
    num_outputs = _outputs(path, Model(name), shape) if top else None
    # Without a head of our own, the file's is passed over.
    try:
        model = _filled(Model(name), shape, num_outputs, path, reinit_head=not top)
    except OtherHeadError as error:
        raise error.advising(
            "A model by name has the head it is published with. `jaxvision extract`, and `jaxvision export` with"
            " --no-top, take the base alone."
        ) from error
    return ReadyModel(model, name, shape, num_outputs, (), "stretch", weights)


def _filled(
    settings: Model,
    shape: tuple[int, int, int],
    num_outputs: int | None,
    path: str | os.PathLike[str],
    *,
    reinit_head: bool = False,
) -> nnx.Module:
    """A model with the file's numbers; no time is lost on random ones."""
    options: dict[str, Any] = dict(settings.options)
    model = abstract_model(settings.name, shape, num_outputs, **options)
    load_keras_weights(model, path, reinit_head=reinit_head)
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(nnx.state(model))):
        # One's own model may hold what no file has, such as the random state of its dropout.
        model = create_model(settings.name, shape, num_outputs, **options)
        load_keras_weights(model, path, reinit_head=reinit_head)
    return model


def _outputs(path: str | os.PathLike[str], settings: Model, shape: tuple[int, int, int]) -> int | None:
    """Units of the file's last dense layer, or of its last convolution where it has all of a model whose head ends in
    one; None: it has no head."""
    with open_weights(path) as file:
        if dense := [layer for layer in file.layers if layer.kind == "dense"]:
            return max(tensor.shape for tensor in dense[-1].tensors)[-1]
        options: dict[str, Any] = dict(settings.options)
        ours = model_layers(abstract_model(settings.name, shape, 1, **options))
        theirs = [layer for layer in file.layers if layer.kind == "conv2d"]
        ends_in_one = ours[-1].in_head and ours[-1].kind == "conv2d"
        if not ends_in_one or [layer.kind for layer in ours].count("conv2d") != len(theirs):
            return None
        return max(theirs[-1].tensors, key=lambda tensor: len(tensor.shape)).shape[-1]


def weights_digest(model: nnx.Module) -> str:
    """sha256 over the names, types, shapes and values of all tensors."""
    digest = hashlib.sha256()
    state = nnx.state(model, nnx.Not(nnx.RngState))
    for path, leaf in jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(state)):
        values = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}".encode() + values.tobytes())
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
