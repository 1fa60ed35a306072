"""Keras' side of the parity tests: the book's models, their logits, and a training run with every state written down.

convnets.py INPUT OUTPUT MODEL        images, weight_0, ... -> logits
convnets.py INPUT OUTPUT MODEL STEPS  images (STEPS, B, ...), target (STEPS, B), weight_0, ... ->
    loss (STEPS,), gradient_K_I of step K, weight_K_I and slot_K_I before step K (and after the last)
"""

import sys

import jax
import keras
import numpy as np
from keras import layers


def convnet(input_shape, outputs, features, *, pool=True):
    inputs = keras.Input(input_shape)
    x = layers.Rescaling(1.0 / 255)(inputs)
    for number, width in enumerate(features, start=1):
        x = layers.Conv2D(width, 3, activation="relu")(x)
        if pool and number < len(features):
            x = layers.MaxPooling2D(2)(x)
    return keras.Model(inputs, layers.Dense(outputs)(layers.Flatten()(x)))


def dense(input_shape, outputs, features):
    inputs = keras.Input(input_shape)
    x = layers.Flatten()(layers.Rescaling(1.0 / 255)(inputs))
    for width in features:
        x = layers.Dense(width, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(outputs)(x))


MODELS = {
    "dense-mnist": lambda: dense((28, 28, 1), 10, (512,)),
    "convnet-mnist": lambda: convnet((28, 28, 1), 10, (32, 64, 128)),
    "convnet-mnist-no-pooling": lambda: convnet((28, 28, 1), 10, (32, 64, 128), pool=False),
    "convnet-dogs-vs-cats": lambda: convnet((180, 180, 3), 1, (32, 64, 128, 256, 256)),
}


def main(given, answer, name, steps=None):
    data = np.load(given)
    model = MODELS[name]()
    model.set_weights([data[f"weight_{i}"] for i in range(len(model.weights))])
    if steps is None:
        np.savez(answer, logits=model.predict(data["images"], verbose=0), parameters=model.count_params())
        return
    if model.output_shape[-1] == 1:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.RMSprop(), loss=loss)
    model.optimizer.build(model.trainable_variables)

    @jax.jit
    def gradients(weights, images, target):
        def mean_loss(weights):
            logits, _ = model.stateless_call(weights, [], images)
            return loss(target if logits.shape[-1] > 1 else target[:, None], logits)

        return jax.grad(mean_loss)(weights)

    out = {"loss": []}
    for step in range(int(steps) + 1):
        slots = [v for v in model.optimizer.variables if "velocity" in v.path]
        for index, (weight, slot) in enumerate(zip(model.trainable_variables, slots, strict=True)):
            out[f"weight_{step}_{index}"], out[f"slot_{step}_{index}"] = np.array(weight), np.array(slot)
        if step == int(steps):
            break
        images, target = data["images"][step], data["target"][step]
        values = gradients([v.value for v in model.trainable_variables], images, target)
        out |= {f"gradient_{step}_{index}": np.array(value) for index, value in enumerate(values)}
        # The update is Keras' own training step, not ours in disguise.
        out["loss"].append(model.train_on_batch(images, target))
    np.savez(answer, **out)


main(*sys.argv[1:])
