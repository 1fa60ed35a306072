"""The small Xception of *Deep Learning with Python*, 2nd edition, chapter 9.3.5."""

from itertools import pairwise
from typing import Annotated

import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Counts, Fraction
from jaxvision.models.classifier import Classifier, make_head, output_shape
from jaxvision.models.residual_convnet import HasNorm, HasShortcuts, NormOrder
from jaxvision.nn import Chain, Conv, ConvNormAct, MaxPool, Rescaling, Residual, projection


class MiniXception(Classifier):
    """A 5x5 valid convolution; blocks of two 3x3 same separable convolutions in pre-activation and a max-pool of 3 and
    stride 2, around each a shortcut; the mean over the picture, dropout, and one dense layer (Chollet 2017).

    721,857 parameters for (180, 180, 3) and one output, 3,008 of them statistics of BatchNorm. The first convolution is
    plain: the assumption that channels are independent does not hold for red, green and blue.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        features: Annotated[Counts, "Channels of each block; the convolution before them has those of the first."] = (
            32,
            64,
            128,
            256,
            512,
        ),
        residual: HasShortcuts = True,
        batch_norm: HasNorm = True,
        separable: Annotated[bool, "Separable convolutions in the blocks in place of plain ones."] = True,
        order: NormOrder = "norm-act-conv",
        dropout: Annotated[Fraction, "Share of the features dropped before the dense layer in training."] = 0.5,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        def block(ins: int, outs: int) -> Chain:
            layers: dict[str, nnx.Module] = {
                str(number): ConvNormAct(
                    channels, outs, order=order, norm=batch_norm, separable=separable, dtype=dtype, rngs=rngs
                )
                for number, channels in enumerate((ins, outs), start=1)
            }
            layers["pool"] = MaxPool(3, strides=2, padding="SAME")
            if not residual:
                return Chain(**layers)
            shortcut = projection(ins, outs, strides=2, use_bias=not batch_norm, dtype=dtype, rngs=rngs)
            return Residual(shortcut=shortcut, **layers)

        first, channels = features[0], input_shape[-1]
        stem: nnx.Module
        if order == "norm-act-conv":  # raw pixels are neither normalized nor cut off at 0
            stem = Conv(channels, first, 5, use_bias=not batch_norm, dtype=dtype, rngs=rngs)
        else:
            stem = ConvNormAct(
                channels, first, 5, order=order, norm=batch_norm, padding="VALID", dtype=dtype, rngs=rngs
            )
        blocks = {
            f"block{number}": block(*channels) for number, channels in enumerate(pairwise((first, *features)), start=1)
        }
        base = Chain(stem=stem, **blocks)
        shape = output_shape(base, input_shape)
        super().__init__(
            preprocessing=Rescaling(dtype=dtype),
            base=base,
            head=make_head(shape, num_classes, top="average", dropout=dropout, dtype=dtype, rngs=rngs),
        )
