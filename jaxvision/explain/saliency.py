"""Which pixels the class's score depends on: plain gradients and integrated gradients."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.errors import ConfigError
from jaxvision.explain.heat import HeatMaps
from jaxvision.explain.program import Classes, logits_of, subject
from jaxvision.explain.scores import Of, class_scores


@dataclass(frozen=True, eq=False)
class Attributions:
    """values: float32 (B, H, W, C), what each value of a picture adds to the score of its class, or takes off. classes:
    int32 (B,)."""

    values: np.ndarray
    classes: np.ndarray

    def heat_maps(self) -> HeatMaps:
        """What each pixel adds, over its channels; nothing where it takes off."""
        heat = np.maximum(self.values.sum(axis=-1), 0)
        return HeatMaps(heat, self.classes, self.values.shape[1:3])


def saliency(
    model: nnx.Module,
    images: np.ndarray,
    classes: Classes = None,
    *,
    samples: int = 1,
    noise: float = 0.0,
    of: Of = "logit",
    region: np.ndarray | None = None,
    seed: int = 0,
    batch_size: int = 16,
) -> HeatMaps:
    """max over channels of |dscore/dx| for each pixel x (Simonyan et al. 2013).

    samples, noise: SmoothGrad (Smilkov et al. 2017): the gradient's mean over so many copies of the picture with
    Gaussian noise, of that standard deviation in gray values. Other arguments as `gradcam`.

    Raises: ConfigError: samples below 1, a noise below 0; others as `gradcam`.
    """
    if samples < 1 or noise < 0:
        raise ConfigError(f"saliency: samples must be 1 or more, noise 0 or more. Received: {samples} and {noise}")
    chosen = subject(model, images, classes, region, batch_size)

    gradients = partial(_mean_gradient, chosen.graph, samples, of, chosen.state, noise, jax.random.key(seed))
    coarse = np.abs(chosen.in_batches(gradients, batch_size)).max(axis=-1)
    return HeatMaps(coarse, chosen.classes, chosen.images.shape[1:3])


def integrated_gradients(
    model: nnx.Module,
    images: np.ndarray,
    classes: Classes = None,
    *,
    steps: int = 32,
    baseline: float = 0.0,
    of: Of = "logit",
    region: np.ndarray | None = None,
    batch_size: int = 16,
) -> Attributions:
    """What each value of a picture adds to the score (Sundararajan et al. 2017).

    (x - b) times the mean gradient at `steps` points on the way from b, a picture of the gray value `baseline`, to x
    (in the middle of as many equal pieces). The values add up to score(x) - score(b), the better the more steps.
    Arguments as `gradcam`. Raises: ConfigError: fewer than 1 step.
    """
    if steps < 1:
        raise ConfigError(f"integrated_gradients: steps must be 1 or more. Received: {steps}")
    chosen = subject(model, images, classes, region, batch_size)

    values = partial(_integrated, chosen.graph, steps, of, chosen.state, baseline)
    return Attributions(chosen.in_batches(values, batch_size), chosen.classes)


def _gradient(graph: nnx.GraphDef, of: Of, state: nnx.State, images, classes, region) -> jax.Array:
    def score(images: jax.Array) -> jax.Array:
        return jnp.sum(class_scores(logits_of(graph, state, images), classes, of, region))

    return jax.grad(score)(images)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _mean_gradient(graph, samples: int, of: Of, state, noise, key, images, classes, region) -> jax.Array:
    def add(total: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        noisy = images + noise * jax.random.normal(key, images.shape)
        return total + _gradient(graph, of, state, noisy, classes, region), None

    total, _ = jax.lax.scan(add, jnp.zeros_like(images), jax.random.split(key, samples))
    return total / samples


@partial(jax.jit, static_argnums=(0, 1, 2))
def _integrated(graph, steps: int, of: Of, state, baseline, images, classes, region) -> jax.Array:
    def add(total: jax.Array, share: jax.Array) -> tuple[jax.Array, None]:
        between = baseline + share * (images - baseline)
        return total + _gradient(graph, of, state, between, classes, region), None

    shares = (jnp.arange(steps, dtype=jnp.float32) + 0.5) / steps
    total, _ = jax.lax.scan(add, jnp.zeros_like(images), shares)
    return (images - baseline) * total / steps
