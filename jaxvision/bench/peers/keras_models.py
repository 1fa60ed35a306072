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


MODELS: dict[str, Callable[[Case], Any]] = {
    "convnet-mnist": partial(convnet, features=(32, 64, 128)),
    "convnet-dogs-vs-cats": partial(convnet, features=(32, 64, 128, 256, 256)),
    "vgg16": vgg16,
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


def _head(case: Case, x: Any) -> Any:
    """Flatten, dense layers without activation, dropout, a dense layer; x itself where the case has no head."""
    from keras import layers

    if case.outputs is None:
        return x
    x = layers.Flatten()(x)
    for number, units in enumerate(case.hidden, start=1):
        x = layers.Dense(units, name=f"hidden{number}")(x)
    if case.dropout:
        x = layers.Dropout(case.dropout)(x)
    # float32 logits also under a mixed_bfloat16 policy, as Keras' guide to mixed precision says.
    return layers.Dense(case.outputs, dtype="float32", name="logits")(x)
