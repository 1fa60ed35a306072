"""The number that is explained: what a model says for a class, one a picture."""

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import ConfigError
from jaxvision.train.metrics import class_probabilities, predicted_class

Of = Literal["logit", "probability", "sigmoid"]
"""The class's logit, which no other class has a part in; its probability; or the sigmoid of its logit, which is its
probability where a picture has any number of classes."""


def class_scores(logits: jax.Array, classes: jax.Array, of: Of = "logit", region: jax.Array | None = None) -> jax.Array:
    """float32 (B,): for each picture the score of its class.

    Args:
      logits: (B, K), or of a model that segments (B, H, W, K). One logit speaks for class 1, its negative for class 0.
      classes: int (B,).
      region: float (B, H, W), of a model that segments: the score is the mean over these pixels, by their weights
        (Vinogradova et al. 2020). None: over all.

    Raises: ConfigError: `of` is none of `Of`.
    """
    check_choice("of", of, Of)
    logits = logits.astype(jnp.float32)
    if of == "probability":
        values = class_probabilities(logits)
    else:
        values = jnp.concatenate([-logits, logits], axis=-1) if logits.shape[-1] == 1 else logits
        values = jax.nn.sigmoid(values) if of == "sigmoid" else values
    scores = jnp.take_along_axis(values, classes.reshape(-1, *(1,) * (logits.ndim - 1)), axis=-1)[..., 0]
    if logits.ndim == 2:
        return scores
    weights = jnp.ones_like(scores) if region is None else region
    return jnp.sum(scores * weights, axis=(1, 2)) / jnp.maximum(jnp.sum(weights, axis=(1, 2)), 1e-12)


def predicted(logits: jax.Array) -> tuple[jax.Array, jax.Array | None]:
    """(int32 (B,), None): the likeliest class of each picture. Of a model that segments the class of the most pixels,
    and each pixel's likeliest class, int32 (B, H, W)."""
    if logits.ndim == 2:
        return predicted_class(logits), None
    pixels = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    votes = jnp.sum(jax.nn.one_hot(pixels, logits.shape[-1]), axis=(1, 2))
    return jnp.argmax(votes, axis=-1).astype(jnp.int32), pixels


def check_choice(name: str, value: str, choices: Any) -> None:
    """ConfigError where `value` is none of the words of a Literal."""
    if value not in get_args(choices):
        raise ConfigError(f"{name}: must be {' or '.join(get_args(choices))}. Received: {value!r}")


def check_classes(classes: np.ndarray, count: int, num_outputs: int) -> np.ndarray:
    """int32 (count,): the classes of `count` pictures, one for all or one each.

    Raises: ConfigError: another number of classes, or one that the model does not know.
    """
    known = max(num_outputs, 2)
    classes = np.asarray(classes)
    if classes.ndim == 0:
        classes = np.full(count, classes)
    if classes.shape != (count,):
        raise ConfigError(f"classes: one for all pictures, or one for each of the {count}. Received: {classes.shape}")
    if not np.issubdtype(classes.dtype, np.integer) or classes.min() < 0 or classes.max() >= known:
        raise ConfigError(f"classes: whole numbers from 0 to {known - 1}. Received: {classes.tolist()}")
    return classes.astype(np.int32)
