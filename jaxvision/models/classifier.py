"""What every model here is: preprocessing, a base that sees, a head that decides."""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Count, Fraction
from jaxvision.errors import ConfigError
from jaxvision.nn import Chain, Dense, Dropout, Flatten, GlobalAveragePool, TrainingAware, apply

Top = Annotated[
    Literal["published", "flatten", "average"],
    "The head: as published, or flatten or average the base's output, then dense layers of `hidden` units.",
]
Hidden = Annotated[
    tuple[Count, ...], "With top flatten or average: units of dense layers without activation before the last."
]
HeadDropout = Annotated[Fraction, "With top flatten or average: share of the features dropped before the last layer."]


class Classifier(TrainingAware):
    """`head(base(preprocessing(images)))`: raw pixels (B, H, W, C), 0..255, in; logits (B, num_classes) out, of a model
    that segments (B, H, W, num_classes).

    base: a chain of layers and blocks under their published names, (B, H, W, C) -> (B, h, w, c).
    head: a chain from there to the logits; empty for a model without a top, whose output is then the base's.
    """

    skips: tuple[str, ...] = ()
    """Layers of the base, besides its last, whose outputs the head is made for."""

    def __init__(self, *, preprocessing: nnx.Module, base: Chain, head: Chain):
        self.preprocessing, self.base, self.head = preprocessing, base, head

    def __call__(self, images: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        x = apply(self.base, self.preprocessing(images), train, rngs)
        return apply(self.head, x, train, rngs)

    def features(
        self, images: jax.Array, levels: Sequence[str] = (), train: bool = False, *, rngs: nnx.Rngs | None = None
    ) -> dict[str, jax.Array]:
        """Outputs of the base's layers named in `levels` (none named: its last), by name. `base.names` lists them."""
        return self.base.features(self.preprocessing(images), levels or self.base.names[-1:], train, rngs=rngs)


def output_shape(base: Chain, input_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Shape of the base's output for pictures of (H, W, C), without the batch; nothing is computed.

    Raises: ConfigError: the pictures are too small, nothing is left of them.
    """
    shape = jax.eval_shape(base, jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)).shape[1:]
    if min(shape) < 1:
        raise ConfigError(
            f"pictures of {input_shape[0]}x{input_shape[1]} are too small: the base leaves {shape} of them. Enlarge"
            f" data.image_size. Received: {input_shape}"
        )
    return shape


def make_head(
    in_shape: tuple[int, ...],
    num_classes: int | None,
    *,
    top: Literal["flatten", "average"] = "flatten",
    hidden: tuple[int, ...] = (),
    dropout: float = 0.0,
    dtype: jnp.dtype,
    rngs: nnx.Rngs,
) -> Chain:
    """Flatten or average (h, w, c), dense layers without activation, dropout, a dense layer; num_classes None: none."""
    if num_classes is None:
        return Chain()
    layers: dict[str, nnx.Module] = {}
    if top == "flatten":
        layers["flatten"], features = Flatten(), math.prod(in_shape)
    else:
        layers["average"], features = GlobalAveragePool(), in_shape[-1]
    for number, units in enumerate(hidden, start=1):
        layers[f"hidden{number}"] = Dense(features, units, dtype=dtype, rngs=rngs)
        features = units
    if dropout:
        layers["dropout"] = Dropout(dropout)
    layers["logits"] = Dense(features, num_classes, dtype=dtype, rngs=rngs)
    return Chain(**layers)


def average_head(shape: tuple[int, ...], num_classes: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> Chain:
    """The head of most published models: the mean over the picture, and a dense layer."""
    return Chain(avg_pool=GlobalAveragePool(), predictions=Dense(shape[-1], num_classes, dtype=dtype, rngs=rngs))


class PublishedClassifier(Classifier):
    """A published base under the head that the options ask for.

    published_head: the paper's, `(shape of the base's output, num_classes, *, dtype, rngs) -> Chain`.

    Raises: ConfigError: pictures too small for the base, or not of three channels; hidden or dropout given for a
      published top.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        preprocessing: nnx.Module,
        base: Chain,
        published_head: Callable[..., Chain] = average_head,
        top: Literal["published", "flatten", "average"],
        hidden: tuple[int, ...],
        dropout: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        if input_shape[-1] != 3:
            raise ConfigError(
                "a published model takes pictures of 3 channels (red, green, blue): set data.channels to 3. Received:"
                f" {input_shape[-1]} channels"
            )
        shape = output_shape(base, input_shape)
        if top != "published":
            head = make_head(shape, num_classes, top=top, hidden=hidden, dropout=dropout, dtype=dtype, rngs=rngs)
        elif hidden or dropout:
            raise ConfigError(
                "model.options: hidden and dropout need top flatten or average; the published top has its own layers."
                f" Received: top='published', hidden={hidden}, dropout={dropout}"
            )
        else:
            head = Chain() if num_classes is None else published_head(shape, num_classes, dtype=dtype, rngs=rngs)
        super().__init__(preprocessing=preprocessing, base=base, head=head)
