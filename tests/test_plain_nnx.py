"""Models of plain Flax NNX layers, as people write them for `model.train()` and `model.eval()`."""

import signal
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxvision as jv
from jaxvision import nn
from jaxvision.errors import ConfigError, DataError, StoppedError
from jaxvision.explain.gradcam import gradcam
from jaxvision.export.program import as_function
from jaxvision.models import abstract_model, create_model, summarize
from jaxvision.nn.mode import call_model
from jaxvision.train.freeze import select
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.pace import Pace
from jaxvision.train.prepared import described, prepare
from jaxvision.train.ready import ready_model
from jaxvision.train.state import init_state
from jaxvision.train.step import make_train_step
from jaxvision.train.task import make_task
from jaxvision.types import Batch

pytestmark = pytest.mark.usefixtures("kept_programs")

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (64, 8, 8, 1)).astype(np.uint8)
LABELS = RNG.integers(0, 3, 64).astype(np.int32)
DATA = {"train": (IMAGES[:40], LABELS[:40]), "validation": (IMAGES[40:], LABELS[40:])}


def pixels(images):
    return jnp.asarray(images, jnp.float32) / 255


class NextBlock(nnx.Module):
    """A block of ConvNeXt (Liu et al. 2022), with layer scale and stochastic depth."""

    def __init__(self, width, *, rngs):
        self.depthwise = nnx.Conv(width, width, (3, 3), feature_group_count=width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.widen, self.narrow = nnx.Linear(width, 2 * width, rngs=rngs), nnx.Linear(2 * width, width, rngs=rngs)
        self.gamma = nnx.Param(jnp.full((width,), 1e-6))  # weakly typed
        self.depth = nnx.Dropout(0.5, broadcast_dims=(1, 2, 3), rngs=rngs)

    def __call__(self, x):
        y = self.narrow(nnx.gelu(self.widen(self.norm(self.depthwise(x)))))
        return x + self.depth(y * self.gamma[...].reshape(1, 1, 1, -1))


class Next(nnx.Module):
    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        self.stem = nnx.Conv(input_shape[-1], 4, (2, 2), strides=(2, 2), rngs=rngs)
        self.position = nnx.Param(0.02 * rngs.normal((1, input_shape[0] // 2, input_shape[1] // 2, 4)))
        self.blocks = nnx.List([NextBlock(4, rngs=rngs) for _ in range(2)])
        self.drop, self.out = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(4, num_classes, rngs=rngs)

    def __call__(self, images):
        x = self.stem(pixels(images))
        x = x + jnp.broadcast_to(self.position[...], x.shape)
        for block in self.blocks:
            x = block(x)
        return self.out(self.drop(x.mean((1, 2))))


class ResBlock(nnx.Module):
    def __init__(self, width, *, rngs):
        self.conv, self.norm = nnx.Conv(width, width, (3, 3), rngs=rngs), nnx.BatchNorm(width, momentum=0.5, rngs=rngs)
        self.drop = nnx.Dropout(0.5)

    def __call__(self, x, *, rngs=None):
        return x + self.drop(nnx.relu(self.norm(self.conv(x))), rngs=rngs)


class Res(nnx.Module):
    """A small ResNet, whose dropout is given its random numbers at the call."""

    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        self.stem, self.norm = nnx.Conv(input_shape[-1], 4, (3, 3), rngs=rngs), nnx.BatchNorm(4, rngs=rngs)
        self.block, self.out = ResBlock(4, rngs=rngs), nnx.Linear(4, num_classes, rngs=rngs)

    def __call__(self, images, *, rngs=None):
        return self.out(self.block(self.norm(self.stem(pixels(images))), rngs=rngs).mean((1, 2)))


class Small(nnx.Module):
    """What follows differs from this in `more`, `middle` or its call."""

    def __init__(self, input_shape, num_classes, *, dtype=jnp.float32, rngs):
        self.stem, self.out = nnx.Linear(64, 4, rngs=rngs), nnx.Linear(4, num_classes, rngs=rngs)
        self.more(rngs)

    def more(self, rngs): ...

    def middle(self, x):
        return x

    def __call__(self, images):
        return self.out(self.middle(self.stem(pixels(images).reshape(len(images), -1))))


def run_of(model, **fields) -> jv.Run:
    run = jv.Run(name="plain", data=jv.Data(batch_size=16), model=jv.Model(f"{__name__}:{model.__name__}"))
    return replace(run, **{"phases": (jv.Phase(2),), "log": jv.Log(tensorboard=False), **fields})


def made(model, seed=0):
    return create_model(f"{__name__}:{model.__name__}", (8, 8, 1), 3, seed)


def opened(model, **fields):
    """Everything that is checked before a run folder is made."""
    return prepare([described(run_of(model, **fields), DATA)], DATA, progress=False)


def in_training(model, key=0):
    """What a step's forward pass gives, and the variables after it."""
    graph, state = nnx.split(model)
    merged = nnx.merge(graph, state, copy=True)
    return np.asarray(call_model(merged, IMAGES[:8], True, nnx.Rngs(dropout=key))), nnx.state(merged)


@pytest.mark.parametrize("model", [Next, Res])
def test_a_run_is_evaluated_in_evaluation_mode_and_can_be_used(model, tmp_path):
    result = jv.fit(run_of(model), run_dir=tmp_path / "run", data=DATA, progress=False)
    restored = jv.restore_best(result.run_dir).model
    restored.train()  # a user's doing; the next line undoes it
    restored.eval()
    logits = np.asarray(restored(IMAGES))
    by_four = np.concatenate([restored(IMAGES[first : first + 4]) for first in range(0, 64, 4)])
    np.testing.assert_allclose(logits, by_four, atol=1e-5)
    expected = np.mean(logits[40:].argmax(-1) == LABELS[40:])
    assert result.validation["accuracy"] == pytest.approx(expected)
    assert jv.evaluate(result.run_dir, data=DATA["validation"])["accuracy"] == pytest.approx(expected)
    assert jv.restore_best(result.run_dir).model(IMAGES[:4]) == pytest.approx(logits[:4], abs=1e-5)
    ready = ready_model(result.run_dir)
    ready.model.train()
    function, parameters = as_function(ready)
    np.testing.assert_allclose(function(parameters, IMAGES)["logits"], logits, atol=1e-5)
    heat = gradcam(ready.model, IMAGES[:2], layer="stem")
    np.testing.assert_array_equal(heat.classes, logits[:2].argmax(-1))
    if model is Res:
        assert not np.allclose(restored.norm.mean[...], 0)


@pytest.mark.parametrize("model", [Next, Res])
def test_training_draws_what_its_key_says_and_keeps_no_random_state(model):
    plain = made(model)
    if model is Next:
        plain.blocks[0].gamma[...] = jnp.ones(4)
    before = nnx.state(plain, nnx.RngState)
    first, after = in_training(plain)
    assert np.array_equal(first, in_training(plain)[0])
    assert not np.allclose(first, in_training(plain, key=1)[0])
    assert not np.allclose(first, plain(IMAGES[:8]))
    kept = nnx.filter_state(after, nnx.RngState)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), before, kept))


class ByAttribute(nnx.Module):
    """A block that heeds an attribute of its own."""

    def __init__(self, rngs):
        self.dense, self.drop = nnx.Linear(4, 4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.training = True

    def __call__(self, x):
        return self.drop(self.dense(x), deterministic=not self.training)


class ByArgument(nnx.Module):
    """A block that is called with `train`, and calls its layers with what follows from it."""

    def __init__(self, rngs):
        self.dense, self.norm, self.drop = nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5)

    def __call__(self, x, train, *, rngs=None):
        x = self.norm(self.dense(x), use_running_average=not train)
        return self.drop(x, deterministic=not train, rngs=rngs)


class Attribute(Small):
    def more(self, rngs):
        self.block = ByAttribute(rngs)

    def middle(self, x):
        return self.block(x)


class Argument(Small):
    def more(self, rngs):
        self.block = ByArgument(rngs)

    def __call__(self, images, training=False, *, rngs=None):
        return self.out(self.block(self.stem(pixels(images).reshape(len(images), -1)), training, rngs=rngs))


class Plain(Small):
    def more(self, rngs):
        layers = [nnx.Linear(4, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)]
        self.block = nnx.Sequential(*layers)

    def middle(self, x):
        return self.block(x)


class Mixed(Small):
    """Layers of this package and of Flax in one chain, called by a plain module."""

    def more(self, rngs):
        self.block = nn.Chain(
            dense=nnx.Linear(4, 4, rngs=rngs),
            norm=nnx.BatchNorm(4, rngs=rngs),
            drop=nnx.Dropout(0.5),
            own=nn.Dropout(0.5),
        )

    def __call__(self, images, train=False, *, rngs=None):
        return self.out(self.block(self.stem(pixels(images).reshape(len(images), -1)), train, rngs=rngs))


@pytest.mark.parametrize("model", [Attribute, Argument, Plain, Mixed])
def test_a_frozen_block_neither_drops_nor_moves_statistics(model):
    plain = made(model)
    evaluated = np.asarray(call_model(plain, IMAGES[:8]))
    assert not np.allclose(in_training(plain)[0], evaluated)
    frozen = select(plain, jv.Phase(trainable=("out",)))
    frozen.apply(plain)
    logits, after = in_training(plain)
    np.testing.assert_allclose(logits, evaluated, atol=1e-6)
    before = nnx.state(plain, nnx.BatchStat)
    assert jax.tree.all(jax.tree.map(np.array_equal, before, nnx.filter_state(after, nnx.BatchStat)))
    select(plain, jv.Phase()).apply(plain)
    assert not np.allclose(in_training(plain)[0], evaluated)


def test_a_stopped_run_of_stored_streams_ends_as_if_it_had_not(tmp_path, monkeypatch):
    run = run_of(Next, accumulate=2, ema_decay=0.9, phases=(jv.Phase(1), jv.Phase(2)))
    whole = jv.fit(run, run_dir=tmp_path / "whole", data=DATA, progress=False)
    steps, count = 0, Pace.step

    def stopping(self, *args, **kwargs):
        nonlocal steps
        steps += 1
        if steps == 4:
            signal.raise_signal(signal.SIGTERM)
        return count(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Pace, "step", stopping)
        with pytest.raises(StoppedError):
            jv.fit(run, run_dir=tmp_path / "cut", data=DATA, progress=False)
    resumed = jv.fit(run, run_dir=tmp_path / "cut", data=DATA, progress=False, resume=True)
    assert (tmp_path / "cut/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()
    one, other = (nnx.state(jv.restore_best(result.run_dir).model, nnx.Param) for result in (whole, resumed))
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), one, other))


class Noted(Small):
    """What would change the state's form in a step: notes of `sow`, weak types, plain numbers, a value cast."""

    def more(self, rngs):
        self.scale, self.number = nnx.Param(jnp.full((4,), 1e-6)), nnx.Param(1.0)
        self.table, self.moved = np.ones(4), nnx.BatchStat(jnp.zeros((4,)))
        self.deterministic = False
        self.normed = nnx.SpectralNorm(nnx.Linear(4, 4, rngs=rngs), rngs=rngs)

    def middle(self, x):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.sow(nnx.Intermediate, "seen", x)
        if not self.deterministic:
            self.moved[...] = x.mean(0)
            self.moved.set_value(self.moved[...].astype(jnp.bfloat16))
        x = self.normed(x) * self.number[...].reshape(1, 1)
        return x + x * (self.scale[...] * jnp.asarray(self.table)).reshape(1, -1)


def test_a_step_is_compiled_once_and_keeps_the_states_form():
    model = made(Noted)
    run = run_of(Noted)
    task = make_task(run, 3)
    optimizer, _ = make_optimizer(run.phases[0], 4)
    graph, state = init_state(model, optimizer, task)
    step = make_train_step(graph, task, optimizer, run, 3)
    batch = Batch(IMAGES[:16], LABELS[:16], np.ones(16, bool))
    shape = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state)
    for _ in range(3):
        state, _ = step(state, batch)
    assert step._cache_size() == 1
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), state) == shape
    assert not np.allclose(state.rest["moved"][...], 0)


def test_summary_lists_variables_that_a_block_holds_itself():
    summary = summarize(abstract_model(f"{__name__}:Next", (8, 8, 1), 3), (8, 8, 1))
    rows = {row.path: row for row in summary.layers}
    assert rows["blocks/0/gamma"].kind == "Param"
    assert rows["blocks/1/gamma"].output_shape == (4,)
    assert rows["position"].trainable == 4 * 4 * 4
    assert sum(row.trainable + row.frozen for row in summary.layers) == summary.total_params
    assert "(1, 4, 4, 4)" in str(summary)


class Untold(Small):
    def __call__(self, images, mask):
        return super().__call__(images)


class ByText(Small):
    def __call__(self, images, mode="train"):
        return super().__call__(images)


class Pair(Small):
    def __call__(self, images):
        return super().__call__(images), images


class Whole(Small):
    def __call__(self, images):
        return super().__call__(images).astype(jnp.int32)


class Flat(Small):
    def __call__(self, images):
        return super().__call__(images)[:1]


class Wrong(Small):
    def middle(self, x):
        return x @ jnp.ones((5, 4))


class Unseeded(Small):
    """Fails in training alone."""

    def more(self, rngs):
        self.drop = nnx.Dropout(0.5)

    def middle(self, x):
        return self.drop(x)


class Lazy(Small):
    def middle(self, x):
        if not hasattr(self, "late"):
            self.late = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
        return self.late(x)


class Listed(Small):
    def more(self, rngs):
        self.layers = [nnx.Linear(4, 4, rngs=rngs)]


class Counted(Small):
    def more(self, rngs):
        self.count = nnx.Param(jnp.zeros((4,), jnp.int32))


class Unmade(nnx.Module):
    def __init__(self, rngs, *, dtype): ...

    def __call__(self, images):
        return images


class Uncalled(nnx.Module):
    def __init__(self, input_shape, num_classes, *, dtype, rngs): ...


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (Untold, "for mask"),
        (ByText, "for mode"),
        (Pair, "gives a tuple"),
        (Whole, "gives int32"),
        (Flat, r"\(16, 3\) for 16"),
        (Wrong, r"raised TypeError .* in evaluation at .*test_plain_nnx.py, line \d+: return x @"),
        (Unseeded, "raised ValueError .* 16 images, in training at .*test_plain_nnx.py"),
        (Lazy, "late/.* is created when the model is called"),
        (Listed, "raised ValueError when it was created"),
        (Counted, "Hold count in an nnx.Variable"),
        (Unmade, "a model is made by"),
        (Uncalled, "__call__"),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_before_a_folder_is_made(model, said, tmp_path):
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        jv.fit(run_of(model), run_dir=tmp_path / "run", data=DATA, progress=False)
    assert list(tmp_path.iterdir()) == []


class Probable(Small):
    def __call__(self, images):
        return nnx.softmax(super().__call__(images))


class Clipped(Small):
    def __call__(self, images):
        return jnp.clip(nnx.sigmoid(super().__call__(images)), 1e-7, 1.0)


class Drawing(Small):
    def more(self, rngs):
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def middle(self, x):
        return self.drop(x, deterministic=False)


class Half(Small):
    def more(self, rngs):
        self.half = nnx.Param(jnp.ones((4,), jnp.bfloat16))


class Recomputed(Plain):
    """Nothing to warn of: `nnx.remat` hands the statistics on."""

    @nnx.remat
    def middle(self, x):
        return self.block(x)


@pytest.mark.parametrize(
    ("model", "fields", "said"),
    [
        (Probable, {}, "ends with a softmax"),
        (Clipped, {}, "ends with a sigmoid"),
        (Drawing, {}, "changes drop/rngs/count"),
        (Half, {}, "half of bfloat16"),
        (Small, {"precision": "bfloat16"}, "computes nothing in bfloat16"),
        (Recomputed, {}, None),
        (Recomputed, {"phases": (jv.Phase(1, trainable=("out",)),)}, None),
        (Next, {}, None),
        (Res, {}, None),
    ],
)
def test_what_looks_wrong_of_a_model_is_warned_of(model, fields, said):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        opened(model, **fields)
    ours = [str(each.message) for each in seen if str(each.message).startswith(("model", "precision"))]
    assert len(ours) == (said is not None), ours
    assert said is None or said in ours[0]


def test_what_is_no_file_or_no_array_is_one_message():
    with pytest.raises(ConfigError, match=r"paths of image files.* an array \(3, 8\)"):
        jv.predict("run", np.zeros((3, 8)))
    with pytest.raises(DataError, match=r"labels must all have one shape.*\(1,\), \(2,\)"):
        jv.fit(run_of(Small), data={"train": (IMAGES[:2], [[0], [0, 1]])}, progress=False)
