"""Blocks that keep their input alone: the same step in less memory."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxvision as jv
from jaxvision.cli import main
from jaxvision.config import Data, Model, Optimizer, Phase, Run
from jaxvision.errors import ConfigError
from jaxvision.models import MODELS, abstract_model, create_model
from jaxvision.models.layers import layer_outputs
from jaxvision.nn import BatchNorm, Chain, Conv, Dropout, MaxPool, rematerialize
from jaxvision.train.deciding import FREE, differing_fields
from jaxvision.train.freeze import select
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.state import init_state
from jaxvision.train.step import make_train_step
from jaxvision.train.task import make_task
from jaxvision.types import Batch

pytestmark = pytest.mark.usefixtures("kept_programs")

SGD = Phase(optimizer=Optimizer("sgd", 0.01))
FINE_TUNING = replace(SGD, trainable=("head", "conv4_*", "conv5_*"), batch_norm="trained")
RUNS = {
    "convnet": Run(model=Model("convnet-mnist", {"features": (4, 8, 8), "dropout": 0.5}), phases=(SGD,), accumulate=2),
    "vgg": Run(model=Model("vgg16", {"convs": (2, 2, 1, 1, 1), "top": "average"}), phases=(SGD,)),
    "mini-xception": Run(model=Model("mini-xception", {"features": (8, 8, 16)}), phases=(SGD,), accumulate=2),
    "resnet": Run(model=Model("resnet50", {"blocks": (2, 1, 1, 1)}), phases=(FINE_TUNING,)),
    "segmenter": Run(task="segmentation", model=Model("segmenter", {"features": (8, 16)}), phases=(SGD,)),
}  # fmt: skip


def a_step(run: Run, size=32, count=4):
    """The compiled training step, its state, and a batch."""
    task = make_task(run, 3)
    how = {"dtype": jnp.dtype(run.precision), "conv": run.conv, "rematerialize": run.rematerialize}
    model = create_model(run.model.name, (size, size, 3), task.num_outputs, **how, **run.model.options)
    selection = select(model, run.phases[0])
    selection.apply(model)
    optimizer, _ = make_optimizer(run.phases[0], 10)
    graph, state = init_state(model, optimizer, task, trained=selection)
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    target = rng.integers(0, 3, inputs.shape[:3] if run.task == "segmentation" else count).astype(np.int32)
    batch = Batch(inputs, target, np.ones(count, bool))
    return make_train_step(graph, task, optimizer, run, 3).lower(state, batch).compile(), state, batch


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ("vgg", "mini-xception") else ()) for name in RUNS]
)
def test_the_step_is_the_same(name):
    ends = []
    for how in ("none", "blocks"):
        step, state, batch = a_step(replace(RUNS[name], rematerialize=how))
        before = jax.tree.map(np.asarray, state.params)
        for _ in range(2):
            state, loss = step(state, batch)
        moved = jax.tree.map(lambda new, old: np.asarray(new) - old, state.params, before)
        ends.append((float(loss), moved, jax.tree.map(np.asarray, state.rest)))
    (plain_loss, plain_moved, plain_rest), (loss, moved, rest) = ends
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    assert jax.tree.structure(moved) == jax.tree.structure(plain_moved)
    for one, other in zip(jax.tree.leaves(plain_moved), jax.tree.leaves(moved), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-4 * abs(one).max() + 1e-9)
    assert max(abs(leaf).max() for leaf in jax.tree.leaves(moved)) > 1e-4
    for one, other in zip(jax.tree.leaves(plain_rest), jax.tree.leaves(rest), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "most"),
    [("vgg", 0.75), ("segmenter", 0.85), pytest.param("mini-xception", 0.9, marks=pytest.mark.slow)],
)
def test_the_step_takes_less_memory(name, most):
    run = replace(RUNS[name], accumulate=1)
    bytes_of = {
        how: a_step(replace(run, rematerialize=how), 64, 16)[0].memory_analysis().temp_size_in_bytes
        for how in ("none", "blocks")
    }
    assert bytes_of["blocks"] < most * bytes_of["none"], bytes_of


@pytest.mark.parametrize("name", MODELS)
def test_every_model_keeps_its_names_and_its_insides(name):
    shape = (128, 128, 3) if "mnist" not in name else (28, 28, 1)
    plain, blocks = (abstract_model(name, shape, 3, rematerialize=how) for how in ("none", "blocks"))
    names = [[(path, leaf.shape) for path, leaf in nnx.to_flat_state(nnx.state(model))] for model in (plain, blocks)]
    assert names[0] == names[1]
    seen = [[(layer.path, layer.shape, layer.reachable) for layer in layer_outputs(model, shape)]
            for model in (plain, blocks)]  # fmt: skip
    assert seen[0] == seen[1]


def blocks_of(monkeypatch, name: str, shape, train=True, **options) -> list[int]:
    """How many layers each block has that a forward pass would compute again."""
    found = []

    def recomputed(function, layers, x, rngs):
        found.append(len(layers))
        return function(layers, x, rngs)

    monkeypatch.setattr("jaxvision.nn.chain.recomputed", recomputed)
    graph, state = nnx.split(abstract_model(name, shape, 3, rematerialize="blocks", **options))
    picture = jax.ShapeDtypeStruct((1, *shape), np.uint8)

    def forward(state, picture):
        return nnx.merge(graph, state, copy=True)(picture, train=train, rngs=nnx.Rngs(dropout=0))

    jax.eval_shape(forward, state, picture)
    return found


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("convnet-mnist", [2, 2]),  # a convolution and a pool; the last convolution by itself is no block
        ("vgg16", [3, 3, 4, 4, 4]),
        ("segmenter", [2, 2, 3, 2, 2]),  # from one change of size to the next
        ("mini-xception", [1, 2] * 5),  # two convolutions with BatchNorm, the second and a pool
        ("mobilenetv2", [2, *[1] * 16, 4]),
        ("resnet50", [4, *[1] * 16]),
        ("unet", [2, 2, 3, 3, 3, *[1] * 10]),  # VGG's blocks without their pools, before which a decoder's stage looks
    ],
)
def test_what_is_a_block(monkeypatch, name, blocks):
    shape = (28, 28, 1) if name == "convnet-mnist" else (64, 64, 3)
    assert blocks_of(monkeypatch, name, shape) == blocks
    assert blocks_of(monkeypatch, name, shape, train=False) == []


def test_features_of_a_chain_are_cut_where_they_are_asked_for():
    rngs = nnx.Rngs(0)
    chain = Chain(
        one=Conv(3, 4, rngs=rngs), bn=BatchNorm(4), drop=Dropout(0.5), two=Conv(4, 4, rngs=rngs), pool=MaxPool(2)
    )
    x = jnp.ones((2, 12, 12, 3))
    found = []
    for chain.rematerialized in (False, True):
        model = nnx.clone(chain)
        levels = model.features(x, ("pool", "bn"), True, rngs=nnx.Rngs(dropout=3))
        found.append((levels, nnx.state(model.bn, nnx.BatchStat)))
    assert list(found[1][0]) == ["pool", "bn"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *found)
    assert float(abs(found[1][1]["mean"][...]).max()) > 0


def test_random_numbers_go_on_after_a_block():
    drops = Chain(block=Chain(one=Dropout(0.5), two=Dropout(0.5)), last=Dropout(0.5))
    x, seen = jnp.ones((2, 8, 8, 3)), []
    for drops.rematerialized in (False, True):
        rngs = nnx.Rngs(dropout=0)
        seen.append((drops(x, True, rngs=rngs), rngs.dropout.count[...]))
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    assert int(seen[0][1]) == int(seen[1][1]) == 3


def test_a_run_with_blocks_trains_on_pictures_and_on_kept_features(tmp_path):
    run = replace(jv.load_run("digits"), data=Data(limit_train=64, limit_validation=32, limit_test=32))
    run = replace(run, augment=jv.config.Augment(), phases=(Phase(epochs=1),), log=jv.config.Log(tensorboard=False))
    results = [
        jv.fit(replace(run, rematerialize=how), run_dir=tmp_path / how, progress=False) for how in ("none", "blocks")
    ]
    assert results[0].test == pytest.approx(results[1].test, rel=1e-4)
    head = replace(run, phases=(Phase(epochs=1, trainable=("head",)),), cache_features="all", rematerialize="blocks")
    assert jv.fit(head, run_dir=tmp_path / "features", progress=False).test["loss"] > 0


def test_a_run_may_be_resumed_with_it():
    run = RUNS["convnet"]
    assert differing_fields(run, replace(run, rematerialize="blocks"), FREE) == []
    assert differing_fields(run, replace(run, conv="lax"), FREE)


class NoBlocks(nnx.Module):
    """A model that is no chain of layers."""

    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        self.weight = nnx.Param(jnp.zeros((input_shape[-1], num_classes)))

    def __call__(self, images, train=False, *, rngs=None):
        return images.astype(jnp.float32).mean((1, 2)) @ self.weight[...]


def test_a_model_without_blocks_is_refused(tmp_path, capsys):
    name = f"{__name__}:NoBlocks"
    with pytest.raises(ConfigError, match=r"rematerialize: '.*NoBlocks' has no blocks"):
        create_model(name, (8, 8, 1), 3, rematerialize="blocks")
    argv = ["train", "digits", "--model.name", name, "--run-dir", str(tmp_path / "run"), "--rematerialize", "blocks"]
    assert main(argv) == 2
    assert "rematerialize to none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_gradient_that_is_no_number_stays_none():
    layer = Chain(conv=Conv(1, 2, rngs=nnx.Rngs(0)))
    cotangent = jnp.asarray([np.nan, 1.0])[:, None, None, None]

    def loss(x):
        y = rematerialize.recomputed(lambda layer, x, rngs: layer(x), layer, x, None)
        return jnp.sum(y * cotangent)

    gradient = jax.grad(loss)(jnp.ones((2, 4, 4, 1)))
    assert np.isnan(gradient[0]).all()
    assert np.isfinite(gradient[1]).all()
