"""Keras' side of the parity tests of chapter 9: blocks, and models as a reader of the book writes them, without names.

modern.py INPUT OUTPUT blocks NAME...         NAME/x, NAME/pull, NAME/weights/... -> NAME/inference, NAME/training,
    NAME/after/... (after the training pass), NAME/gradient/... of sum(training * pull), NAME/gradient/x
modern.py INPUT OUTPUT logits NAME OPTIONS... NAME/images, NAME/weights/... -> NAME/logits, NAME/parameters
    (trainable, not trainable)
modern.py INPUT OUTPUT train NAME OPTIONS...  NAME/images (STEPS, B, ...), NAME/target, NAME/weights/... ->
    NAME/loss (STEPS,), NAME/gradient/K/... of step K, NAME/weights/K/... and NAME/slot/K/... before step K (and after
    the last)
modern.py INPUT OUTPUT write FOLDER NAME...   -> FOLDER/NAME.weights.h5, NAME.keras and NAME.h5, and what is in them:
    NAME/..., random
modern.py INPUT OUTPUT read NAME=PATH...      -> NAME/... after load_weights(PATH)

Each ... is KIND/NUMBER/TENSOR: the layer's class, its place among those of the class, Keras' name of the tensor.
OPTIONS is JSON.
"""

import json
import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"  # compiles nothing, so it is quicker here than JAX
import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras.src.utils.naming import to_snake_case


def residual_convnet(size=32, features=(32, 64, 128), outputs=1):
    def block(x, filters, pooling):
        residual = x
        x = layers.Conv2D(filters, 3, activation="relu", padding="same")(x)
        x = layers.Conv2D(filters, 3, activation="relu", padding="same")(x)
        if pooling:
            x = layers.MaxPooling2D(2, padding="same")(x)
            residual = layers.Conv2D(filters, 1, strides=2)(residual)
        elif filters != residual.shape[-1]:
            residual = layers.Conv2D(filters, 1)(residual)
        return layers.add([x, residual])

    inputs = keras.Input((size, size, 3))
    x = layers.Rescaling(1.0 / 255)(inputs)
    for filters in features:
        x = block(x, filters, pooling=filters != features[-1])
    return keras.Model(inputs, layers.Dense(outputs)(layers.GlobalAveragePooling2D()(x)))


def mini_xception(size=180, features=(32, 64, 128, 256, 512), outputs=1):
    inputs = keras.Input((size, size, 3))
    x = layers.Rescaling(1.0 / 255)(inputs)
    x = layers.Conv2D(filters=features[0], kernel_size=5, use_bias=False)(x)
    for filters in features:
        residual = x
        for _ in range(2):
            x = layers.BatchNormalization()(x)
            x = layers.Activation("relu")(x)
            x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
        residual = layers.Conv2D(filters, 1, strides=2, padding="same", use_bias=False)(residual)
        x = layers.add([x, residual])
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(outputs)(layers.Dropout(0.0)(x)))


def segmenter(size=200, features=(64, 128, 256), outputs=3):
    inputs = keras.Input((size, size, 3))
    x = layers.Rescaling(1.0 / 255)(inputs)
    for filters in features:
        x = layers.Conv2D(filters, 3, strides=2, activation="relu", padding="same")(x)
        x = layers.Conv2D(filters, 3, activation="relu", padding="same")(x)
    for filters in features[::-1]:
        x = layers.Conv2DTranspose(filters, 3, activation="relu", padding="same")(x)
        x = layers.Conv2DTranspose(filters, 3, activation="relu", padding="same", strides=2)(x)
    return keras.Model(inputs, layers.Conv2D(outputs, 3, padding="same")(x))


def unet(size, encoder, outputs):
    """On VGG16: the size is halved five times."""
    applications = keras.applications
    inputs = keras.Input((size, size, 3))
    preprocess, build = {"vgg16": (applications.vgg16.preprocess_input, applications.VGG16)}[encoder]
    base = build(include_top=False, weights=None, input_tensor=preprocess(inputs))
    outputs_of = {
        number: base.get_layer(f"block{number}_conv{2 if number < 3 else 3}").output for number in range(1, 6)
    }
    # All of them before the decoder's own: numbered as ours are.
    x = layers.BatchNormalization()(base.output)
    skips = {number: layers.BatchNormalization()(outputs_of[number]) for number in (5, 4, 3, 2, 1)}
    for number, filters in zip((5, 4, 3, 2, 1), (256, 128, 64, 32, 16), strict=True):
        skip = skips[number]
        x = keras.ops.image.resize(x, skip.shape[1:3], interpolation="nearest")
        x = conv_norm_act("conv-norm-act", filters)(layers.Concatenate()([x, skip]))
        x = conv_norm_act("conv-norm-act", filters)(x)
    return keras.Model(inputs, layers.Conv2D(outputs, 1)(x))


MODELS = {
    "residual-convnet": residual_convnet,
    "mini-xception": mini_xception,
    "segmenter": segmenter,
    "unet": unet,
}


def conv_norm_act(order, filters, conv=layers.Conv2D, **options):
    makers = {
        "conv": lambda: conv(filters, 3, padding="same", use_bias=order == "conv-act-norm", **options),
        "norm": layers.BatchNormalization,
        "act": lambda: layers.Activation("relu"),
    }

    def apply(x):
        for part in order.split("-"):
            x = makers[part]()(x)
        return x

    return apply


def residual(x, filters, *, pool=False, norm=False, project=True):
    y = conv_norm_act("conv-norm-act", filters)(x)
    if pool:
        y = layers.MaxPooling2D(2, padding="same")(y)
    if project:
        x = layers.Conv2D(filters, 1, strides=2 if pool else 1, padding="same", use_bias=not norm)(x)
        x = layers.BatchNormalization()(x) if norm else x
    return layers.add([y, x])


BLOCKS = {
    "transpose-same": layers.Conv2DTranspose(6, 3, padding="same", activation="relu"),
    "transpose-same-2": layers.Conv2DTranspose(6, 3, padding="same", strides=2),
    "transpose-same-2-even": layers.Conv2DTranspose(6, 4, padding="same", strides=2, use_bias=False),
    "transpose-valid-3": layers.Conv2DTranspose(6, 2, strides=3, activation="relu"),
    "transpose-valid-2": layers.Conv2DTranspose(6, 3, strides=2),
    "depthwise": layers.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2),
    "separable": layers.SeparableConv2D(6, 3, depth_multiplier=2, dilation_rate=2, padding="same", activation="relu"),
    "conv-norm-act": conv_norm_act("conv-norm-act", 6, dilation_rate=2),
    "conv-act-norm": conv_norm_act("conv-act-norm", 6),
    "norm-act-conv": conv_norm_act("norm-act-conv", 6, layers.SeparableConv2D),
    "residual-identity": lambda x: residual(x, 4, project=False),
    "residual-channels": lambda x: residual(x, 6),
    "residual-pooled": lambda x: residual(x, 4, pool=True, norm=True),
}


def numbered(model):
    """KIND/NUMBER/TENSOR -> variable."""
    found, counts = {}, {}
    for layer in model.layers:
        if layer.weights:
            kind = to_snake_case(type(layer).__name__)
            number = counts[kind] = counts.get(kind, -1) + 1
            found |= {f"{kind}/{number}/{variable.name}": variable for variable in layer.weights}
    return found


def fill(model, data, prefix):
    variables = numbered(model)
    assert {f"{prefix}/{key}" for key in variables} == {key for key in data if key.startswith(f"{prefix}/")}
    for key, variable in variables.items():
        variable.assign(data[f"{prefix}/{key}"])


def values(model, prefix):
    return {f"{prefix}/{key}": np.array(variable) for key, variable in numbered(model).items()}


def named(prefix, model, variables, arrays):
    """Arrays beside the model's trainable variables, under the names of those."""
    names = {id(variable): key for key, variable in numbered(model).items()}
    return {f"{prefix}/{names[id(v)]}": np.array(array) for v, array in zip(variables, arrays, strict=True)}


def blocks(data, *names):
    out = {}
    for name in names:
        x = tf.convert_to_tensor(data[f"{name}/x"])
        inputs = keras.Input(x.shape[1:])
        model = keras.Model(inputs, BLOCKS[name](inputs))
        fill(model, data, f"{name}/weights")
        out[f"{name}/inference"] = np.array(model(x, training=False))
        with tf.GradientTape() as tape:
            tape.watch(x)
            result = model(x, training=True)
            total = tf.reduce_sum(result * data[f"{name}/pull"])
        variables = model.trainable_variables
        of_x, *gradients = tape.gradient(total, [x, *(v.value for v in variables)])
        out |= {f"{name}/training": np.array(result), f"{name}/gradient/x": np.array(of_x)}
        out |= named(f"{name}/gradient", model, variables, gradients) | values(model, f"{name}/after")
    return out


def logits(data, *pairs):
    out = {}
    for name, options in zip(pairs[::2], pairs[1::2], strict=True):
        model = MODELS[name](**json.loads(options))
        fill(model, data, f"{name}/weights")
        out[f"{name}/logits"] = np.array(model(data[f"{name}/images"].astype("float32"), training=False))
        out[f"{name}/parameters"] = [
            sum(int(np.prod(v.shape)) for v in variables)
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
    return out


def train(data, *pairs):
    out = {}
    for name, options in zip(pairs[::2], pairs[1::2], strict=True):
        model = MODELS[name](**json.loads(options))
        fill(model, data, f"{name}/weights")
        one = model.output_shape[-1] == 1
        entropy = keras.losses.BinaryCrossentropy if one else keras.losses.SparseCategoricalCrossentropy
        loss, optimizer = entropy(from_logits=True), keras.optimizers.RMSprop()
        variables = model.trainable_variables
        optimizer.build(variables)
        out[f"{name}/loss"] = losses = []
        steps = len(data[f"{name}/images"])
        for step in range(steps + 1):
            slots = [v for v in optimizer.variables if "velocity" in v.path]
            out |= values(model, f"{name}/weights/{step}") | named(f"{name}/slot/{step}", model, variables, slots)
            if step == steps:
                break
            images, target = data[f"{name}/images"][step].astype("float32"), data[f"{name}/target"][step]
            with tf.GradientTape() as tape:
                value = loss(target[:, None] if one else target, model(images, training=True))
            gradients = tape.gradient(value, [v.value for v in variables])
            optimizer.apply(gradients, variables)
            out |= named(f"{name}/gradient/{step}", model, variables, gradients)
            losses.append(float(value))
    return out


def write(_, folder, *names):
    out = {}
    for seed, name in enumerate(names):
        model, rng = MODELS[name](), np.random.default_rng(seed)
        model.set_weights([rng.uniform(0.1, 1.0, w.shape).astype("float32") for w in model.weights])
        model.save_weights(f"{folder}/{name}.weights.h5")
        for suffix in (".keras", ".h5"):
            model.save(f"{folder}/{name}{suffix}")
        out |= values(model, name)
    return out


def read(_, *pairs):
    out = {}
    for pair in pairs:
        name, _, path = pair.partition("=")
        model = MODELS[name]()
        model.load_weights(path)
        out |= values(model, name)
    return out


given, answer, what, *args = sys.argv[1:]
with np.load(given) as arrays:
    np.savez(
        answer,
        **{"blocks": blocks, "logits": logits, "train": train, "write": write, "read": read}[what](dict(arrays), *args),
    )
