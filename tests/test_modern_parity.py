"""Blocks and models of chapter 9 against Keras with the same weights: inference, training, gradients, statistics."""

import json
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from keras_reference import run as keras
from test_keras_parity import assert_most_steps_agree, random_pictures, relative_error
from test_zoo import random_model

from jaxvision.config import Model, Phase, Run
from jaxvision.models import abstract_model
from jaxvision.nn import (
    Chain,
    ConvNormAct,
    ConvTranspose,
    DepthwiseConv,
    MaxPool,
    Residual,
    SeparableConv,
    projection,
)
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.ready import model_with_file
from jaxvision.train.state import init_state
from jaxvision.train.step import make_gradients, make_train_step
from jaxvision.train.task import make_task
from jaxvision.types import Batch
from jaxvision.weights import export_keras, load_keras_weights
from jaxvision.weights.names import ModelTensor, model_layers

RNGS = nnx.Rngs(0)
BLOCKS = {
    "transpose-same": lambda: ConvTranspose(4, 6, padding="SAME", activation=jax.nn.relu, rngs=RNGS),
    "transpose-same-2": lambda: ConvTranspose(4, 6, padding="SAME", strides=2, rngs=RNGS),
    "transpose-same-2-even": lambda: ConvTranspose(4, 6, 4, padding="SAME", strides=2, use_bias=False, rngs=RNGS),
    "transpose-valid-3": lambda: ConvTranspose(4, 6, 2, strides=3, activation=jax.nn.relu, rngs=RNGS),
    "transpose-valid-2": lambda: ConvTranspose(4, 6, strides=2, rngs=RNGS),
    "depthwise": lambda: DepthwiseConv(4, multiplier=2, dilation=2, rngs=RNGS),
    "separable": lambda: SeparableConv(
        4, 6, multiplier=2, dilation=2, padding="SAME", activation=jax.nn.relu, rngs=RNGS
    ),
    "conv-norm-act": lambda: ConvNormAct(4, 6, dilation=2, rngs=RNGS),
    "conv-act-norm": lambda: ConvNormAct(4, 6, order="conv-act-norm", rngs=RNGS),
    "norm-act-conv": lambda: ConvNormAct(4, 6, order="norm-act-conv", separable=True, rngs=RNGS),
    "residual-identity": lambda: Residual(block=ConvNormAct(4, 4, rngs=RNGS)),
    "residual-channels": lambda: Residual(block=ConvNormAct(4, 6, rngs=RNGS), shortcut=projection(4, 6, rngs=RNGS)),
    "residual-pooled": lambda: Residual(
        block=ConvNormAct(4, 4, rngs=RNGS),
        pool=MaxPool(2, padding="SAME"),
        shortcut=projection(4, 4, strides=2, norm=True, rngs=RNGS),
    ),
}


@dataclass(frozen=True)
class Case:
    """A model for pictures of `size`, with options of ours and of the reference."""

    name: str
    size: int
    outputs: int
    options: dict[str, Any]
    keras_options: dict[str, Any]
    exact: int = 0
    """Of the training steps, how many agree to rounding on any machine (see `assert_most_steps_agree`)."""

    def keras(self) -> str:
        return json.dumps({"size": self.size, "outputs": self.outputs, **self.keras_options})


PARAMETERS = {
    "residual-convnet": (297_697, 0),
    "mini-xception": (718_849, 3_008),
    "segmenter": (2_880_643, 0),
}
LOGITS = (
    Case("residual-convnet", 33, 1, {}, {}),
    Case("mini-xception", 61, 1, {}, {}),
    Case("segmenter", 40, 3, {}, {}),
    Case("unet", 50, 3, {"encoder": "vgg16"}, {"encoder": "vgg16"}),
)
FEW = {"features": (8, 12, 16)}
NARROW = (
    Case("residual-convnet", 20, 1, FEW, FEW, exact=5),
    Case("mini-xception", 24, 1, {"dropout": 0.0, **FEW}, FEW, exact=5),
    Case("segmenter", 24, 3, FEW, FEW, exact=5),
)
WIDE = (
    Case("residual-convnet", 32, 1, {}, {}, exact=2),
    Case("mini-xception", 48, 1, {"dropout": 0.0}, {}, exact=2),
    Case("segmenter", 40, 3, {}, {}, exact=2),
)
STEPS, BATCH_SIZE = 8, 4


def numbered(model: nnx.Module) -> dict[str, ModelTensor]:
    """KIND/NUMBER/TENSOR -> tensor, as the reference calls them."""
    found: dict[str, ModelTensor] = {}
    counts: dict[str, int] = {}
    for layer in model_layers(model):
        number = counts[layer.kind] = counts.get(layer.kind, -1) + 1
        found |= {f"{layer.kind}/{number}/{tensor.name}": tensor for tensor in layer.tensors}
    return found


def values(model: nnx.Module, prefix: str) -> dict[str, np.ndarray]:
    return {f"{prefix}/{key}": tensor.values() for key, tensor in numbered(model).items()}


def below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(f"{prefix}/"): array for key, array in arrays.items() if key.startswith(f"{prefix}/")}


def randomize(model: nnx.Module, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for key, tensor in numbered(model).items():
        shape = tensor.variable.shape
        low, high = (0.5, 1.5) if key.endswith(("gamma", "variance")) else (-0.5, 0.5)
        tensor.variable.set_value(jnp.asarray(rng.uniform(low, high, shape).astype(np.float32)))


def test_blocks_equal_keras_in_inference_training_and_gradients():
    models, given = {}, {}
    rng = np.random.default_rng(0)
    for seed, (name, make) in enumerate(BLOCKS.items()):
        models[name] = model = Chain(block=make())
        randomize(model, seed)
        given[f"{name}/x"] = x = rng.normal(0.5, 2.0, (5, 9, 8, 4)).astype(np.float32)
        given[f"{name}/pull"] = rng.normal(size=model(x).shape).astype(np.float32)
        given |= values(model, f"{name}/weights")
    theirs = keras("modern", "blocks", *models, **given)

    for name, model in models.items():
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        x, pull = given[f"{name}/x"], given[f"{name}/pull"]

        def pulled(params, rest, x, graph=graph, pull=pull):
            model = nnx.merge(graph, params, jax.tree.map(lambda leaf: leaf, rest))
            out = model(x, train=True)
            return jnp.sum(out * pull), (out, nnx.state(model))

        inference = jax.jit(lambda params, rest, x, graph=graph: nnx.merge(graph, params, rest)(x))(params, rest, x)
        (_, (training, after)), (gradients, of_x) = jax.jit(jax.value_and_grad(pulled, argnums=(0, 2), has_aux=True))(
            params, rest, x
        )
        assert relative_error(inference, theirs[f"{name}/inference"]) < 1e-5, name
        assert relative_error(training, theirs[f"{name}/training"]) < 1e-5, name
        assert relative_error(of_x, theirs[f"{name}/gradient/x"]) < 1e-4, name
        found = numbered(nnx.merge(graph, gradients, rest))
        wanted = below(theirs, f"{name}/gradient")
        for key in wanted.keys() - {"x"}:
            assert relative_error(found[key].values(), wanted[key]) < 1e-4, (name, key)
        found = values(nnx.merge(nnx.graphdef(model), after), f"{name}/after")
        for key, wanted in below(theirs, f"{name}/after").items():
            np.testing.assert_allclose(found[f"{name}/after/{key}"], wanted, rtol=1e-5, atol=1e-6, err_msg=key)


def test_logits_and_totals_equal_keras():
    models, given = {}, {}
    for seed, case in enumerate(LOGITS):
        shape = (case.size, case.size, 3)
        models[case.name] = random_model(case.name, shape, case.outputs, seed, **case.options)
        given[f"{case.name}/images"] = random_pictures(np.random.default_rng(seed), 4, *shape)
        given |= values(models[case.name], f"{case.name}/weights")
    theirs = keras("modern", "logits", *(part for case in LOGITS for part in (case.name, case.keras())), **given)
    for name, model in models.items():
        graph, variables = nnx.split(model)
        forward = jax.jit(lambda variables, images, graph=graph: nnx.merge(graph, variables)(images))
        logits, expected = forward(variables, given[f"{name}/images"]), theirs[f"{name}/logits"]
        assert logits.shape == expected.shape
        assert relative_error(logits, expected) < 1e-4, name
        assert np.std(expected, axis=0).mean() > 0.01 * np.std(expected), "pictures hardly matter here"
        if name in PARAMETERS:
            assert tuple(theirs[f"{name}/parameters"]) == PARAMETERS[name]


def training_data(case: Case) -> tuple[nnx.Module, np.ndarray, np.ndarray]:
    """A model with random numbers, and pictures and targets of each step."""
    rng = np.random.default_rng(1)
    shape = (case.size, case.size, 3)
    images = random_pictures(rng, STEPS, BATCH_SIZE, *shape)
    segments = case.name == "segmenter"
    target = rng.integers(0, max(case.outputs, 2), images.shape[:-1] if segments else images.shape[:2])
    model = random_model(case.name, shape, case.outputs, 2, **case.options)
    return model, images, target.astype(np.uint8 if segments else np.int32)


def keras_training(cases: tuple[Case, ...]) -> dict[str, np.ndarray]:
    given = {}
    for case in cases:
        model, images, target = training_data(case)
        given |= {f"{case.name}/images": images, f"{case.name}/target": target}
        given |= values(model, f"{case.name}/weights")
    return keras("modern", "train", *(part for case in cases for part in (case.name, case.keras())), **given)


@pytest.fixture(scope="module")
def narrow():
    return keras_training(NARROW)


@pytest.fixture(scope="module")
def wide():
    return keras_training(WIDE)


@pytest.mark.parametrize(
    ("case", "reference"),
    [
        *(pytest.param(case, "narrow", id=f"{case.name}-narrow") for case in NARROW),
        *(pytest.param(case, "wide", id=case.name, marks=pytest.mark.slow) for case in WIDE),
    ],
)
def test_each_training_step_from_the_same_state_equals_keras(case, reference, request):
    """Loss, gradients, RMSprop slots, weights, and the statistics of BatchNorm."""
    theirs = below(request.getfixturevalue(reference), case.name)
    model, images, target = training_data(case)
    run = Run(task="segmentation" if target.ndim > 2 else "classification", model=Model(case.name), phases=(Phase(),))
    task = make_task(run, max(case.outputs, 2))
    optimizer, _ = make_optimizer(run.phases[0], STEPS)
    graph, fresh = init_state(model, optimizer, task)
    gradients, train_step = make_gradients(graph, task, run), make_train_step(graph, task, optimizer, run, 2)
    # In one program, so that it is compiled once.
    both = jax.jit(lambda state, batch: (gradients(state, batch, jax.random.key(0))[1], train_step(state, batch)))

    def with_arrays(params, rest, prefix):
        """The two states of variables with the reference's arrays."""
        model = nnx.merge(graph, *jax.tree.map(jnp.copy, (params, rest)))
        given = below(theirs, prefix)
        for key, tensor in numbered(model).items():
            if key in given:
                tensor.variable.set_value(jnp.asarray(given[key].reshape(tensor.variable.shape)))
        _, params, rest = nnx.split(model, nnx.Param, ...)
        return params, rest

    def largest_error(params, rest, prefix, without=None):
        """Over the tensors; of what is added to `without`, whose own values would hide a wrong update."""
        wanted, start = below(theirs, prefix), below(theirs, without) if without else {}
        found = numbered(nnx.merge(graph, params, rest))
        return max(
            relative_error(found[key].values() - start.get(key, 0.0), value - start.get(key, 0.0))
            for key, value in wanted.items()
        )

    errors = []
    for step in range(STEPS):
        (rms, *others), now, then = fresh.optimizer, f"weights/{step}", f"weights/{step + 1}"
        params, rest = with_arrays(fresh.params, fresh.rest, now)
        slots, _ = with_arrays(rms.nu, fresh.rest, f"slot/{step}")
        before = fresh._replace(params=params, rest=rest, optimizer=(rms._replace(nu=slots), *others))
        batch = Batch(images[step], target[step], np.ones(BATCH_SIZE, bool))
        grads, (after, loss) = both(before, batch)
        assert float(loss) == pytest.approx(theirs["loss"][step], rel=1e-4)
        errors.append(
            {
                "gradient": largest_error(grads, rest, f"gradient/{step}"),
                "RMSprop slot": largest_error(after.optimizer[0].nu, rest, f"slot/{step + 1}"),
                "weights": largest_error(after.params, after.rest, then),
                # RMSprop divides by the gradient's size, so small gradients weigh as much as large ones here.
                "update / 10": largest_error(after.params, after.rest, then, now) / 10,
            }
        )
    assert_most_steps_agree([max(error.values()) for error in errors], exact=case.exact)


@pytest.mark.slow
def test_weights_go_to_keras_and_back_bit_for_bit(tmp_path):
    """Every format that Keras writes, of models in which no layer has a name; and ours after that."""
    theirs = keras("modern", "write", tmp_path, *PARAMETERS)
    for name in PARAMETERS:
        size, outputs = next((case.size, case.outputs) for case in LOGITS if case.name == name)
        for suffix in (".weights.h5", ".keras", ".h5"):
            model = abstract_model(name, (size, size, 3), outputs)
            load_keras_weights(model, tmp_path / f"{name}{suffix}")
            for key, array in values(model, name).items():
                np.testing.assert_array_equal(array, theirs[key], err_msg=f"{key} of {suffix}")
        # The file alone tells the number of outputs, also where the last layer is a convolution.
        assert model_with_file(name, tmp_path / f"{name}.weights.h5").num_outputs == outputs
        export_keras(nnx.merge(*nnx.split(model)), tmp_path / f"ours-{name}.weights.h5")
    back = keras("modern", "read", *(f"{name}={tmp_path}/ours-{name}.weights.h5" for name in PARAMETERS))
    assert back.keys() == theirs.keys()
    for key, array in theirs.items():
        np.testing.assert_array_equal(back[key], array, err_msg=key)
