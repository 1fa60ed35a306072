"""ResNet50 (He et al. 2015), under Keras' layer names."""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Count
from jaxvision.models.classifier import HeadDropout, Hidden, PublishedClassifier, Top
from jaxvision.nn import Activation, BatchNorm, BgrMinusMean, Chain, Conv, MaxPool, TrainingAware, ZeroPad

CHANNELS = (64, 128, 256, 512)
EPSILON = 1.001e-5


class Bottleneck(TrainingAware):
    """`relu(shortcut(x) + f(x))`, f being convolutions 1x1 (with the stride), 3x3 and 1x1, each with BatchNorm and the
    first two with ReLU: (B, H, W, in) -> (B, H / strides, W / strides, 4 * features).

    The shortcut is `x` itself, or where `projects` a 1x1 convolution with BatchNorm. Layers are 1_conv, 1_bn, ..., and
    those of the shortcut 0_conv, 0_bn.
    """

    keras_order = ("1_conv", "1_bn", "2_conv", "2_bn", "0_conv", "0_bn", "3_conv", "3_bn")
    """Keras lists a layer of two branches by its distance from where they meet (see jaxvision.weights)."""
    keras_side = ("0_conv", "0_bn")
    """The layers of the branch beside the others; whether Keras lists them first is up to the model's author."""

    def __init__(
        self, in_features: int, features: int, *, strides: int, projects: bool, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        def add(number: int, ins: int, outs: int, kernel_size: int = 1, strides: int = 1) -> None:
            conv = Conv(ins, outs, kernel_size, strides=strides, padding="SAME", dtype=dtype, rngs=rngs)
            setattr(self, f"{number}_conv", conv)
            setattr(self, f"{number}_bn", BatchNorm(outs, epsilon=EPSILON, dtype=dtype))

        add(1, in_features, features, strides=strides)
        add(2, features, features, kernel_size=3)
        if projects:
            add(0, in_features, 4 * features, strides=strides)
        add(3, features, 4 * features)
        self.projects = projects

    def __call__(self, x: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        def conv_bn(number: int, x: jax.Array) -> jax.Array:
            return getattr(self, f"{number}_bn")(getattr(self, f"{number}_conv")(x), train)

        y = jax.nn.relu(conv_bn(1, x))
        y = jax.nn.relu(conv_bn(2, y))
        shortcut = conv_bn(0, x) if self.projects else x
        return jax.nn.relu(shortcut + conv_bn(3, y))


class ResNet(PublishedClassifier):
    """A 7x7 convolution and a max-pool, each halving the picture, then four stages of bottleneck blocks.

    The first block of a stage projects its shortcut, and halves the picture but in the first stage. ResNet50's base has
    23,587,712 parameters, 53,120 of them statistics, and makes (7, 7, 2048) of (224, 224, 3). Blocks are called
    conv2_block1, ... conv5_block3.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        blocks: Annotated[tuple[Count, Count, Count, Count], "Blocks in each of the four stages."] = (3, 4, 6, 3),
        top: Top = "published",
        hidden: Hidden = (),
        dropout: HeadDropout = 0.0,
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        layers: dict[str, nnx.Module] = {
            # Three zeros on each side, where "SAME" would put two before and three after.
            "conv1_conv": Conv(input_shape[-1], 64, 7, strides=2, padding=((3, 3), (3, 3)), dtype=dtype, rngs=rngs),
            "conv1_bn": BatchNorm(64, epsilon=EPSILON, dtype=dtype),
            "conv1_relu": Activation(jax.nn.relu),
            "pool1_pad": ZeroPad(1),
            "pool1_pool": MaxPool(3, strides=2),
        }
        channels = 64
        for stage, (count, features) in enumerate(zip(blocks, CHANNELS, strict=True), start=2):
            for number in range(1, count + 1):
                layers[f"conv{stage}_block{number}"] = Bottleneck(
                    channels,
                    features,
                    strides=2 if number == 1 and stage > 2 else 1,
                    projects=number == 1,
                    dtype=dtype,
                    rngs=rngs,
                )
                channels = 4 * features
        base = Chain(**layers)
        super().__init__(
            input_shape,
            num_classes,
            preprocessing=BgrMinusMean(dtype=dtype),
            base=base,
            top=top,
            hidden=hidden,
            dropout=dropout,
            dtype=dtype,
            rngs=rngs,
        )
