"""Losses, metrics and the training step: closed forms and properties."""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxvision.config import Augment, Data, Loss, Model, Optimizer, Phase, Run
from jaxvision.models import create_model
from jaxvision.models.classifier import Classifier
from jaxvision.nn import BatchNorm, Chain, Dense, Flatten, Rescaling
from jaxvision.train.dispatch import stretch_lengths
from jaxvision.train.losses import sigmoid_cross_entropy, softmax_cross_entropy
from jaxvision.train.metrics import class_probabilities, predicted_class
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.state import init_state
from jaxvision.train.step import make_eval_step, make_train_step, make_train_stretch
from jaxvision.train.task import make_task
from jaxvision.types import Batch, Stretch

RUN = Run(model=Model("dense-mnist", {"features": (8,)}), phases=(Phase(optimizer=Optimizer("sgd", 0.1)),))


def a_batch(size=6, num_classes=3) -> Batch:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size, 8, 8, 1)).astype(np.uint8)
    return Batch(images, rng.integers(0, num_classes, size).astype(np.int32), np.ones(size, bool))


def build(run: Run, num_classes=3):
    task = make_task(run, num_classes)
    options = run.model.options
    model = create_model(run.model.name, (8, 8, 1), task.num_outputs, dtype=jnp.dtype(run.precision), **options)
    optimizer, _ = make_optimizer(run.phases[0], 10)
    graph, state = init_state(model, optimizer, task, seed=run.seed, ema=run.ema_decay is not None)
    return make_train_step(graph, task, optimizer, run, num_classes), make_eval_step(graph, task), state


def after_steps(run: Run, batch: Batch, steps=3):
    train_step, _, state = build(run)
    for _ in range(steps):
        state, loss = train_step(state, batch)
    return state, loss


def same(one, other, **tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), **tolerance)


def test_cross_entropies_have_their_closed_forms():
    logits = jnp.asarray([[2.0, -1.0, 0.5]])
    p = np.exp([2.0, -1.0, 0.5]) / np.exp([2.0, -1.0, 0.5]).sum()
    np.testing.assert_allclose(softmax_cross_entropy(logits, jnp.asarray([1])), [-np.log(p[1])], rtol=1e-6)
    smoothed = -(0.9 * np.log(p[1]) + 0.1 / 3 * np.log(p).sum())
    np.testing.assert_allclose(
        softmax_cross_entropy(logits, jnp.asarray([1]), label_smoothing=0.1), [smoothed], rtol=1e-6
    )
    soft = jnp.asarray([[0.2, 0.3, 0.5]])
    np.testing.assert_allclose(softmax_cross_entropy(logits, soft), [-(np.asarray(soft) * np.log(p)).sum()], rtol=1e-6)

    z, q = 1.5, 1 / (1 + np.exp(-1.5))
    one = jnp.asarray([[z]])
    np.testing.assert_allclose(sigmoid_cross_entropy(one, jnp.asarray([0])), [-np.log(1 - q)], rtol=1e-6)
    both = -(0.95 * np.log(1 - q) + 0.05 * np.log(q))
    np.testing.assert_allclose(sigmoid_cross_entropy(one, jnp.asarray([0]), label_smoothing=0.1), [both], rtol=1e-6)
    np.testing.assert_allclose(sigmoid_cross_entropy(one, jnp.asarray([[0.95, 0.05]])), [both], rtol=1e-6)


def test_one_logit_is_a_sigmoid_over_two_classes():
    logits = jnp.asarray([[2.0], [-1.0]])
    np.testing.assert_array_equal(predicted_class(logits), [1, 0])
    np.testing.assert_allclose(class_probabilities(logits)[:, 1], 1 / (1 + np.exp([-2.0, 1.0])), rtol=1e-6)
    assert make_task(RUN, 2).num_outputs == 1
    assert make_task(replace(RUN, loss=Loss(two_logits=True)), 2).num_outputs == 2


def test_padding_does_not_count():
    _train_step, eval_step, state = build(RUN)
    batch = a_batch()
    padded = jax.tree.map(lambda x: np.concatenate([x, np.zeros_like(x[:2])]), batch)
    task = make_task(RUN, 3)
    counted = [task.compute(eval_step(state.variables, task.zero(), b)) for b in (batch, padded)]
    assert counted[0] == pytest.approx(counted[1], rel=1e-6)
    same(after_steps(RUN, batch)[0].params, after_steps(RUN, padded)[0].params, rtol=1e-5, atol=1e-7)


def test_totals_over_batches_are_those_of_the_whole():
    _, eval_step, state = build(RUN)
    batch = a_batch()
    task = make_task(RUN, 3)
    whole = eval_step(state.variables, task.zero(), batch)
    parts = task.zero()
    for part in (jax.tree.map(lambda x: x[:4], batch), jax.tree.map(lambda x: x[4:], batch)):
        parts = eval_step(state.variables, parts, part)
    assert task.compute(whole) == pytest.approx(task.compute(parts), rel=1e-6)
    assert float(parts.weight) == 6


@pytest.mark.parametrize(("pieces", "size"), [(2, 8), (4, 8), (4, 6), (4, 5), (8, 1), (2, 3)])
def test_accumulation_gives_the_same_step(pieces, size):
    """Of whole batches, and of last ones that are shorter: 5 of 8 in 4 pieces are 2, 2 and 1."""
    run = replace(RUN, data=Data(batch_size=8))
    plain, plain_loss = after_steps(run, a_batch(size))
    split, split_loss = after_steps(replace(run, accumulate=pieces), a_batch(size))
    same(plain.params, split.params, rtol=1e-5, atol=1e-7)
    assert float(plain_loss) == pytest.approx(float(split_loss), rel=1e-5)
    assert float(split.totals.weight) == 3 * size


class NormedPixels(Classifier):
    """BatchNorm of the pixels themselves, so that its statistics are known."""

    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        base = Chain(norm=BatchNorm(1))
        head = Chain(flatten=Flatten(), logits=Dense(math.prod(input_shape), num_classes, rngs=rngs))
        super().__init__(preprocessing=Rescaling(), base=base, head=head)


NORMED = replace(RUN, model=Model(f"{__name__}:NormedPixels"), data=Data(batch_size=8))


@pytest.mark.parametrize(
    ("size", "pieces", "sizes"),
    [(8, 4, (2, 2, 2, 2)), (5, 4, (2, 2, 1)), (3, 4, (2, 1)), (1, 8, (1,)), (3, 2, (3,)), (8, 1, (8,)), (7, 1, (7,))],
)
def test_statistics_are_moved_by_each_piece_and_never_by_padding(size, pieces, sizes):
    batch = a_batch(size)
    state, _ = after_steps(replace(NORMED, accumulate=pieces), batch, steps=1)
    mean, var = 0.0, 1.0
    for piece in np.split(batch.inputs / 255, np.cumsum(sizes)[:-1]):
        mean, var = 0.99 * mean + 0.01 * piece.mean(), 0.99 * var + 0.01 * piece.var()
    norm = state.rest.base.norm
    assert (float(norm.mean[...][0]), float(norm.var[...][0])) == pytest.approx((mean, var), rel=1e-5)
    if len(sizes) == 1:  # one piece is the whole batch
        same(state.params, after_steps(NORMED, batch, steps=1)[0].params, rtol=1e-5, atol=1e-7)


def test_moving_average_follows_its_formula_and_leaves_training_alone():
    decay = 0.8
    run = replace(RUN, ema_decay=decay)
    train_step, _, state = build(run)
    plain_step, _, plain = build(RUN)
    average = jax.tree.map(np.asarray, state.params)
    for _ in range(3):
        state, _ = train_step(state, a_batch())
        plain, _ = plain_step(plain, a_batch())
        average = jax.tree.map(lambda a, p: decay * a + (1 - decay) * np.asarray(p), average, state.params)
    same(state.ema, average, rtol=1e-5)
    same(state.params, plain.params, rtol=0)


def test_randomness_is_a_function_of_seed_and_step():
    run = replace(
        RUN,
        model=Model("convnet-mnist", {"features": (4,), "dropout": 0.5}),
        augment=Augment(rotation=0.1, flip="both"),
    )
    one, again, other = (after_steps(replace(run, seed=seed), a_batch())[0] for seed in (0, 0, 1))
    same(one.params, again.params, rtol=0)
    assert not np.allclose(jax.tree.leaves(one.params)[0], jax.tree.leaves(other.params)[0])


def test_bfloat16_keeps_float32_parameters_and_loss():
    run = replace(RUN, precision="bfloat16")
    state, loss = after_steps(run, a_batch())
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.optimizer))} <= {np.dtype("f4"), np.dtype("i4")}
    assert loss.dtype == jnp.float32
    same(state.params, after_steps(RUN, a_batch())[0].params, atol=0.02)


def test_soft_targets_of_mixup_train_with_one_logit():
    run = replace(RUN, augment=Augment(mixup=0.4), model=Model("dense-mnist", {"features": (8,)}))
    train_step, _, state = build(run, num_classes=2)
    before = jax.tree.map(np.asarray, state.params)
    batch = a_batch(num_classes=2)
    for _ in range(20):
        state, loss = train_step(state, batch)
    assert np.isfinite(float(loss))
    assert not np.allclose(jax.tree.leaves(before)[1], jax.tree.leaves(state.params)[1])


def test_the_callers_model_is_left_alone():
    model = create_model("dense-mnist", (8, 8, 1), 3, features=(8,))
    kept = jax.tree.map(np.asarray, nnx.state(model))
    task, (optimizer, _) = make_task(RUN, 3), make_optimizer(RUN.phases[0], 10)
    graph, state = init_state(model, optimizer, task, ema=False)
    make_train_step(graph, task, optimizer, RUN, 3)(state, a_batch())
    same(nnx.state(model), kept, rtol=0)


def test_a_stretch_is_its_steps():
    run = replace(RUN, augment=Augment(flip="horizontal"), model=Model("dense-mnist", {"features": (8,)}))
    examples = a_batch(size=12)
    rows = np.asarray([[3, 1, 11], [0, 5, 2], [7, 7, 9]], np.int32)
    train_step, _, state = build(run)
    expected = []
    for row in rows:
        state, loss = train_step(state, Batch(examples.inputs[row], examples.target[row], np.ones(3, bool)))
        expected.append(loss)
    train_stretch = make_train_stretch(train_step)
    for cut in ([rows], [rows[:1], rows[1:]], [row[None] for row in rows]):
        _, _, begin = build(run)
        found = []
        for part in cut:
            begin, losses = train_stretch(begin, Stretch(examples.inputs, examples.target, part))
            found += losses.tolist()
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        same(begin._replace(key=()), state._replace(key=()), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("most", [1, 4, 9, 32])
def test_stretches_end_where_something_is_to_be_done(most):
    lengths = stretch_lengths(100, 137, most, lambda step: step % 10 == 5)
    ends = 100 + np.cumsum(lengths)
    assert ends[-1] == 137
    assert set(lengths) <= {1, most}
    assert {105, 115, 125, 135, 136} <= set(ends.tolist())
    assert len(lengths) == {1: 37, 4: 5 % 4 + 5 // 4 + 3 * (10 // 4 + 10 % 4) + 2, 9: 5 + 3 * 2 + 2, 32: 37}[most]
