"""Chapter 9.4's recipes on keras.applications' Xception with given weights: explain.py INPUT OUTPUT

INPUT: images (raw pixels); weights/LAYER/TENSOR; starts (raw pixels), layer, channels, steps of gradient ascent.
OUTPUT: heat (B, h, w) and classes (B,), Grad-CAM of the class predicted; activations/LAYER; filters (N, H, W, C) in raw
pixels.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import numpy as np
import tensorflow as tf

LAST_CONV, CLASSIFIER = "block14_sepconv2_act", ("avg_pool", "predictions")
LOOKED_AT = ("block1_conv1", "block4_pool", LAST_CONV)


def heat_map(features, classifier, picture):
    with tf.GradientTape() as tape:
        output = features(picture[None])
        tape.watch(output)
        probabilities = classifier(output)
        predicted = int(np.argmax(probabilities[0]))
        score = probabilities[:, predicted]
    weights = tf.reduce_mean(tape.gradient(score, output), axis=(0, 1, 2)).numpy()
    heat = np.maximum((output.numpy()[0] * weights).mean(axis=-1), 0)
    return heat / heat.max(), predicted


def ascend(extractor, picture, channel, steps, rate=10.0):
    picture = tf.constant(picture[None])
    for _ in range(steps):
        with tf.GradientTape() as tape:
            tape.watch(picture)
            loss = tf.reduce_mean(extractor(picture)[:, 2:-2, 2:-2, channel])
        picture += rate * tf.math.l2_normalize(tape.gradient(loss, picture))
    return picture.numpy()[0]


_, given, answer = sys.argv
with np.load(given) as data:
    images = data["images"].astype("float32")
    classes = len(data["weights/predictions/bias"])
    model = keras.applications.Xception(weights=None, input_shape=images.shape[1:], classes=classes)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([data[f"weights/{layer.name}/{variable.name}"] for variable in layer.weights])
    x = classifier_input = keras.Input(model.get_layer(LAST_CONV).output.shape[1:])
    for name in CLASSIFIER:
        x = model.get_layer(name)(x)
    classifier = keras.Model(classifier_input, x)
    features = keras.Model(model.inputs, model.get_layer(LAST_CONV).output)
    pictures = keras.applications.xception.preprocess_input(images.copy())
    maps = [heat_map(features, classifier, picture) for picture in pictures]
    out = {"heat": np.stack([heat for heat, _ in maps]), "classes": np.array([label for _, label in maps])}
    for name in LOOKED_AT:
        out[f"activations/{name}"] = keras.Model(model.inputs, model.get_layer(name).output)(pictures).numpy()
    extractor = keras.Model(model.inputs, model.get_layer(str(data["layer"])).output)
    starts = data["starts"] / 127.5 - 1
    ascended = [
        ascend(extractor, start.astype("float32"), int(channel), int(data["steps"]))
        for start, channel in zip(starts, data["channels"], strict=True)
    ]
    out["filters"] = (np.stack(ascended) + 1) * 127.5
np.savez(answer, **out)
