"""Optimizers against Keras', schedules against their formulas."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from keras_reference import run as keras

from jaxvision.config import Optimizer, Phase, Schedule
from jaxvision.train.optimizer import make_optimizer

OPTIMIZERS = {
    "rmsprop": Optimizer("rmsprop", 0.01),
    "rmsprop_momentum": Optimizer("rmsprop", 0.01, momentum=0.9),
    "sgd": Optimizer("sgd", 0.01),
    "sgd_momentum": Optimizer("sgd", 0.01, momentum=0.9),
    "sgd_nesterov": Optimizer("sgd", 0.01, momentum=0.9, nesterov=True),
    "adam": Optimizer("adam", 0.01),
    "adamw": Optimizer("adamw", 0.01, weight_decay=0.1),
    "clipped": Optimizer("sgd", 0.01, clip_norm=0.5),
}


@pytest.fixture(scope="module")
def gradients() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def theirs(gradients) -> dict[str, np.ndarray]:
    return keras("optimizers", weight=np.ones((3, 4), np.float32), gradients=gradients)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_equal_keras(name, gradients, theirs):
    optimizer, _ = make_optimizer(Phase(optimizer=OPTIMIZERS[name]), steps_per_epoch=10)
    weight = jnp.ones((3, 4))
    state = optimizer.init(weight)
    for gradient, expected in zip(gradients, theirs[name], strict=True):
        updates, state = optimizer.update(jnp.asarray(gradient), state, weight)
        weight = optax.apply_updates(weight, updates)
        np.testing.assert_allclose(weight, expected, rtol=2e-5)


def test_decay_spares_biases():
    optimizer, _ = make_optimizer(Phase(optimizer=Optimizer("sgd", 0.1, weight_decay=0.5)), steps_per_epoch=1)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones((2,))}
    zeros = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros((2,))}
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], np.full((2, 2), -0.05), rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], np.zeros(2))


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(), {0: 1.0, 99: 1.0}),
        (Schedule("cosine"), {0: 1.0, 50: 0.5, 100: 0.0}),
        (Schedule("cosine", warmup_epochs=2, final_scale=0.1), {0: 0.0, 10: 0.5, 20: 1.0, 60: 0.55, 100: 0.1}),
        (Schedule("linear", final_scale=0.5), {0: 1.0, 50: 0.75, 100: 0.5}),
        (Schedule("step", step_epochs=(5, 8)), {0: 1.0, 49: 1.0, 51: 0.1, 79: 0.1, 81: 0.01}),
        (Schedule("step", step_epochs=(5,), warmup_epochs=1), {5: 0.5, 49: 1.0, 51: 0.1}),
    ],
)
def test_learning_rate_over_ten_epochs_of_ten_steps(schedule, expected):
    phase = Phase(epochs=10, optimizer=Optimizer("sgd", 2.0), schedule=schedule)
    _, learning_rate = make_optimizer(phase, steps_per_epoch=10)
    for step, share in expected.items():
        assert float(learning_rate(step)) == pytest.approx(2.0 * share, abs=1e-6), f"step {step}"
