"""Keras as a peer: `keras_peer jax` or `keras_peer tensorflow`."""

import itertools
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxvision.bench.peers.keras_models import MODELS
from jaxvision.bench.peers.serve import Work, serve

TRIED_STEPS = 4


class Keras(ABC):
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
        self.start: list[tuple[Any, np.ndarray]] = []
        self.seconds_choosing = 0.0
        if backend == "jax":
            self._compile(work, jit=True)
            self.setup = "jit_compile=True"
        else:
            self.setup = self._choose(work)
        counted = self.model.weights if work.case.is_inference else self.model.trainable_variables
        self.parameters = sum(int(np.prod(v.shape)) for v in counted)
        self.versions = {"keras": keras.__version__} | _version_of(backend)
        self.device = _device(backend)

    def _compile(self, work: Work, *, jit: bool) -> None:
        """Makes `model` at the given weights, anew; what is frozen is so by layers."""
        self.model = MODELS[work.case.model](work.case)
        given = {_keras_name(name): array for name, array in work.weights.items()}
        trained = {_keras_name(name) for name in work.trained}
        layers = list(_layers(self.model))
        variables = {f"{layer.name}.{v.name}": v for layer in layers for v in layer.weights}
        if set(variables) != set(given):
            raise ValueError(f"weights of other names: {sorted(set(variables) ^ set(given))}")
        for name, variable in variables.items():
            # A depthwise kernel is (kh, kw, C, multiplier) here and (kh, kw, 1, C * multiplier) there.
            variable.assign(given[name].reshape(variable.shape))
        for layer in layers:
            layer.trainable = any(f"{layer.name}.{v.name}" in trained for v in layer.weights)

    def _choose(self, work: Work) -> str:
        """Tries both settings of jit_compile and keeps the faster; says which, and both rates."""
        began, failed = time.perf_counter(), ""
        found: list[tuple[float, float, bool, Any, Any]] = []
        for jit in (False, True):
            start = time.perf_counter()
            try:
                self._compile(work, jit=jit)
                self.check(0)
                first = time.perf_counter() - start
                self.run(1)
                start = time.perf_counter()
                self.run(TRIED_STEPS)
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

    @abstractmethod
    def check(self, index: int) -> np.ndarray: ...

    @abstractmethod
    def run(self, steps: int) -> None: ...


class Training(Keras):
    """Training steps by `train_on_batch` or `fit`, whichever suits the backend."""

    def __init__(self, work: Work, backend: str):
        super().__init__(work, backend)
        self.setup = f"{'fit' if backend == 'jax' else 'train_on_batch'}, {self.setup}"

    def _compile(self, work: Work, *, jit: bool) -> None:
        import keras

        super()._compile(work, jit=jit)
        losses = keras.losses
        loss = losses.BinaryCrossentropy if work.case.outputs == 1 else losses.SparseCategoricalCrossentropy
        optimizer = keras.optimizers.RMSprop(work.case.learning_rate)
        self.model.compile(optimizer, loss(from_logits=True), jit_compile=jit)
        optimizer.build(self.model.trainable_variables)
        variables = [*self.model.weights, *optimizer.variables]
        self.start = [(variable, np.array(variable)) for variable in variables]

    def check(self, index: int) -> np.ndarray:
        self.model.reset_metrics()  # the loss it returns is otherwise a mean over the steps so far
        return np.asarray(self.model.train_on_batch(*self.batches[index % len(self.batches)]))

    def run(self, steps: int) -> None:
        if self.backend == "jax":
            # As fast as train_on_batch on a CPU; it waits for no step, which on an accelerator is the faster.
            batches = (batch for batch in itertools.cycle(self.batches))
            self.model.fit(batches, steps_per_epoch=steps, epochs=1, verbose=0)
            return
        # On a CPU 1.1-1.5 times as fast as fit, whether fit is given arrays, a generator or a tf.data.Dataset.
        for index in range(steps):
            self.model.train_on_batch(*self.batches[index % len(self.batches)])


class Inference(Keras):
    """Features by `predict_on_batch`, which brings them to the host."""

    def __init__(self, work: Work, backend: str):
        super().__init__(work, backend)
        self.setup = f"predict_on_batch, {self.setup}"

    def _compile(self, work: Work, *, jit: bool) -> None:
        super()._compile(work, jit=jit)
        self.model.compile(jit_compile=jit)

    def check(self, index: int) -> np.ndarray:
        return np.asarray(self.model.predict_on_batch(self.batches[index % len(self.batches)][0]), np.float32)

    def run(self, steps: int) -> None:
        for index in range(steps):
            self.check(index)


def _layers(model: Any) -> Iterator[Any]:
    """Those that are no models themselves."""
    for layer in model.layers:
        yield from _layers(layer) if hasattr(layer, "layers") else (layer,)


def _keras_name(name: str) -> str:
    """base.block1_conv1.kernel -> block1_conv1.kernel; a block's sub-layers are joined by "_"."""
    _, *layer, tensor = name.split(".")
    if layer[-1] in ("depthwise", "pointwise"):  # one layer here
        tensor = f"{layer.pop()}_{tensor}".replace("pointwise_bias", "bias")
    if layer[-1] == "bn":
        tensor = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}[tensor]
    return f"{'_'.join(layer)}.{tensor}"


def _version_of(backend: str) -> dict[str, str]:
    module = sys.modules[backend]
    return {backend: module.__version__}


def _device(backend: str) -> str:
    if backend == "jax":
        return sys.modules["jax"].devices()[0].device_kind
    gpus = sys.modules["tensorflow"].config.list_physical_devices("GPU")
    return "GPU" if gpus else "cpu"


def make(work: Work, backend: str) -> Training | Inference:
    """The peer that the case asks for."""
    return Inference(work, backend) if work.case.is_inference else Training(work, backend)


if __name__ == "__main__":
    serve(lambda work: make(work, sys.argv[1]))
