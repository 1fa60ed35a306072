"""Cross-entropies, one value per example. A loss knows logits and targets, and no model."""

import jax
import jax.numpy as jnp
import optax

from jaxvision.types import IGNORE

TINY = 1e-12
"""In place of a sum of weights that is 0."""


def softmax_cross_entropy(logits: jax.Array, target: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """-sum_k q_k log softmax(logits)_k, with q = (1 - s) target + s / K (Szegedy et al. 2016).

    Args:
      logits: (B, K), any float type; computed in float32.
      target: int (B,) class numbers, or float (B, K) probabilities.
      label_smoothing: s, in [0, 1).

    Returns: float32 (B,).
    """
    num_classes = logits.shape[-1]
    if jnp.issubdtype(target.dtype, jnp.integer):
        target = jax.nn.one_hot(target, num_classes, dtype=jnp.float32)
    target = optax.smooth_labels(target, label_smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), target)


def sigmoid_cross_entropy(logits: jax.Array, target: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """Binary cross-entropy of one logit: -q log sigmoid(z) - (1 - q) log sigmoid(-z), q = (1 - s) target + s / 2.

    Args:
      logits: (B, 1), any float type; computed in float32.
      target: int (B,) with 0 or 1, or float (B, 2) probabilities of the two classes.
      label_smoothing: s, in [0, 1).

    Returns: float32 (B,).
    """
    positive = target.astype(jnp.float32) if target.ndim == 1 else target[:, 1]
    positive = positive * (1 - label_smoothing) + label_smoothing / 2
    return optax.sigmoid_binary_cross_entropy(logits[:, 0].astype(jnp.float32), positive)


def multilabel_cross_entropy(
    logits: jax.Array, target: jax.Array, *, class_weights: jax.Array, label_smoothing: float = 0.0
) -> jax.Array:
    """Mean over classes, by their weights, of the binary cross-entropy of each: any number of labels may be right.

    Args:
      logits: (B, K), any float type; computed in float32.
      target: float (B, K), 0 or 1.
      class_weights: float32 (K,).
      label_smoothing: s in [0, 1): the target becomes (1 - s) target + s / 2.

    Returns: float32 (B,).
    """
    target = target * (1 - label_smoothing) + label_smoothing / 2
    losses = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), target)
    return jnp.sum(losses * class_weights[None, :], axis=-1) / jnp.sum(class_weights)


def pixel_weights(target: jax.Array, class_weights: jax.Array) -> jax.Array:
    """float32 (B, H, W): the weight of each pixel's class, float32 (K,); 0 where the mask says IGNORE."""
    table = jnp.zeros((IGNORE + 1,), jnp.float32).at[: len(class_weights)].set(class_weights)
    return table[target]


def pixel_cross_entropy(
    logits: jax.Array, target: jax.Array, weights: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
    """Each picture's mean over pixels, by their weights, of `softmax_cross_entropy`; 0 where no pixel counts.

    Args:
      logits: (B, H, W, K), any float type; computed in float32.
      target: uint8 (B, H, W) class numbers.
      weights: float32 (B, H, W).
      label_smoothing: s, in [0, 1).

    Returns: float32 (B,).
    """
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    smooth = label_smoothing / logits.shape[-1]
    q = jnp.where(_is_class(target, logits.shape[-1]), 1 - label_smoothing + smooth, smooth)
    losses = -jnp.sum(q * log_p, axis=-1)
    return jnp.sum(losses * weights, axis=(1, 2)) / jnp.maximum(jnp.sum(weights, axis=(1, 2)), TINY)


def soft_dice_loss(logits: jax.Array, target: jax.Array) -> jax.Array:
    """1 - mean_c (2 sum p_c t_c + 1) / (sum p_c + sum t_c + 1), sums over a picture's pixels that count.

    p is the softmax of logits (B, H, W, K), t one where target, uint8 (B, H, W), is the class. Milletari et al. 2016
    and, with sums that are not squared, Drozdzal et al. 2016. The ones keep a class that is in neither at a loss of 0.

    Returns: float32 (B,).
    """
    counts = (target != IGNORE)[..., None]
    p = jnp.where(counts, jax.nn.softmax(logits.astype(jnp.float32)), 0.0)
    t = _is_class(target, logits.shape[-1])
    both = jnp.sum(jnp.where(t, p, 0.0), axis=(1, 2))
    either = jnp.sum(p, axis=(1, 2)) + jnp.sum(t, axis=(1, 2), dtype=jnp.float32)
    return 1 - jnp.mean((2 * both + 1) / (either + 1), axis=-1)


def _is_class(target: jax.Array, num_classes: int) -> jax.Array:
    """bool (B, H, W, K). Compared in place: a gather of the class's value has a slow gradient, a scatter."""
    return target[..., None] == jnp.arange(num_classes, dtype=target.dtype)[None, None, None, :]
