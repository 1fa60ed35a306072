"""From a name and options to a model."""

import contextlib
import inspect
import os
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from pydantic import TypeAdapter, ValidationError

from jaxvision.errors import ConfigError, UserError, nearest
from jaxvision.importing import import_attribute
from jaxvision.models.convnet import ConvNet
from jaxvision.models.dense import DenseBaseline
from jaxvision.models.mini_xception import MiniXception
from jaxvision.models.residual_convnet import ResidualConvNet
from jaxvision.models.segmenter import Segmenter
from jaxvision.models.unet import UNet
from jaxvision.models.zoo import ZOO
from jaxvision.nn.chain import rematerialize_blocks
from jaxvision.nn.conv import Lowering, set_lowering
from jaxvision.nn.mode import call_arguments, set_mode

MODELS: dict[str, Callable[..., nnx.Module]] = {
    "dense-mnist": DenseBaseline,
    "convnet-mnist": ConvNet,
    "convnet-mnist-no-pooling": partial(ConvNet, downsample="none"),
    "convnet-dogs-vs-cats": partial(ConvNet, features=(32, 64, 128, 256, 256)),
    "residual-convnet": ResidualConvNet,
    "mini-xception": MiniXception,
    "segmenter": Segmenter,
    "unet": UNet,
    **ZOO,
}
"""Name -> builder(input_shape, num_classes, *, dtype, rngs, **options) -> model."""

BOOK_INPUTS: dict[str, tuple[tuple[int, int, int], int]] = {
    "dense-mnist": ((28, 28, 1), 10),
    "convnet-mnist": ((28, 28, 1), 10),
    "convnet-mnist-no-pooling": ((28, 28, 1), 10),
    "convnet-dogs-vs-cats": ((180, 180, 3), 2),
    "residual-convnet": ((32, 32, 3), 2),
    "mini-xception": ((180, 180, 3), 2),
    "segmenter": ((200, 200, 3), 3),
    "unet": ((224, 224, 3), 3),
    "vgg16": ((224, 224, 3), 1000),
    "vgg19": ((224, 224, 3), 1000),
    "resnet50": ((224, 224, 3), 1000),
    "xception": ((299, 299, 3), 1000),
    "mobilenetv2": ((224, 224, 3), 1000),
    "efficientnetb0": ((224, 224, 3), 1000),
    "densenet121": ((224, 224, 3), 1000),
}
"""Input shape and number of classes the book uses a model with; summaries are shown for these by default."""

_NOT_OPTIONS = {"self", "input_shape", "num_classes", "dtype", "rngs"}


def model_names() -> tuple[str, ...]:
    """Names that `create_model` knows."""
    return tuple(MODELS)


def model_options(name: str) -> dict[str, Any]:
    """The options of a model with their defaults, read off its builder's signature. ConfigError: unknown name."""
    return {option: parameter.default for option, parameter in _parameters(_builder(name)).items()}


def model_option_types(name: str) -> dict[str, Any]:
    """The options' annotations, `Annotated[type, "what it is"]` at best; Any where the builder says nothing."""
    empty = inspect.Parameter.empty
    return {
        option: Any if parameter.annotation is empty else parameter.annotation
        for option, parameter in _parameters(_builder(name)).items()
    }


def create_model(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int | None,
    seed: int = 0,
    *,
    dtype: jnp.dtype = jnp.float32,
    conv: Lowering = "auto",
    rematerialize: Literal["none", "blocks"] = "none",
    **options: Any,
) -> nnx.Module:
    """A model with fresh float32 parameters, in evaluation mode: `logits = model(images)`.

    Args:
      name: one of `model_names()`, or "package.module:Class" of your own with the same keyword arguments. Its layers
        may be this package's or plain Flax NNX layers (see `jaxvision.nn.mode`).
      input_shape: (H, W, C) of the raw pictures, 0..255.
      num_classes: number of outputs (1 for two classes with a sigmoid); None: no head, the base's output (B, h, w, c).
      seed: of the initial weights; the same seed gives the same weights.
      dtype: of activations and products; parameters stay float32.
      conv: "lax" takes the compiler's own convolution on every platform (see `jaxvision.nn.conv2d`).
      rematerialize: "blocks" makes each block keep its input alone for the backward pass (see `jaxvision.nn.Chain`).
      options: see `model_options(name)`.

    Raises:
      ConfigError: unknown name or option, an input too small for the architecture, or no block to rematerialize; a
        class of your own that raises an error, or makes something else than a model that can be called.
    """
    builder = _builder(name)
    known = model_options(name)
    for option, value in options.items():
        if option not in known:
            raise ConfigError(
                f"model.options: {name!r} has no option {option!r}.{nearest(option, known)}"
                f" It takes: {', '.join(known) or 'none'}. Received: {option}={value!r}"
            )
        _check_option(name, builder, option, value)
    if num_classes is not None and num_classes < 1:
        raise ConfigError(f"create_model: num_classes is the number of outputs, 1 or more. Received: {num_classes!r}")
    missing = {"dtype", "rngs"} - set(_signature(builder).parameters)
    if missing:
        raise ConfigError(
            f"model.name: {name!r} takes no keyword {' and no '.join(sorted(missing))}; a model is made by"
            " (input_shape, num_classes, *, dtype, rngs, **options)."
        )
    if ":" in name:
        _require_signature(name, builder)
    with errors_of(name, "it was created"):
        model = builder(input_shape, num_classes, dtype=dtype, rngs=nnx.Rngs(seed), **options)
        _require_callable(name, model)
        set_mode(model, train=False)
    _settle(model)
    set_lowering(model, conv)
    if rematerialize == "blocks" and not rematerialize_blocks(model):
        raise ConfigError(
            f"rematerialize: {name!r} has no blocks that are known: they are the layers of a jaxvision.nn.Chain. Set"
            " rematerialize to none, or wrap what is to be computed again in flax.nnx.remat yourself. Received:"
            f" {rematerialize!r}"
        )
    return model


def abstract_model(name: str, input_shape: tuple[int, int, int], num_classes: int | None, **kwargs: Any) -> nnx.Module:
    """The same model with shapes in place of arrays: nothing is allocated. Arguments as `create_model`.

    A user's model that holds plain arrays, outside variables, is made with its arrays: Flax loses them otherwise.
    """
    plain: list[Any] = []

    def make() -> nnx.Module:
        model = create_model(name, input_shape, num_classes, **kwargs)
        plain.extend(path for path, node in nnx.iter_graph(model) if isinstance(node, jax.Array))
        return model

    model = nnx.eval_shape(make)
    return create_model(name, input_shape, num_classes, **kwargs) if plain else model


@contextlib.contextmanager
def errors_of(name: str, what: str) -> Iterator[None]:
    """Around code of a user's model: an error in it becomes a ConfigError that says where. what: was done with it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the model is the user's: it can raise anything
        if ":" not in name:
            raise
        frames = traceback.extract_tb(error.__traceback__)
        module = inspect.getsourcefile(inspect.unwrap(_plain(_builder(name)))) or ""
        own = [frame for frame in frames if os.path.dirname(frame.filename) == os.path.dirname(module)]
        place = f" at {own[-1].filename}, line {own[-1].lineno}: {own[-1].line}." if own else "."
        reason = "\n".join(line for line in str(error).splitlines() if line.strip())
        raise ConfigError(
            f"model.name: {name!r} raised {type(error).__name__} when {what}{place} Received: {reason}"
        ) from error


def _plain(builder: Any) -> Any:
    return builder.func if isinstance(builder, partial) else builder


def _require_signature(name: str, builder: Callable[..., nnx.Module]) -> None:
    """Whether a user's builder takes what models are made from."""
    try:
        itself = (None,) if inspect.isclass(_plain(builder)) else ()
        _signature(builder).bind_partial(*itself, (1, 1, 1), 1, dtype=None, rngs=None)
    except TypeError as error:
        raise ConfigError(
            f"model.name: a model is made by (input_shape, num_classes, *, dtype, rngs, **options). Received: {name!r},"
            f" which takes {_signature(builder)}: {error}"
        ) from error


def _require_callable(name: str, model: Any) -> None:
    """Whether a user's class made a model whose call takes what it is given."""
    arguments = call_arguments(type(model)) if isinstance(model, nnx.Module) else None
    if arguments is None:
        raise ConfigError(
            f"model.name: {name!r} must make an nnx.Module with a __call__(self, images). Received: a"
            f" {type(model).__name__}"
        )
    if arguments.unknown:
        raise ConfigError(
            f"model.name: training does not know what to give the call of {name!r} for {', '.join(arguments.unknown)}."
            " It gives the images; and by keyword train, training or deterministic (True or False) and rngs, where the"
            " call takes them. Give other arguments a default that is right in training and in evaluation."
        )


def _settle(model: nnx.Module) -> None:
    """Leaves in the model JAX arrays of a definite type: a weakly typed one (`jnp.full(shape, 1e-6)`) would have
    another type after the first step, which would be compiled anew. What `sow` noted of calls in `__init__` goes."""
    if any(isinstance(node, nnx.Intermediate | nnx.Perturbation) for _, node in nnx.iter_graph(model)):
        nnx.pop(model, (nnx.Intermediate, nnx.Perturbation))
    modules: dict[Any, Any] = dict(nnx.iter_modules(model))
    for path, node in list(nnx.iter_graph(model)):
        if isinstance(node, nnx.Variable) and not _is_definite(node.get_value()):
            node.set_value(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), node.get_value()))
        elif isinstance(node, np.ndarray | jax.Array) and path[:-1] in modules and not _is_definite(node):
            owner, key, value = modules[path[:-1]], path[-1], jnp.asarray(node, jnp.asarray(node).dtype)
            if isinstance(key, str):
                setattr(owner, key, value)
            else:
                owner[key] = value


def _is_definite(value: Any) -> bool:
    return all(isinstance(leaf, jax.Array) and not getattr(leaf, "weak_type", False) for leaf in jax.tree.leaves(value))


def _builder(name: str) -> Callable[..., nnx.Module]:
    if name in MODELS:
        return MODELS[name]
    if ":" not in name:
        raise ConfigError(
            f"model.name: no model {name!r}.{nearest(name, MODELS)} Known: {', '.join(MODELS)};"
            " or package.module:Class of your own."
        )
    return import_attribute(name, field="model.name")


def _signature(builder: Callable[..., nnx.Module]) -> inspect.Signature:
    """The builder's arguments. A module class hides its `__init__` behind a metaclass, so look there."""
    function = builder.func if isinstance(builder, partial) else builder
    return inspect.signature(function.__init__ if inspect.isclass(function) else function, eval_str=True)


def _parameters(builder: Callable[..., nnx.Module]) -> dict[str, inspect.Parameter]:
    """The builder's option parameters, with the defaults that `MODELS` presets."""
    presets = builder.keywords if isinstance(builder, partial) else {}
    return {
        name: parameter.replace(default=presets.get(name, parameter.default))
        for name, parameter in _signature(builder).parameters.items()
        if name not in _NOT_OPTIONS and parameter.default is not parameter.empty
    }


def _check_option(name: str, builder: Callable[..., nnx.Module], option: str, value: Any) -> None:
    """An option must be what its annotation says: type, range, choice."""
    annotation = _parameters(builder)[option].annotation
    if annotation is inspect.Parameter.empty:
        return
    try:
        TypeAdapter(annotation).validate_python(value, strict=True)
    except ValidationError as error:
        faults = "; ".join(fault["msg"].lower() for fault in error.errors())
        raise ConfigError(f"model.options.{option} of {name!r}: {faults}. Received: {value!r}") from None
