"""The dense baseline a convnet is compared with."""

import math
from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Count
from jaxvision.models.classifier import Classifier
from jaxvision.nn import Chain, Dense, Flatten, Rescaling


class DenseBaseline(Classifier):
    """Flatten, dense layers with ReLU, a dense head (Chollet, chapter 2: 0.978 on MNIST)."""

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        features: Annotated[tuple[Count, ...], "Units of each dense layer before the last."] = (512,),
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        layers: dict[str, nnx.Module] = {"flatten": Flatten()}
        size = math.prod(input_shape)
        for number, out in enumerate(features, start=1):
            layers[f"dense{number}"] = Dense(size, out, activation=jax.nn.relu, dtype=dtype, rngs=rngs)
            size = out
        logits = {} if num_classes is None else {"logits": Dense(size, num_classes, dtype=dtype, rngs=rngs)}
        super().__init__(preprocessing=Rescaling(dtype=dtype), base=Chain(**layers), head=Chain(**logits))
