"""Keras as a peer: `keras_peer jax` or `keras_peer tensorflow`."""

import itertools
import os
import sys
import time
from typing import Any

import numpy as np

from jaxvision.bench.cases import Case
from jaxvision.bench.peers.serve import Work, serve

FEATURES = {"convnet-mnist": (32, 64, 128), "convnet-dogs-vs-cats": (32, 64, 128, 256, 256)}
TRIED_STEPS = 4


def convnet(case: Case) -> Any:
    """jaxvision's ConvNet; names of layers are the same, so that weights are."""
    import keras
    from keras import layers

    features = FEATURES[case.model]
    inputs = keras.Input(case.image_shape)
    x = inputs
    if case.augment.flip == "horizontal":
        x = layers.RandomFlip("horizontal")(x)
    if case.augment.rotation:
        x = layers.RandomRotation(case.augment.rotation)(x)
    if case.augment.zoom:
        x = layers.RandomZoom(case.augment.zoom)(x)
    x = layers.Rescaling(1.0 / 255)(x)
    for number, width in enumerate(features, start=1):
        x = layers.Conv2D(width, 3, activation="relu", name=f"base.conv{number}")(x)
        if number < len(features):
            x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    if case.options.get("dropout"):
        x = layers.Dropout(case.options["dropout"])(x)
    # float32 logits also under a mixed_bfloat16 policy, as Keras' guide to mixed precision says.
    return keras.Model(inputs, layers.Dense(case.outputs, dtype="float32", name="head.logits")(x))


class Keras:
    """The compiled model; on TensorFlow with XLA or without, whichever is faster here."""

    def __init__(self, work: Work, backend: str):
        os.environ["KERAS_BACKEND"] = backend
        import keras

        # A user's keras.json may say otherwise.
        keras.config.set_floatx("float32")
        keras.config.set_image_data_format("channels_last")
        if work.precision == "bfloat16":
            keras.mixed_precision.set_global_policy("mixed_bfloat16")
        keras.utils.set_random_seed(0)
        self.backend = backend
        # On the device once and for all.
        self.batches = [tuple(map(keras.ops.convert_to_tensor, batch)) for batch in work.batches]
        self.seconds_choosing = 0.0
        if backend == "jax":
            self._compile(work, jit=True)
            self.setup = "fit, jit_compile=True"
        else:
            self.setup = "train_on_batch, " + self._choose(work)
        self.parameters = sum(int(np.prod(v.shape)) for v in self.model.trainable_variables)
        self.versions = {"keras": keras.__version__} | _version_of(backend)
        self.device = _device(backend)

    def _compile(self, work: Work, *, jit: bool) -> None:
        import keras

        self.model = convnet(work.case)
        by_name = {".".join(v.path.split("/")[-2:]): v for v in self.model.trainable_variables}
        if set(by_name) != set(work.weights):
            raise ValueError(f"weights of other names: {sorted(set(by_name) ^ set(work.weights))}")
        for name, variable in by_name.items():
            variable.assign(work.weights[name])
        losses = keras.losses
        loss = losses.BinaryCrossentropy if work.case.outputs == 1 else losses.SparseCategoricalCrossentropy
        self.model.compile(keras.optimizers.RMSprop(), loss(from_logits=True), jit_compile=jit)
        self.model.optimizer.build(self.model.trainable_variables)
        variables = [*self.model.trainable_variables, *self.model.optimizer.variables]
        self.start = [(variable, np.array(variable)) for variable in variables]

    def _choose(self, work: Work) -> str:
        """Tries both settings of jit_compile and keeps the faster; says which, and both rates."""
        began, failed = time.perf_counter(), ""
        found: list[tuple[float, float, bool, Any, Any]] = []
        for jit in (False, True):
            start = time.perf_counter()
            try:
                self._compile(work, jit=jit)
                self.checked_step(0)
                first = time.perf_counter() - start
                self.train(1)
                start = time.perf_counter()
                self.train(TRIED_STEPS)
            except Exception as error:
                if not found:
                    raise
                failed = f"; {jit} fails: {type(error).__name__}"
                continue
            rate = TRIED_STEPS * work.case.batch_size / (time.perf_counter() - start)
            found.append((rate, first, jit, self.model, self.start))
        *slower, (rate, first, jit, self.model, self.start) = sorted(found, key=lambda tried: tried[0])
        self.restart()
        self.seconds_choosing = time.perf_counter() - began - first
        against = "".join(f" against {other:,.1f}" for other, *_ in slower)
        return f"jit_compile={jit} ({rate:,.1f}{against} img/s when tried{failed})"

    def restart(self) -> None:
        for variable, value in self.start:
            variable.assign(value)

    def checked_step(self, index: int) -> float:
        self.model.reset_metrics()  # the loss it returns is otherwise a mean over the steps so far
        return float(self.model.train_on_batch(*self.batches[index % len(self.batches)]))

    def train(self, steps: int) -> None:
        if self.backend == "jax":
            # As fast as train_on_batch on a CPU; it waits for no step, which on an accelerator is the faster.
            batches = (batch for batch in itertools.cycle(self.batches))
            self.model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)
            return
        # On a CPU 1.1-1.5 times as fast as fit, whether fit is given arrays, a generator or a tf.data.Dataset.
        for index in range(steps):
            self.model.train_on_batch(*self.batches[index % len(self.batches)])


def _version_of(backend: str) -> dict[str, str]:
    module = sys.modules[backend]
    return {backend: module.__version__}


def _device(backend: str) -> str:
    if backend == "jax":
        return sys.modules["jax"].devices()[0].device_kind
    gpus = sys.modules["tensorflow"].config.list_physical_devices("GPU")
    return "GPU" if gpus else "cpu"


if __name__ == "__main__":
    serve(lambda work: Keras(work, sys.argv[1]))
