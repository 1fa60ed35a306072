"""Cross-entropies, one value per example. A loss knows logits and targets, and no model."""

import jax
import jax.numpy as jnp
import optax


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
