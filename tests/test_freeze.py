"""What a phase trains and what it leaves alone, phases that follow each other, and runs that start from others."""

import pathlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from test_fit import PARTS, parameters, train
from test_fit import RUN as AUGMENTED

from jaxvision.config import Augment, Checkpoint, Group, Model, Optimizer, Phase
from jaxvision.data.given import given_dataset
from jaxvision.errors import ConfigError, DataError
from jaxvision.models import abstract_model, create_model
from jaxvision.models.classifier import Classifier
from jaxvision.nn import BatchNorm, Chain, Conv, Dense, Dropout, GlobalAveragePool, Rescaling
from jaxvision.train import initial, prepared
from jaxvision.train.checkpoint import restore_best
from jaxvision.train.evaluate import evaluate
from jaxvision.train.features import with_features
from jaxvision.train.folder import read_metrics
from jaxvision.train.freeze import select
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.state import init_state
from jaxvision.train.step import make_train_step
from jaxvision.train.task import make_task
from jaxvision.types import Batch
from jaxvision.weights.export import export_safetensors

pytestmark = pytest.mark.usefixtures("kept_programs")

RUN = replace(AUGMENTED, augment=Augment())
HEAD_ONLY = replace(RUN, phases=(Phase(epochs=2, trainable=("head",)),))


class Normed(Classifier):
    """Two convolutions, each with BatchNorm, dropout between them, and a head with a BatchNorm of its own."""

    def __init__(self, input_shape, num_classes, *, dtype=jnp.float32, rngs):
        base = Chain(
            conv1=Conv(input_shape[-1], 4, rngs=rngs),
            bn1=BatchNorm(4, momentum=0.5),
            dropout=Dropout(0.5),
            conv2=Conv(4, 4, activation=jax.nn.relu, rngs=rngs),
            bn2=BatchNorm(4, momentum=0.5),
        )
        norm, logits = BatchNorm(4, momentum=0.5), Dense(4, num_classes, rngs=rngs)
        head = Chain(average=GlobalAveragePool(), norm=norm, logits=logits)
        super().__init__(preprocessing=Rescaling(), base=base, head=head)


NORMED = replace(RUN, model=Model(f"{__name__}:Normed"), checkpoint=Checkpoint(monitor=None))


def values(model) -> dict[str, np.ndarray]:
    flat = nnx.to_flat_state(nnx.state(model))
    return {"/".join(map(str, path)): np.asarray(variable[...]) for path, variable in flat}


def changed(run, result) -> set[str]:
    """Names of the tensors that are no longer what the run started from."""
    restored = restore_best(result.run_dir)
    before, after = values(restored.card.build()), values(restored.model)
    return {name for name in before if not np.array_equal(before[name], after[name])}


@pytest.mark.parametrize(
    ("trainable", "tensors", "numbers"),
    [
        (None, 30, 14_714_688 + 3_277_313),
        (("head",), 4, 3_277_313),
        (("head", "base[-4:]"), 10, 3_277_313 + 7_079_424),
        (("head", "block5_*"), 10, 3_277_313 + 7_079_424),
        (("base/block1_conv1/bias", "logits"), 3, 64 + 257),
    ],
)
def test_the_books_phases_train_the_books_tensors(trainable, tensors, numbers):
    model = abstract_model("vgg16", (180, 180, 3), 1, top="flatten", hidden=(256,), dropout=0.5)
    selection = select(model, Phase(trainable=trainable))
    sizes = {path: variable.size for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    assert len(selection.paths) == tensors
    assert sum(sizes[path] for path in selection.paths) == numbers


def test_frozen_tensors_stay_as_they_are_to_the_bit(tmp_path):
    phases = (Phase(epochs=1, trainable=("head",)), Phase(epochs=1, trainable=("head", "base[-1:]"), start="last"))
    run = replace(RUN, phases=phases, checkpoint=Checkpoint(monitor=None), ema_decay=0.5)
    result = train(tmp_path, run)
    head = {"head/logits/kernel", "head/logits/bias"}
    assert changed(run, result) == head | {"base/conv2/kernel", "base/conv2/bias"}
    first = restore_best(result.run_dir, phase=0)
    fresh, after = values(first.card.build()), values(first.model)
    assert {name for name in fresh if not np.array_equal(fresh[name], after[name])} == head


@pytest.mark.parametrize(
    ("phase", "norms", "others"),
    [
        (Phase(1), {"bn1", "bn2", "norm"}, {"conv1", "conv2", "logits"}),
        (Phase(1, trainable=("base", "head")), {"bn1", "bn2", "norm"}, {"conv1", "conv2", "logits"}),
        (Phase(1, trainable=("head", "base[-2:]")), {"norm"}, {"conv2", "logits"}),
        (Phase(1, trainable=("head", "base[-2:]"), batch_norm="trained"), {"bn2", "norm"}, {"conv2", "logits"}),
        (Phase(1, batch_norm="frozen"), set(), {"conv1", "conv2", "logits"}),
    ],
    ids=["all", "all by name", "fine-tuning", "fine-tuning with BatchNorm", "without BatchNorm"],
)
def test_batch_norm_moves_only_where_it_is_trained(tmp_path, phase, norms, others):
    run = replace(NORMED, phases=(phase,))
    names = changed(run, train(tmp_path, run))
    assert {name.split("/")[1] for name in names} == norms | others
    # All four of a norm move, or none of them.
    assert sum(name.split("/")[1] in norms for name in names) == 4 * len(norms)


def test_what_is_frozen_runs_as_in_evaluation():
    model = create_model(f"{__name__}:Normed", (12, 12, 1), 1)
    images = PARTS["train"][0][:8]
    base = model.base
    select(model, Phase(trainable=("logits",))).apply(model)
    np.testing.assert_array_equal(model(images, train=True), model(images))  # nothing random is asked for
    select(model, Phase()).apply(model)
    assert model.base is base
    rngs = nnx.Rngs(dropout=0)
    assert not np.allclose(model(images, train=True, rngs=rngs), model(images))


def test_backward_does_not_run_through_what_is_frozen():
    """Of a step's operations, the gradient of a layer costs twice its forward pass; frozen, nothing."""
    shape, options = (64, 64, 3), {"features": (16, 16, 16, 16)}
    run = replace(RUN, conv="lax", model=Model("convnet-dogs-vs-cats", options))
    batch = Batch(np.zeros((4, *shape), np.uint8), np.zeros(4, np.int32), np.ones(4, np.bool_))

    def flops(trainable):
        model = create_model(run.model.name, shape, 1, conv="lax", **options)
        phase = Phase(trainable=trainable)
        optimizer, _ = make_optimizer(phase, 1)
        selection = select(model, phase)
        task = make_task(run, 2)
        graph, state = init_state(model, optimizer, task, trained=selection)
        assert len(jax.tree.leaves(state.optimizer[0].nu)) == len(selection.paths)  # no slots for what is frozen
        step = make_train_step(graph, task, optimizer, run, 2)
        return step.lower(state, batch).cost_analysis()["flops"]

    forward = jax.jit(lambda x: create_model(run.model.name, shape, 1, conv="lax", **options)(x)).lower(batch.inputs)
    ahead = forward.cost_analysis()["flops"]
    assert flops(("head",)) < 1.1 * ahead
    assert flops(("head", "base[-1:]")) < 1.3 * ahead
    assert flops(None) > 2.5 * ahead


def test_groups_learn_at_rates_of_their_own(tmp_path):
    sgd = Phase(1, optimizer=Optimizer("sgd", 0.01))
    run = replace(RUN, data=replace(RUN.data, batch_size=56), checkpoint=Checkpoint(monitor=None))
    halved = replace(sgd, groups=(Group("conv1", 0.5), Group("bias", 0.0), Group("base", 1.0)))
    one, other = (train(tmp_path, replace(run, phases=(phase,)), name) for phase, name in ((sgd, "a"), (halved, "b")))
    start = values(restore_best(one.run_dir).card.build())
    whole, scaled = (values(restore_best(result.run_dir).model) for result in (one, other))
    for name, factor in {"base/conv1/kernel": 0.5, "base/conv1/bias": 0.5, "base/conv2/bias": 0.0}.items():
        np.testing.assert_allclose(scaled[name] - start[name], factor * (whole[name] - start[name]), atol=1e-7)
    assert np.array_equal(scaled["base/conv2/kernel"], whole["base/conv2/kernel"])


@pytest.mark.parametrize("start", ["best", "last"])
def test_a_phase_starts_from_the_best_or_the_last_of_the_one_before(tmp_path, start, monkeypatch):
    monkeypatch.setattr(prepared, "require_monitor", lambda *_, **__: None)  # it refuses the direction taken here
    still = Phase(1, optimizer=Optimizer("sgd", 1e-12), start=start)
    phases = (Phase(epochs=4, optimizer=Optimizer("adam", 0.01)), still)
    # The loss falls in training; taken for better where it is larger, the first epoch is the best.
    run = replace(RUN, phases=phases, checkpoint=Checkpoint("train/loss", "max"))
    result = train(tmp_path, run)
    losses = [record["train/loss"] for record in read_metrics(result.run_dir)]
    assert losses[0] == max(losses[:4])
    first, second = (restore_best(result.run_dir, phase=number) for number in (0, 1))
    assert (first.step, second.step) == (4, 20)
    same = [np.allclose(values(first.model)[name], value, atol=1e-8) for name, value in values(second.model).items()]
    assert all(same) if start == "best" else not any(same)
    assert [(phase.epochs, phase.best_step) for phase in result.phases] == [(4, 4), (1, 20)]
    assert result.phases[0].best_value == losses[0]
    with pytest.raises(ValueError, match="no checkpoint of phase 2"):
        restore_best(result.run_dir, phase=2)


def test_a_run_starts_from_another(tmp_path):
    first = train(tmp_path, name="first")
    still = replace(RUN, phases=(Phase(1, optimizer=Optimizer("sgd", 1e-12)),))
    model = replace(RUN.model, init_from=first.run_dir)
    again = train(tmp_path, replace(still, model=model), "again")
    for one, other in zip(parameters(first), parameters(again), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-8)
    four = {"train": (PARTS["train"][0], np.arange(56, dtype=np.int32) % 4)}
    still = replace(still, checkpoint=Checkpoint(monitor=None))
    with pytest.raises(ConfigError, match=r"head/logits/bias: \(1,\) where \(4,\)"):
        train(tmp_path, replace(still, model=model), "other", four)
    other = train(tmp_path, replace(still, model=replace(model, reinit_head=True)), "other", four)
    names = {name for name, _ in _differences(first, other)}
    assert names == {"head/logits/kernel", "head/logits/bias"}
    smaller = replace(model, options={"features": (4,)}, reinit_head=True)
    with pytest.raises(ConfigError, match="base/conv2/kernel: the model has no such tensor"):
        train(tmp_path, replace(still, model=smaller), "smaller", four)


def test_a_run_starts_from_a_file_of_weights_or_from_published_ones(tmp_path, monkeypatch):
    source = create_model(RUN.model.name, (12, 12, 1), 4, seed=7, features=(4, 8))
    file = tmp_path / "four.safetensors"
    export_safetensors(source, file, name=RUN.model.name)
    asked = []
    monkeypatch.setattr(initial, "published_file", lambda name, top: asked.append((name, top)) or file)
    still = replace(RUN, phases=(Phase(1, optimizer=Optimizer("sgd", 1e-12)),))
    for weights in (str(file), "imagenet"):
        with pytest.raises((DataError, ConfigError), match=r"logits|imagenet's head"):
            train(tmp_path, replace(still, model=replace(RUN.model, weights=weights)), weights[-8:])
        model = replace(RUN.model, weights=weights, reinit_head=True)
        result = train(tmp_path, replace(still, model=model), weights[-8:])
        trained, fresh = (
            restore_best(result.run_dir).model,
            create_model(RUN.model.name, (12, 12, 1), 1, features=(4, 8)),
        )
        for name, value in values(trained).items():
            expected = values(fresh if name.startswith("head") else source)[name]
            np.testing.assert_allclose(value, expected, atol=1e-8, err_msg=name)
    assert asked == [(RUN.model.name, False)]


def _differences(one, other):
    a, b = (values(restore_best(result.run_dir).model) for result in (one, other))
    return [
        (name, a[name]) for name in a if a[name].shape != b[name].shape or not np.allclose(a[name], b[name], atol=1e-8)
    ]


def test_training_on_kept_features_is_training_on_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path / "cache"))
    kept = replace(HEAD_ONLY, cache_features="all")
    one, other = train(tmp_path, HEAD_ONLY, "pictures"), train(tmp_path, kept, "features")
    half = train(tmp_path, replace(kept, cache_features="evaluation"), "evaluation")
    for record, *others in zip(*(read_metrics(result.run_dir) for result in (one, other, half)), strict=True):
        assert others == [pytest.approx(record, rel=1e-4)] * 2
    # The result is a whole model: it works on pictures.
    assert evaluate(other.run_dir, data=PARTS["test"]) == pytest.approx(other.test, rel=1e-4)
    entries = {path.name for path in (tmp_path / "cache" / "features").iterdir()}
    assert len(entries) == 3  # train, validation, test
    other_head = replace(kept, model=Model(RUN.model.name, {"features": (4, 8), "dropout": 0.5}))
    train(tmp_path, other_head, "other head")
    assert {path.name for path in (tmp_path / "cache" / "features").iterdir()} == entries
    train(tmp_path, replace(kept, seed=1), "other weights")
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 6


def test_features_are_those_of_the_pictures_at_hand(tmp_path, monkeypatch):
    """Other pictures of the same names and labels, another preprocessing, a stream that nobody can know again."""
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path / "cache"))
    model = create_model(RUN.model.name, (12, 12, 1), 1, features=(4, 8))
    run = replace(HEAD_ONLY, cache_features="all")

    def features(pictures, model=model):
        dataset = given_dataset({"train": (pictures, PARTS["train"][1])}, run.data)
        return np.asarray(with_features(dataset, model, run, progress=False).train.inputs)

    pictures = PARTS["train"][0]
    expected = np.asarray(model.base(model.preprocessing(pictures)))
    np.testing.assert_allclose(features(pictures), expected, rtol=1e-5)
    other = pictures.copy()
    other[-1, 0, 0, 0] ^= 255  # one pixel
    np.testing.assert_allclose(features(other), np.asarray(model.base(model.preprocessing(other))), rtol=1e-5)
    model.preprocessing.scale = 1.0
    assert not np.allclose(features(pictures), expected)
    kept = len(list((tmp_path / "cache" / "features").iterdir()))
    assert kept == 3

    tf = pytest.importorskip("tensorflow")
    streamed = replace(run, data=replace(run.data, resident_mb=1, residence="stream"))
    wide = np.tile(pictures, (1, 16, 16, 1))
    for array in (wide, 255 - wide):
        stream = tf.data.Dataset.from_tensor_slices((array, PARTS["train"][1]))
        dataset = given_dataset({"train": stream}, replace(streamed.data, resident_mb=1))
        with_features(dataset, create_model(RUN.model.name, (192, 192, 1), 1, features=(4,)), streamed, progress=False)
    assert len(list((tmp_path / "cache" / "features").iterdir())) == kept


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"phases": (Phase(trainable=("haed",)),)}, r"phases\.0\.trainable.*Did you mean 'head'"),
        ({"phases": (Phase(trainable=("base[-1:]",)), Phase(trainable=("body[-1:]",)))}, r"phases\.1.*'body'"),
        ({"phases": (Phase(trainable=()),)}, "nothing is left to train"),
        ({"phases": (Phase(groups=(Group("conv9", 0.1),)),)}, r"phases\.0\.groups.*conv9"),
        ({"phases": (Phase(trainable=("head",), groups=(Group("conv1", 0.1),)),)}, "matches is frozen.*conv1"),
        ({"model": Model("resnet50")}, r"data\.channels to 3. Received: 1"),
        ({"cache_features": "all", "phases": (Phase(trainable=("conv2",)),)}, "base is frozen"),
        ({"cache_features": "all"}, "needs a frozen base"),
        ({"cache_features": "all", "augment": Augment(flip="both"), "phases": HEAD_ONLY.phases}, "augmented pictures"),
        ({"model": Model(reinit_head=True)}, "needs model.weights or model.init_from"),
        ({"model": Model(weights="a", init_from="b")}, "model.weights is given too"),
    ],
)
def test_faults_are_named_before_anything_is_written(tmp_path, change, said):
    with pytest.raises(ConfigError, match=said):
        train(tmp_path, replace(RUN, **change))
    assert not (pathlib.Path(tmp_path) / "run").exists()
