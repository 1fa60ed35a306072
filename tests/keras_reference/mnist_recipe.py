"""The book's MNIST recipe in Keras, for the README's comparison; the tests do not run it.

KERAS_BACKEND=tensorflow python tests/keras_reference/mnist_recipe.py TFDS_DIR OUTPUT.json RUNS

No seed is set, as in the book: after `keras.utils.set_random_seed`, `fit` on TensorFlow shows the examples in the same
order every epoch (Keras 3.15.1), and training goes otherwise.
"""

import json
import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
import keras
import numpy as np
import tensorflow_datasets as tfds
from keras import layers

data_dir, output, count = sys.argv[1:]
(x_train, y_train), (x_test, y_test) = (
    tfds.as_numpy(tfds.load("mnist", split=split, data_dir=data_dir, batch_size=-1, as_supervised=True))
    for split in ("train", "test")
)
runs = []
for _ in range(int(count)):
    inputs = keras.Input((28, 28, 1))
    x = layers.Rescaling(1.0 / 255)(inputs)
    x = layers.MaxPooling2D(2)(layers.Conv2D(32, 3, activation="relu")(x))
    x = layers.MaxPooling2D(2)(layers.Conv2D(64, 3, activation="relu")(x))
    x = layers.Flatten()(layers.Conv2D(128, 3, activation="relu")(x))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax")(x))
    model.compile(optimizer="rmsprop", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    started = time.perf_counter()
    model.fit(x_train, y_train, epochs=5, batch_size=64, verbose=2)
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    runs.append({"test": {"loss": loss, "accuracy": accuracy}, "seconds": round(time.perf_counter() - started, 1)})
    print(runs[-1], flush=True)
document = {
    "experiment": "mnist",
    "peer": f"Keras {keras.__version__} on {keras.backend.backend()}",
    "command": f"KERAS_BACKEND={keras.backend.backend()} python tests/keras_reference/mnist_recipe.py TFDS_DIR OUTPUT "
    + count,
    "runs": runs,
    "mean": {"test": {"accuracy": float(np.mean([run["test"]["accuracy"] for run in runs]))}},
    "std": {"test": {"accuracy": float(np.std([run["test"]["accuracy"] for run in runs], ddof=1))}},
}
with open(output, "w") as file:
    json.dump(document, file, indent=2)
    file.write("\n")
