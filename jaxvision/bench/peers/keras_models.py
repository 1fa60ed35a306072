"""The cases' models as Keras users write them. Keras is imported inside: its backend is chosen before."""

from collections.abc import Callable
from functools import partial
from typing import Any

from jaxvision.bench.cases import Case


def convnet(case: Case, features: tuple[int, ...]) -> Any:
    """3x3 convolutions with ReLU, a max-pool of 2 between any two."""
    import keras
    from keras import layers

    inputs = keras.Input(case.image_shape)
    x = layers.Rescaling(1.0 / 255)(_augmented(case, inputs))
    for number, width in enumerate(features, start=1):
        x = layers.Conv2D(width, 3, activation="relu", name=f"conv{number}")(x)
        if number < len(features):
            x = layers.MaxPooling2D(2)(x)
    return keras.Model(inputs, _head(case, x))


def vgg16(case: Case) -> Any:
    """The convolutional base of `keras.applications`, with its preprocessing."""
    import keras

    inputs = keras.Input(case.image_shape)
    x = keras.applications.vgg16.preprocess_input(_augmented(case, inputs))
    base = keras.applications.VGG16(include_top=False, weights=None, input_shape=case.image_shape)
    return keras.Model(inputs, _head(case, base(x)))


def residual_convnet(case: Case) -> Any:
    """Two 3x3 convolutions and a pool in each block, a 1x1 convolution around them."""
    import keras
    from keras import layers

    inputs = keras.Input(case.image_shape)
    x = layers.Rescaling(1.0 / 255)(_augmented(case, inputs))
    for number, width in enumerate((32, 64, 128), start=1):
        name, shortcut, strides = f"block{number}", x, 2 if number < 3 else 1
        for place in (1, 2):
            x = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{name}_{place}_conv")(x)
        if strides == 2:
            x = layers.MaxPooling2D(2, padding="same")(x)
        x = layers.add([x, layers.Conv2D(width, 1, strides=strides, name=f"{name}_shortcut_conv")(shortcut)])
    return keras.Model(inputs, _head(case, x, average=True))


def mini_xception(case: Case) -> Any:
    """Pre-activation, separable convolutions and a pool in each block, a 1x1 convolution around them."""
    import keras
    from keras import layers

    inputs = keras.Input(case.image_shape)
    x = layers.Rescaling(1.0 / 255)(_augmented(case, inputs))
    x = layers.Conv2D(32, 5, use_bias=False, name="stem")(x)
    for number, width in enumerate((32, 64, 128, 256, 512), start=1):
        name, shortcut = f"block{number}", x
        for place in (1, 2):
            x = layers.BatchNormalization(name=f"{name}_{place}_bn")(x)
            x = layers.Activation("relu")(x)
            x = layers.SeparableConv2D(width, 3, padding="same", use_bias=False, name=f"{name}_{place}_conv")(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        shortcut = layers.Conv2D(width, 1, strides=2, use_bias=False, name=f"{name}_shortcut_conv")(shortcut)
        x = layers.add([x, shortcut])
    return keras.Model(inputs, _head(case, x, average=True))


def segmenter(case: Case) -> Any:
    """Strided convolutions down, transposed ones up, logits of the picture's size."""
    import keras
    from keras import layers

    inputs = keras.Input(case.image_shape)
    x = layers.Rescaling(1.0 / 255)(_augmented(case, inputs))
    widths = list(enumerate((64, 128, 256), start=1))
    options: dict[str, Any] = {"padding": "same", "activation": "relu"}
    for number, width in widths:
        x = layers.Conv2D(width, 3, strides=2, name=f"down{number}_conv1", **options)(x)
        x = layers.Conv2D(width, 3, name=f"down{number}_conv2", **options)(x)
    for number, width in reversed(widths):
        x = layers.Conv2DTranspose(width, 3, name=f"up{number}_conv1", **options)(x)
        x = layers.Conv2DTranspose(width, 3, strides=2, name=f"up{number}_conv2", **options)(x)
    logits = layers.Conv2D(case.outputs, 3, padding="same", dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits)


MODELS: dict[str, Callable[[Case], Any]] = {
    "convnet-mnist": partial(convnet, features=(32, 64, 128)),
    "convnet-dogs-vs-cats": partial(convnet, features=(32, 64, 128, 256, 256)),
    "vgg16": vgg16,
    "residual-convnet": residual_convnet,
    "mini-xception": mini_xception,
    "segmenter": segmenter,
}
"""jaxvision's name of a model -> the same model; a layer's name is jaxvision's path below base or head."""


def _augmented(case: Case, x: Any) -> Any:
    from keras import layers

    if case.augment.flip == "horizontal":
        x = layers.RandomFlip("horizontal")(x)
    if case.augment.rotation:
        x = layers.RandomRotation(case.augment.rotation)(x)
    if case.augment.zoom:
        x = layers.RandomZoom(case.augment.zoom)(x)
    return x


def _head(case: Case, x: Any, *, average: bool = False) -> Any:
    """Flatten or average, dense layers without activation, dropout, a dense layer; x itself where the case has no
    head."""
    from keras import layers

    if case.outputs is None:
        return x
    x = layers.GlobalAveragePooling2D()(x) if average else layers.Flatten()(x)
    for number, units in enumerate(case.hidden, start=1):
        x = layers.Dense(units, name=f"hidden{number}")(x)
    if case.dropout:
        x = layers.Dropout(case.dropout)(x)
    # float32 logits also under a mixed_bfloat16 policy, as Keras' guide to mixed precision says.
    return layers.Dense(case.outputs, dtype="float32", name="logits")(x)
