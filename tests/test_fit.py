"""Whole runs on a few small pictures: what is kept, what repeats, what stops a run, what it leaves behind."""

import math
import pathlib
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from jaxvision.config import Augment, Checkpoint, Data, EarlyStop, Evaluation, Log, Model, Optimizer, Phase, Run
from jaxvision.data import ArrayPart, open_feed
from jaxvision.errors import ConfigError, DataError, NonFiniteLossError, RunFolderError
from jaxvision.models import create_model
from jaxvision.train.best import BestMetric
from jaxvision.train.checkpoint import restore_best
from jaxvision.train.dispatch import step_flops, steps_per_dispatch
from jaxvision.train.evaluate import evaluate
from jaxvision.train.fit import fit
from jaxvision.train.folder import read_lines, read_metrics
from jaxvision.train.result import read_result
from jaxvision.train.step import from_pictures

pytestmark = pytest.mark.usefixtures("kept_programs")

RUN = Run(
    name="tiny",
    data=Data(batch_size=16),
    augment=Augment(flip="horizontal", rotation=0.05),
    model=Model("convnet-mnist", {"features": (4, 8), "dropout": 0.2}),
    phases=(Phase(epochs=3),),
    log=Log(tensorboard=False),
)


def stripes(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of horizontal or vertical stripes with noise: learnt in a few dozen steps, not at once."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count).astype(np.int32)
    wave = 60 * np.sin(np.arange(12) * 2 + rng.uniform(0, 6, (count, 1)))
    pictures = np.where(labels[:, None, None] == 0, wave[:, :, None], wave[:, None, :])
    noisy = 128 + pictures + rng.normal(0, 40, (count, 12, 12))
    return np.clip(noisy, 0, 255).astype(np.uint8)[..., None], labels


PARTS = {"train": stripes(56, 0), "validation": stripes(30, 1), "test": stripes(21, 2)}


def train(tmp_path, run=RUN, name="run", parts=PARTS):
    return fit(run, run_dir=tmp_path / name, data=parts, progress=False)


def parameters(result) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(restore_best(result.run_dir).model, nnx.Param))]


def equal(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(parameters(one), parameters(other), strict=True))


def text(result, name) -> str:
    return (folder_of(result) / name).read_text()


def folder_of(result):
    return pathlib.Path(result.run_dir)


def test_the_same_seed_repeats_bit_for_bit_and_another_does_not(tmp_path):
    one, again, other = (train(tmp_path, replace(RUN, seed=s), n) for s, n in ((0, "a"), (0, "b"), (1, "c")))
    assert equal(one, again)
    assert text(one, "metrics.jsonl") == text(again, "metrics.jsonl")
    assert not equal(one, other)


def test_resident_and_streamed_data_train_alike(tmp_path):
    streamed = replace(RUN, data=replace(RUN.data, residence="stream"))
    one, other = train(tmp_path, RUN, "a"), train(tmp_path, streamed, "b")
    assert equal(one, other)
    assert text(one, "metrics.jsonl") == text(other, "metrics.jsonl")


def test_many_steps_in_one_call_train_alike(tmp_path):
    run = replace(RUN, data=replace(RUN.data, batch_size=8), evaluation=Evaluation(every_steps=5))
    one, many = (train(tmp_path, replace(run, steps_per_dispatch=n), f"run-{n}") for n in (1, 4))
    records, others = read_metrics(one.run_dir), read_metrics(many.run_dir)
    assert [record["step"] for record in others] == [5, 7, 10, 14, 15, 20, 21]
    for record, other in zip(records, others, strict=True):
        assert other == pytest.approx(record, rel=1e-4)


def test_a_call_to_an_accelerator_takes_about_two_seconds(monkeypatch):
    images = np.zeros((6400, 28, 28, 1), np.uint8)
    part = ArrayPart(images, np.zeros(6400, np.int32))
    feed = open_feed(part, batch_size=64, seed=0, residence="device", resident_mb=100)
    model = create_model("dense-mnist", (28, 28, 1), 10, seed=0, features=(512,))
    counted = step_flops(*nnx.split(model), from_pictures, feed)
    assert counted == pytest.approx(3 * 64 * 2 * (784 * 512 + 512 * 10), rel=0.01)

    def most(flops, **settings):
        return steps_per_dispatch(replace(RUN, **settings), feed, lambda: flops)

    assert most(counted) == 1  # a CPU
    monkeypatch.setattr("jaxvision.train.dispatch.jax.default_backend", lambda: "gpu")
    assert [most(flops) for flops in (0.0, counted, 2e12, 3e13)] == [32, 32, 10, 1]
    assert most(3e13, steps_per_dispatch=7) == 7
    assert most(counted, evaluation=Evaluation(every_steps=5)) == 5


def test_the_best_checkpoint_is_the_result(tmp_path):
    run = replace(RUN, phases=(Phase(epochs=8, optimizer=Optimizer("adam", 0.03)),))
    result = train(tmp_path, run)
    records = read_metrics(result.run_dir)
    assert [record["step"] for record in records] == [4 * epoch for epoch in range(1, 9)]
    losses = [record["validation/loss"] for record in records]
    best = int(np.argmin(losses))
    assert best < 7, "the last epoch is best; this test then cannot tell best from last"
    assert (result.best_epoch, result.best_step) == (best + 1, 4 * (best + 1))
    assert result.validation["loss"] == pytest.approx(losses[best], rel=1e-6)
    assert result.train["loss"] == records[best]["train/loss"]
    assert result.test == read_result(result.run_dir).test
    # The checkpoint stands for itself: the model is rebuilt from it, class count and preprocessing included.
    pictures, labels = PARTS["test"]
    logits = np.asarray(restore_best(result.run_dir).model(pictures))[:, 0]
    assert np.mean((logits > 0) == labels) == pytest.approx(result.test["accuracy"])
    assert np.mean(np.logaddexp(0, np.where(labels == 1, -logits, logits))) == pytest.approx(
        result.test["loss"], rel=1e-5
    )


def test_test_data_chooses_nothing(tmp_path):
    pictures, labels = PARTS["test"]
    other_test = {**PARTS, "test": (pictures, 1 - labels)}
    one, other = train(tmp_path, name="a"), train(tmp_path, name="b", parts=other_test)
    assert equal(one, other)
    assert one.best_step == other.best_step
    assert one.test["accuracy"] == pytest.approx(1 - other.test["accuracy"])


def test_without_a_monitor_the_last_epoch_counts(tmp_path):
    run = replace(RUN, checkpoint=Checkpoint(monitor=None))
    result = train(tmp_path, run, parts={"train": PARTS["train"]})
    assert (result.best_epoch, result.best_step, result.steps) == (3, 12, 12)
    assert result.validation is None
    assert result.test is None


def test_validation_between_epochs_can_be_best_too(tmp_path):
    run = replace(RUN, evaluation=Evaluation(every_steps=3, batch_size=7))
    result = train(tmp_path, run)
    records = read_metrics(result.run_dir)
    assert [record["step"] for record in records] == [3, 4, 6, 8, 9, 12]
    assert ["train/loss" in record for record in records] == [False, True, False, True, False, True]
    best = min(records, key=lambda record: record["validation/loss"])
    assert result.best_step == best["step"]


def test_early_stopping(tmp_path):
    # At a vanishing learning rate nothing improves by 0.1, ever.
    run = replace(
        RUN,
        phases=(Phase(epochs=9, optimizer=Optimizer("sgd", 1e-9)),),
        early_stop=EarlyStop(patience=2, min_delta=0.1),
    )
    result = train(tmp_path, run)
    assert (result.stop_reason, result.epochs, result.steps) == ("early_stop", 3, 12)


def test_two_phases_each_with_its_optimizer(tmp_path):
    phases = (Phase(epochs=1, optimizer=Optimizer("adam", 0.01)), Phase(epochs=2, optimizer=Optimizer("sgd", 1e-12)))
    run = replace(RUN, phases=phases, checkpoint=Checkpoint(monitor=None))
    result = train(tmp_path, run)
    records = read_metrics(result.run_dir)
    assert [(r["phase"], r["epoch"], r["step"]) for r in records] == [(0, 1, 4), (1, 1, 8), (1, 2, 12)]
    np.testing.assert_allclose([r["learning_rate"] for r in records], [0.01, 1e-12, 1e-12])
    first = train(tmp_path, replace(run, phases=phases[:1]), "first")
    for a, b in zip(parameters(result), parameters(first), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_a_best_epoch_counts_over_all_phases(tmp_path):
    phases = (Phase(epochs=2), Phase(epochs=2))
    result = train(tmp_path, replace(RUN, phases=phases, checkpoint=Checkpoint(monitor=None)))
    assert (result.best_epoch, result.epochs) == (4, 4)


@pytest.mark.parametrize("monitor", [None, "validation/accuracy"])
def test_a_model_that_is_not_finite_is_never_kept(tmp_path, monitor):
    # One step, whose loss is fine and whose update is not.
    run = replace(
        RUN,
        phases=(Phase(epochs=1, optimizer=Optimizer("sgd", 1e38)),),
        data=replace(RUN.data, batch_size=56),
        checkpoint=Checkpoint(monitor=monitor, direction="max"),
    )
    with pytest.raises(NonFiniteLossError, match="none was saved yet"):
        train(tmp_path, run, parts=PARTS if monitor else {"train": PARTS["train"]})
    assert (tmp_path / "run" / "curves.png").exists()


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    # The first phase trains well, the second throws the weights to infinity.
    phases = (Phase(epochs=2), Phase(epochs=5, optimizer=Optimizer("sgd", 1e30)))
    with pytest.raises(NonFiniteLossError, match=r"phases\.1\.optimizer\.learning_rate"):
        train(tmp_path, replace(RUN, phases=phases))
    restored = restore_best(tmp_path / "run")
    assert restored.step <= 8
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(nnx.state(restored.model, nnx.Param)))
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_run_folder_holds_what_it_should(tmp_path):
    result = train(tmp_path, replace(RUN, log=Log(tensorboard=True, profile_steps=(2, 3))))
    folder = folder_of(result)
    names = {path.name for path in folder.iterdir() if path.name != ".lock"}
    assert names == {
        "config.json", "environment.json", "metrics.jsonl", "timing.jsonl", "result.json", "curves.png", "checkpoints",
        "tensorboard", "profile", "examples.json.gz",
    }  # fmt: skip
    assert not any("seconds" in key for record in read_metrics(folder) for key in record)
    timing = read_lines(folder / "timing.jsonl")
    assert [line["epoch"] for line in timing] == [1, 2, 3]
    assert all(0 <= line["data_wait_share"] <= 1 for line in timing)
    assert list(folder.glob("profile/**/*.xplane.pb"))
    assert list(folder.glob("tensorboard/events*"))
    assert (folder / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


class Normed(nnx.Module):
    """A model of someone else's, with flax' own BatchNorm and random state."""

    def __init__(self, input_shape, num_classes, *, width: int = 4, dtype, rngs):
        self.linear = nnx.Linear(input_shape[0] * input_shape[1], width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.5, rngs=rngs)
        self.head = nnx.Linear(width, num_classes, rngs=rngs)

    def __call__(self, images, train=False, *, rngs=None):
        x = self.linear(images.reshape(images.shape[0], -1).astype("float32") / 255)
        return self.head(self.norm(x, use_running_average=not train))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_batch_statistics_are_trained_saved_and_used(tmp_path, accumulate):
    run = replace(
        RUN, model=Model(f"{__name__}:Normed", {"width": 6}), accumulate=accumulate, checkpoint=Checkpoint(monitor=None)
    )
    result = train(tmp_path, run)
    restored = restore_best(result.run_dir).model
    assert not np.allclose(restored.norm.mean[...], 0)
    assert not np.allclose(restored.norm.var[...], 1)
    last = read_metrics(result.run_dir)[-1]
    assert evaluate(result.run_dir, data=PARTS["validation"])["loss"] == pytest.approx(
        last["validation/loss"], rel=1e-5
    )


def test_data_handed_over_is_not_mistaken_for_a_named_source(tmp_path):
    result = train(tmp_path)
    with pytest.raises(DataError, match="handed to fit"):
        evaluate(result.run_dir)
    assert evaluate(result.run_dir, data=PARTS["test"]) == pytest.approx(result.test)


def test_a_tf_data_dataset_of_ones_own_trains(tmp_path):
    tf = pytest.importorskip("tensorflow")
    given = {part: tf.data.Dataset.from_tensor_slices(arrays).batch(10) for part, arrays in PARTS.items()}
    assert equal(train(tmp_path, name="a"), train(tmp_path, name="b", parts=given))


@pytest.mark.parametrize(
    ("change", "parts", "error", "said"),
    [
        ({}, {"train": PARTS["train"]}, ConfigError, "validation_fraction"),
        ({"data": Data(batch_size=57)}, PARTS, DataError, "batch_size"),
        ({"model": Model("convnet-mnst")}, PARTS, ConfigError, "convnet-mnist"),
        ({"phases": ()}, PARTS, ConfigError, "phases"),
        ({"checkpoint": Checkpoint("validation/f1")}, PARTS, ConfigError, "validation/accuracy"),
        ({"log": Log(profile_steps=(500, 510))}, PARTS, ConfigError, "only 12 steps"),
        ({"log": Log(wandb_project="p")}, PARTS, ConfigError, "wandb is not installed"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(change, parts, error, said, tmp_path):
    with pytest.raises(error, match=said):
        train(tmp_path, replace(RUN, **change), parts=parts)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_run_folder_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    with pytest.raises(RunFolderError, match="not empty"):
        train(tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_evaluate_reads_the_run_alone(tmp_path):
    run = replace(
        RUN, data=Data(source="digits", batch_size=64, limit_train=64, limit_validation=64), phases=(Phase(1),)
    )
    result = fit(run, run_dir=tmp_path / "run", progress=False)
    assert evaluate(result.run_dir, part="test") == pytest.approx(result.test)
    with pytest.raises(ConfigError, match="no part"):
        evaluate(result.run_dir, part="tset")


def test_best_metric():
    best = BestMetric(Checkpoint("validation/accuracy"), EarlyStop(patience=2, min_delta=0.05), "max")
    values = [0.5, math.nan, 0.5, 0.52, 0.6]
    metrics = [{"validation/accuracy": value} for value in values]
    assert [best.is_improved(m) for m in metrics] == [True, False, False, True, True]
    assert [best.should_stop(m) for m in metrics] == [False, False, True, True, False]
