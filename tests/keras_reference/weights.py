"""Keras writes and reads files of weights.

weights.py INPUT OUTPUT write FOLDER            -> FOLDER/*; arrays MODEL/LAYER/TENSOR, tensors as Keras numbers them
weights.py INPUT OUTPUT zoo NAME FOLDER         -> FOLDER/NAME.h5 and NAME.weights.h5; arrays LAYER/TENSOR
weights.py INPUT OUTPUT read MODEL=PATH ...     -> arrays MODEL/LAYER/TENSOR after load_weights(PATH)
weights.py INPUT OUTPUT blocks PATH             images -> output of each block of VGG16 with the weights of PATH
"""

import pathlib
import sys

# Keras would import it, for seconds, to see whether a layer configuration has any of it.
sys.modules["tensorflow"] = None

import h5py  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402
from keras.src.legacy.saving import legacy_h5_format  # noqa: E402

# Every tensor is set to random numbers of ours; drawing Keras' own takes most of the time.
keras.initializers.VarianceScaling.__call__ = lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype)

ZOO = {
    "vgg16": (keras.applications.VGG16, 32, False),
    "resnet50": (keras.applications.ResNet50, 64, True),
    "xception": (keras.applications.Xception, 96, True),
    "mobilenetv2": (keras.applications.MobileNetV2, 64, True),
    "efficientnetb0": (keras.applications.EfficientNetB0, 64, True),
    "densenet121": (keras.applications.DenseNet121, 64, True),
}


def convnet(size=28, channels=1, outputs=10, features=(32, 64, 128)):
    """The book's model, as a reader writes it: no layer has a name."""
    inputs = keras.Input((size, size, channels))
    x = layers.Rescaling(1.0 / 255)(inputs)
    for number, width in enumerate(features, start=1):
        x = layers.Conv2D(width, 3, activation="relu")(x)
        if number < len(features):
            x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(outputs)(x))


def nested(named):
    """A base inside a model, as the book's conv_base; augmentation inside too."""
    inputs = x = keras.Input((28, 28, 1))
    for number, width in enumerate((32, 64, 128), start=1):
        x = layers.Conv2D(width, 3, activation="relu", name=f"conv{number}" if named else None)(x)
        x = layers.MaxPooling2D(2)(x) if number < 3 else x
    base = keras.Model(inputs, x, name="conv_base")
    augmentation = keras.Sequential([layers.RandomFlip()])
    top = [layers.Flatten(), layers.Dense(10)]
    return keras.Sequential([keras.Input((28, 28, 1)), augmentation, layers.Rescaling(1.0 / 255), base, *top])


def partly_frozen(frozen, *, names=(None,) * 4, widths=(8,) * 4):
    """Four convolutions as a base inside a model, those at the places `frozen` not trainable."""
    convs = [layers.Conv2D(width, 3, activation="relu", name=name) for width, name in zip(widths, names, strict=True)]
    base = keras.Sequential([keras.Input((12, 12, 1)), *convs], name="conv_base")
    for place in frozen:
        convs[place].trainable = False
    return keras.Sequential([keras.Input((12, 12, 1)), base, layers.Flatten(), layers.Dense(10)])


class Subclassed(keras.Model):
    """Layers as attributes; of no names but those."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (layers.Conv2D(width, 3) for width in (32, 64, 128))
        self.pool, self.flatten, self.logits = layers.MaxPooling2D(2), layers.Flatten(), layers.Dense(10)

    def call(self, x):
        return self.logits(self.flatten(self.conv3(self.pool(self.conv2(self.pool(self.conv1(x)))))))


@keras.saving.register_keras_serializable("mine")
class Custom(layers.Layer):
    def call(self, x):
        return x * 2


def with_layer(layer):
    inputs = keras.Input((28, 28, 1))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(layer(inputs))))


def dogs_vs_cats():
    return convnet(180, 3, 1, (32, 64, 128, 256, 256))


def zoo(name):
    keras.backend.clear_session()
    make, size, top = ZOO[name]
    return make(weights=None, include_top=top, input_shape=(size, size, 3))


def randomized(model, seed):
    """Every tensor random and positive: zeros and ones would hide a swap."""
    rng = np.random.default_rng(seed)
    values = (rng.uniform(0.1, 1.0, w.shape).astype(w.dtype) for w in model.weights)
    model.set_weights(list(values))
    return model


def tensors(model, prefix=""):
    out = {}
    for layer in model.layers:
        if hasattr(layer, "layers"):
            out |= tensors(layer, prefix)
        else:
            out |= {f"{prefix}{layer.name}/{i}": np.array(w) for i, w in enumerate(layer.weights)}
    return out


def write(folder):
    folder = pathlib.Path(folder)
    out = {}

    def keep(name, model, *suffixes):
        randomized(model, len(out))
        for suffix in suffixes:
            if suffix == ".legacy.h5":  # weights alone, as Keras 2 wrote them
                with h5py.File(folder / f"{name}{suffix}", "w") as file:
                    legacy_h5_format.save_weights_to_hdf5_group(file, model)
            else:
                save = model.save_weights if suffix == ".weights.h5" else model.save
                save(folder / f"{name}{suffix}")
        out.update(tensors(model, f"{name}/"))

    convnet()  # names of the next one go on from here: conv2d_3, dense_1
    trained = convnet()
    trained.compile(optimizer="adam", loss="mse")
    trained.optimizer.build(trained.trainable_variables)  # whose state is then in the files too
    keep("book", trained, ".weights.h5", ".keras", ".h5")
    keep("nested", nested(named=False), ".weights.h5", ".keras", ".h5")
    keep("named", nested(named=True), ".weights.h5", ".keras", ".h5")
    subclassed = Subclassed()
    subclassed(np.zeros((1, 28, 28, 1)))
    keep("subclassed", subclassed, ".weights.h5")
    keep("frozen-none", partly_frozen(()), ".legacy.h5")
    keep("frozen-first", partly_frozen((0, 1)), ".h5", ".legacy.h5")
    keep("frozen-middle", partly_frozen((2,)), ".h5", ".weights.h5", ".legacy.h5")
    keep("frozen-named", partly_frozen((0, 1), names=("conv1", "conv2", "conv3", "conv4")), ".legacy.h5")
    keep("frozen-other", partly_frozen((0, 1), names=("stem", "body", "neck", "top")), ".h5", ".legacy.h5")
    keep("frozen-widths", partly_frozen((0, 1), widths=(4, 6, 8, 10)), ".legacy.h5")
    strided = [layers.Conv2D(8, 3, strides=1 + (number < 2)) for number in range(3)]
    keep("strided", keras.Sequential([keras.Input((28, 28, 1)), *strided, layers.Flatten(), layers.Dense(10)]), ".h5")
    norm = layers.BatchNormalization(epsilon=1e-5, name="norm")
    keep("epsilon", keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(4, 3, name="conv"), norm]), ".h5", ".keras")
    keep("dogs-vs-cats", dogs_vs_cats(), ".weights.h5")
    keep("lambda", with_layer(layers.Lambda(lambda x: x * 2)), ".keras", ".h5", ".weights.h5")
    keep("custom", with_layer(Custom()), ".keras")
    keras.config.set_dtype_policy("bfloat16")
    keep("half", convnet(), ".weights.h5")
    return {name: value.astype(np.float32) for name, value in out.items()}


def main(given, answer, what, *args):
    if what == "write":
        out = write(*args)
    elif what == "zoo":
        name, folder = args
        model = randomized(zoo(name), 0)
        model.save_weights(f"{folder}/{name}.weights.h5")
        model.save(f"{folder}/{name}.h5")
        out = tensors(model)
    elif what == "read":
        out = {}
        for arg in args:
            name, _, path = arg.partition("=")
            model = zoo(name) if name in ZOO else {"book": convnet, "dogs-vs-cats": dogs_vs_cats}[name]()
            model.load_weights(path)
            out |= tensors(model, f"{name}/")
    else:
        images = np.load(given)["images"].astype(np.float32)
        model = keras.applications.VGG16(weights=args[0], include_top=False, input_shape=images.shape[1:])
        names = [f"block{number}_pool" for number in range(1, 6)]
        blocks = keras.Model(model.input, [model.get_layer(name).output for name in names])
        outputs = blocks.predict(keras.applications.vgg16.preprocess_input(images), verbose=0)
        out = dict(zip(names, outputs, strict=True))
    np.savez(answer, **out)


main(*sys.argv[1:])
