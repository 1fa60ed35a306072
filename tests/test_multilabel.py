"""Multi-label classification as a task, against scikit-learn and closed forms."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from jaxvision.config import Loss, Run
from jaxvision.train.ranking import bin_of
from jaxvision.train.task import make_task
from jaxvision.types import Batch

RUN = Run(task="multilabel")
NAMES = ("beach", "people", "boat", "snow")


def a_batch(size=200) -> tuple[jax.Array, Batch]:
    """Logits that know something of the labels; the last class is nowhere, the last 20 rows only pad."""
    rng = np.random.default_rng(0)
    target = (rng.random((size, 4)) < [0.5, 0.2, 0.05, 0]).astype(np.float32)
    logits = (rng.normal(size=(size, 4)) + 2 * target - 1).astype(np.float32)
    logits[:, 3] = -1
    return jnp.asarray(logits), Batch(np.zeros((size, 2, 2, 1), np.uint8), target, np.arange(size) < size - 20)


def test_metrics_are_those_of_scikit_learn():
    logits, batch = a_batch()
    task, totals = make_task(RUN, 4, NAMES), None
    for rows in (slice(0, 70), slice(70, 200)):
        part = jax.tree.map(lambda x: x[rows], batch)  # noqa: B023
        totals = jax.jit(task.add)(totals or task.zero(), logits[rows], part, task.loss(logits[rows], part.target))
    values = task.compute(totals)
    true = batch.target[batch.valid]
    scores = np.ceil(np.asarray(logits) * 2048)[batch.valid]
    average = sklearn_metrics.average_precision_score(true[:, :3], scores[:, :3], average=None)
    f1 = sklearn_metrics.f1_score(true, np.asarray(logits)[batch.valid] > 0, average=None, zero_division=np.nan)
    assert [values[f"average_precision/{name}"] for name in NAMES[:3]] == pytest.approx(average)
    assert values["average_precision"] == pytest.approx(average.mean())
    assert [values[f"f1/{name}"] for name in NAMES[:3]] == pytest.approx(f1[:3])
    assert values["f1"] == pytest.approx(f1[:3].mean())
    assert not {"average_precision/snow", "f1/snow"} & set(values)


@pytest.mark.parametrize(("spread", "centre"), [(1.0, 0.0), (0.05, 2.0), (0.02, -3.0)])
def test_rounding_hardly_moves_average_precision(spread, centre):
    """Also where all logits lie close together, as early in training."""
    logits, batch = a_batch(20_000)
    logits = logits * spread + centre
    task = make_task(RUN, 4, NAMES)
    values = task.compute(task.add(task.zero(), logits, batch, jnp.zeros(20_000)))
    exact = sklearn_metrics.average_precision_score(batch.target[batch.valid][:, :3], logits[batch.valid][:, :3])
    assert values["average_precision"] == pytest.approx(exact, abs=2e-3)


def test_bins_are_in_the_order_of_logits():
    logits = jnp.asarray([-15.0, -1.0, -0.001, 0.0, 1e-30, 0.5, 1.0, 1.001, 15.0])
    assert (np.diff(bin_of(logits)) > 0).all()
    assert bin_of(jnp.zeros(())) == 2**15, "a probability of one half is not over one half"
    np.testing.assert_array_equal(bin_of(jnp.asarray([-jnp.inf, -99.0, 99.0, jnp.inf])), [0, 0, 2**16 - 1, 2**16 - 1])


def test_the_loss_is_the_weighted_mean_over_classes():
    logits, batch = a_batch(6)
    task = make_task(replace(RUN, loss=Loss(class_weights=(1.0, 3.0, 0.0, 0.0), label_smoothing=0.2)), 4, NAMES)
    p = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    q = 0.8 * batch.target + 0.1
    each = -(q * np.log(p) + (1 - q) * np.log(1 - p))
    np.testing.assert_allclose(task.loss(logits, batch.target), (each[:, 0] + 3 * each[:, 1]) / 4, rtol=1e-5)
    assert task.num_outputs == 4


def test_two_labels_are_two_logits():
    assert make_task(RUN, 2).num_outputs == 2
