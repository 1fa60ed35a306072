"""The residual convnet of *Deep Learning with Python*, 2nd edition, chapter 9.3.2."""

from typing import Annotated

import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Counts, Fraction
from jaxvision.models.classifier import Classifier, make_head, output_shape
from jaxvision.nn import Chain, ConvNormAct, MaxPool, Order, Rescaling, Residual, projection

HasShortcuts = Annotated[bool, "Add to each block's output its input, by a 1x1 convolution where the shape changes."]
HasNorm = Annotated[bool, "Normalize each convolution by BatchNorm."]
NormOrder = Annotated[Order, "What comes after what: convolution, BatchNorm (if any), activation."]


class ResidualConvNet(Classifier):
    """Blocks of two 3x3 same convolutions with ReLU and a max-pool of 2 (all but the last block), around each a
    shortcut; the mean over the picture and one dense layer. 297,697 parameters for (32, 32, 3) and one output.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        features: Annotated[Counts, "Channels of each block."] = (32, 64, 128),
        residual: HasShortcuts = True,
        batch_norm: HasNorm = False,
        order: NormOrder = "conv-norm-act",
        dropout: Annotated[Fraction, "Share of the features dropped before the dense layer in training."] = 0.0,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        def block(ins: int, outs: int, pool: bool) -> Chain:
            layers: dict[str, nnx.Module] = {
                str(number): ConvNormAct(channels, outs, order=order, norm=batch_norm, dtype=dtype, rngs=rngs)
                for number, channels in enumerate((ins, outs), start=1)
            }
            if pool:
                layers["pool"] = MaxPool(2, padding="SAME")
            if not residual:
                return Chain(**layers)
            shortcut = projection(ins, outs, strides=2 if pool else 1, use_bias=not batch_norm, dtype=dtype, rngs=rngs)
            return Residual(shortcut=shortcut, **layers)

        blocks: dict[str, nnx.Module] = {}
        channels = input_shape[-1]
        for number, outs in enumerate(features, start=1):
            blocks[f"block{number}"] = block(channels, outs, pool=number < len(features))
            channels = outs
        base = Chain(**blocks)
        shape = output_shape(base, input_shape)
        super().__init__(
            preprocessing=Rescaling(dtype=dtype),
            base=base,
            head=make_head(shape, num_classes, top="average", dropout=dropout, dtype=dtype, rngs=rngs),
        )
