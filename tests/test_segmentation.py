"""Segmentation as a task: losses, and metrics from one confusion matrix, against scikit-learn and closed forms."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import metrics as sklearn_metrics

from jaxvision.config import Loss, Run
from jaxvision.errors import ConfigError, DataError
from jaxvision.train.losses import soft_dice_loss
from jaxvision.train.task import make_task
from jaxvision.types import IGNORE, Batch

RUN = Run(task="segmentation")
NAMES = ("sky", "road", "car", "nowhere")


def a_batch(size=5, classes=3, ignored=0.2) -> tuple[jax.Array, Batch]:
    """Logits for four classes, and masks of three with ignored pixels; the last two rows only pad."""
    rng = np.random.default_rng(0)
    masks = rng.integers(0, classes, (size, 8, 6)).astype(np.uint8)
    masks[rng.random(masks.shape) < ignored] = IGNORE
    logits = rng.normal(size=(size, 8, 6, 4)).astype(np.float32) * 2
    logits[..., 3] = -9  # never predicted
    return jnp.asarray(logits), Batch(np.zeros((size, 8, 6, 3), np.uint8), masks, np.arange(size) < size - 2)


def counted(logits, batch) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted classes of the pixels that count."""
    keep = (batch.target != IGNORE) & batch.valid[:, None, None]
    return batch.target[keep], np.argmax(logits, -1)[keep]


def measured(task, logits, batch, at_once=5) -> dict[str, float]:
    totals = task.zero()
    for start in range(0, len(batch.valid), at_once):
        part = jax.tree.map(lambda x: x[start : start + at_once], batch)  # noqa: B023
        piece = logits[start : start + at_once]
        totals = jax.jit(task.add)(totals, piece, part, task.loss(piece, part.target))
    return task.compute(totals)


@pytest.mark.parametrize("at_once", [5, 2])
def test_metrics_are_those_of_scikit_learn(at_once):
    logits, batch = a_batch()
    true, predicted = counted(logits, batch)
    values = measured(make_task(RUN, 4, NAMES), logits, batch, at_once)
    iou = sklearn_metrics.jaccard_score(true, predicted, labels=[0, 1, 2], average=None)
    assert values["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(true, predicted))
    assert [values[f"iou/{name}"] for name in NAMES[:3]] == pytest.approx(iou)
    assert values["mean_iou"] == pytest.approx(iou.mean())
    assert values["dice"] == pytest.approx(sklearn_metrics.f1_score(true, predicted, average="macro"))
    assert "iou/nowhere" not in values, "a class that is nowhere has no IoU, and does not pull the mean down"


def test_the_matrix_counts_past_32_bits():
    task = make_task(RUN, 4, NAMES)
    near = task.zero()
    near = near._replace(weight=jnp.ones(()), counts=near.counts.at[0, 0, 0].set(2**32 - 10))
    logits = jnp.zeros((1, 8, 6, 4)).at[..., 0].set(1.0)
    batch = Batch(np.zeros((1, 8, 6, 3), np.uint8), np.zeros((1, 8, 6), np.uint8), np.ones(1, bool))
    batch.target[0, 0, 0] = 1  # one of 48 wrong
    values = task.compute(task.add(near, logits, batch, jnp.zeros(1)))
    assert values["iou/sky"] == pytest.approx((2**32 - 10 + 47) / (2**32 - 10 + 48), rel=1e-12)


def test_the_loss_is_the_mean_over_all_pixels_that_count():
    logits, batch = a_batch()
    for class_weights in ((), (1.0, 2.0, 0.5, 1.0)):
        task = make_task(replace(RUN, loss=Loss(class_weights=class_weights)), 4, NAMES)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, np.minimum(batch.target, 3))
        weight = np.asarray([*(class_weights or (1,) * 4), *(0,) * 252], np.float32)[batch.target]
        weight = weight * batch.valid[:, None, None]
        assert measured(task, logits, batch, 2)["loss"] == pytest.approx(
            float((each * weight).sum() / weight.sum()), rel=1e-5
        )


def test_ignored_pixels_have_no_gradient():
    logits, batch = a_batch()
    task = make_task(replace(RUN, loss=Loss(dice=1.0, label_smoothing=0.1)), 4, NAMES)
    gradient = np.asarray(jax.grad(lambda z: jnp.sum(task.loss(z, batch.target)))(logits))
    ignored = batch.target == IGNORE
    assert not gradient[ignored].any()
    assert (np.abs(gradient[~ignored]).max(-1) > 0).all()


def test_soft_dice_has_its_closed_form():
    mask = jnp.asarray([[[0, 0], [1, IGNORE]]], jnp.uint8)
    sure = 50 * jax.nn.one_hot(jnp.asarray([[[0, 1], [1, 0]]]), 3)  # pixel (0, 1) is wrong
    # Class 0: one of true 2 and predicted 1; class 1: one of 1 and 2; class 2 is in neither.
    want = 1 - np.mean([(2 * 1 + 1) / (1 + 2 + 1), (2 * 1 + 1) / (2 + 1 + 1), 1])
    np.testing.assert_allclose(soft_dice_loss(sure, mask), [want], rtol=1e-5)


def test_masks_of_nothing_that_counts_are_refused():
    logits, batch = a_batch(ignored=2.0)
    task = make_task(RUN, 4, NAMES)
    assert np.isfinite(task.loss(logits, batch.target)).all()
    with pytest.raises(DataError, match="ignore_label"):
        measured(task, logits, batch)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (replace(RUN, loss=Loss(class_weights=(1.0, 2.0))), "each of the 4 classes"),
        (replace(RUN, loss=Loss(two_logits=True)), "option of classification"),
        (Run(loss=Loss(dice=1.0)), "loss of segmentation"),
    ],
)
def test_options_of_another_task_are_refused(run, said):
    with pytest.raises(ConfigError, match=said):
        make_task(run, 4)
