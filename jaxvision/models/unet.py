"""U-Net with the base of any published classifier as its encoder."""

from itertools import zip_longest
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxvision.config import Counts
from jaxvision.errors import ConfigError
from jaxvision.models.classifier import Classifier
from jaxvision.models.zoo import ZOO
from jaxvision.nn import BatchNorm, Chain, Conv, ConvNormAct, apply, upsample_nearest

Encoder = Literal["vgg16", "vgg19", "resnet50", "xception", "mobilenetv2", "efficientnetb0", "densenet121"]
_PROBE = 512
"""Height and width of pictures at which an encoder's layers are looked at: large, so that a border is no half."""


class UNet(Classifier):
    """A class for each pixel (Ronneberger et al. 2015): raw pixels (B, H, W, 3), 0..255, in; logits (B, H, W,
    num_classes) out.

    base: the encoder, under its Keras names and after its own preprocessing, so that its published weights fit and
    `trainable=("head",)` leaves it as it is. head: the decoder, `up1` to the last, and `logits`, a 1x1 convolution.
    Each stage enlarges what comes from below to the size of the encoder's last layer of the next larger size (nearest
    pixel), puts that layer's channels behind, and has two 3x3 same convolutions with BatchNorm and ReLU. The last stage
    has the size of the picture, whatever the encoder has there. Any height and width that the encoder takes.

    What the encoder gives goes through BatchNorm first, `norm0` (the smallest) to the last: VGG16's features reach
    hundreds, and beside them the decoder's own would hardly count.

    Raises: ConfigError: decoder_features of another number than stages; pictures that the encoder does not take.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int | None,
        *,
        encoder: Annotated[Encoder, "Model whose base sees the picture; model.weights imagenet are this one's."] = (
            "vgg16"
        ),
        decoder_features: Annotated[
            Counts, "Channels of each stage of the decoder, from the smallest size to the picture's."
        ] = (256, 128, 64, 32, 16),
        dtype: jnp.dtype = jnp.float32,
        rngs: nnx.Rngs,
    ):
        published = ZOO[encoder](input_shape, None, dtype=dtype, rngs=rngs)
        base, head = published.base, Chain()
        shapes = _shapes(base)
        if num_classes is not None:
            self.skips = skip_levels(base, {name: height for name, (height, _) in shapes.items()})
            inputs = [shapes[name][1] for name in reversed(self.skips)]
            if shapes[self.skips[0]][0] < _PROBE:
                inputs.append(0)  # nothing of the encoder has the picture's size
            if len(decoder_features) != len(inputs):
                raise ConfigError(
                    f"model.options.decoder_features: {encoder} needs {len(inputs)} numbers. Received:"
                    f" {decoder_features}"
                )
            channels = shapes[base.names[-1]][1]
            layers: dict[str, nnx.Module] = {"norm0": BatchNorm(channels, dtype=dtype)}
            for number, (skipped, outs) in enumerate(zip(inputs, decoder_features, strict=True), start=1):
                if skipped:
                    layers[f"norm{number}"] = BatchNorm(skipped, dtype=dtype)
                first = ConvNormAct(channels + skipped, outs, dtype=dtype, rngs=rngs)
                layers[f"up{number}"] = Chain(**{"1": first, "2": ConvNormAct(outs, outs, dtype=dtype, rngs=rngs)})
                channels = outs
            head = Chain(**layers, logits=Conv(channels, num_classes, 1, dtype=dtype, rngs=rngs))
        self.encoder = encoder
        super().__init__(preprocessing=published.preprocessing, base=base, head=head)

    def __call__(self, images: jax.Array, train: bool = False, *, rngs: nnx.Rngs | None = None) -> jax.Array:
        if not self.head.names:
            return super().__call__(images, train, rngs=rngs)
        levels = (*self.skips, self.base.names[-1])
        x = self.preprocessing(images)
        encoded = self.base.features(x, levels, train and not self.base.frozen, rngs=rngs)
        train = train and not self.head.frozen
        layers = dict(zip(self.head.names, self.head, strict=True))
        norms, stages = ([layer for name, layer in layers.items() if name.startswith(kind)] for kind in ("norm", "up"))
        smallest_first = zip(norms, reversed(encoded.values()), strict=True)
        x, *skips = (apply(norm, level, train, rngs) for norm, level in smallest_first)
        for stage, skip in zip_longest(stages, skips):
            height, width = images.shape[1:3] if skip is None else skip.shape[1:3]
            x = upsample_nearest(x, (height, width))
            if skip is not None:
                x = jnp.concatenate([x, skip], axis=-1)
            x = apply(stage, x, train, rngs)
        return apply(layers["logits"], x, train, rngs)


def _shapes(base: Chain) -> dict[str, tuple[int, int]]:
    """Height and channels of each layer's output for large pictures."""
    picture = jax.ShapeDtypeStruct((1, _PROBE, _PROBE, 3), jnp.float32)
    outputs: dict[str, Any] = jax.eval_shape(lambda x: base.features(x, base.names), picture)
    return {name: (output.shape[1], output.shape[3]) for name, output in outputs.items()}


def skip_levels(base: Chain, heights: dict[str, int]) -> tuple[str, ...]:
    """The last layer of `base` at each size before the picture is about halved, from the largest; not the last size.

    heights: of each layer's output. Layers that only pad are passed over, and so is what comes before the first layer
    with parameters.
    """
    levels: list[tuple[str, int]] = []
    for name, layer in zip(base.names, base, strict=True):
        height = heights[name]
        if not levels and not jax.tree.leaves(nnx.state(layer, nnx.Param)):
            continue
        if not levels or height < 0.75 * levels[-1][1]:
            levels.append((name, height))
        elif height <= levels[-1][1]:
            levels[-1] = (name, height)
    return tuple(name for name, _ in levels[:-1])
