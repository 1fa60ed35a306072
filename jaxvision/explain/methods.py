"""The ways to a heat map, by the names they have on the command line."""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxvision.explain.gradcam import gradcam
from jaxvision.explain.heat import HeatMaps
from jaxvision.explain.occlusion import occlusion
from jaxvision.explain.program import Classes, in_batches, logits_of
from jaxvision.explain.saliency import integrated_gradients, saliency
from jaxvision.explain.scorecam import scorecam
from jaxvision.explain.scores import Of, check_choice, class_scores
from jaxvision.train.ready import ReadyModel

Method = Literal["gradcam", "gradcam++", "scorecam", "occlusion", "saliency", "integrated-gradients"]


def heat_maps(
    ready: ReadyModel,
    images: np.ndarray,
    classes: Classes = None,
    *,
    method: Method = "gradcam",
    layer: str | None = None,
    region: np.ndarray | None = None,
) -> HeatMaps:
    """Heat maps by a method with its usual settings; see the methods' own functions for others.

    Args:
      images: (B, H, W, C), raw pixels. classes: as `gradcam`.
      layer: for methods that look at one. region: as `gradcam`.
    """
    model = ready.model
    check_choice("method", method, Method)
    if method == "gradcam" or method == "gradcam++":
        return gradcam(model, images, classes, layer=layer, weighting=method, region=region)
    if method == "scorecam":
        of: Of = "sigmoid" if ready.task == "multilabel" else "probability"
        return scorecam(model, images, classes, layer=layer, of=of, region=region)
    if method == "occlusion":
        return occlusion(model, images, classes, region=region)
    if method == "saliency":
        return saliency(model, images, classes, region=region)
    return integrated_gradients(model, images, classes, region=region).heat_maps()


def confidence(ready: ReadyModel, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """float32 (B,): the probability that the network gives each picture's class; of one that segments, the share of
    pixels that it gives to the class."""
    graph, state = nnx.split(ready.model)
    (values,) = in_batches(
        lambda images, classes: (_confidence(graph, ready.task, state, images, classes),), (images, classes), 16
    )
    return values


@partial(jax.jit, static_argnums=(0, 1))
def _confidence(graph: nnx.GraphDef, task: str, state: nnx.State, images: jax.Array, classes: jax.Array) -> jax.Array:
    logits = logits_of(graph, state, images)
    if logits.ndim == 4:
        return jnp.mean(jnp.argmax(logits, axis=-1) == classes[:, None, None], axis=(1, 2))
    return class_scores(logits, classes, "sigmoid" if task == "multilabel" else "probability")
