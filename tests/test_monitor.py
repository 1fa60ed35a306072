"""The monitored metric: which value of it is better, where it cannot be measured, and what is kept in any case."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from test_resume import stop_after

from jaxvision.ablation import Ablation, Factor
from jaxvision.cli import main
from jaxvision.config import Checkpoint, Data, EarlyStop, Log, Loss, Model, Optimizer, Phase, Run
from jaxvision.data.shapes import MASK_NAMES, draw_shapes
from jaxvision.errors import ConfigError, DataError, NonFiniteLossError, StoppedError
from jaxvision.models.classifier import Classifier
from jaxvision.nn import Chain, Dense, Flatten, Rescaling
from jaxvision.serialize import from_json, to_json
from jaxvision.sweep.prepare import prepare
from jaxvision.train.best import BestMetric
from jaxvision.train.checkpoint import restore_best
from jaxvision.train.fit import fit, fit_or_repeat
from jaxvision.train.fit_many import fit_many
from jaxvision.train.folder import read_config, read_metrics
from jaxvision.train.task import make_task, monitor_direction

pytestmark = pytest.mark.usefixtures("kept_programs")

RUN = Run(
    name="tiny",
    data=Data(batch_size=16),
    model=Model("dense-mnist", {"features": (8,)}),
    phases=(Phase(epochs=6, optimizer=Optimizer("adam", 0.003)),),
    log=Log(tensorboard=False),
)
BY_ACCURACY = replace(RUN, checkpoint=Checkpoint("validation/accuracy"), early_stop=EarlyStop(patience=3))
SEGMENT = Run(
    name="shapes",
    task="segmentation",
    data=Data(batch_size=8),
    model=Model("segmenter", {"features": (4,)}),
    phases=(Phase(epochs=1), Phase(epochs=2)),
    log=Log(tensorboard=False),
)


def shaded(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that are lighter to the left or to the right, under noise: learnt in a few epochs, not at once."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % 2
    shade = np.linspace(-20, 20, 8) * np.where(labels, 1, -1)[:, None]
    images = 128 + shade[:, None, :] + rng.normal(0, 40, (count, 8, 8))
    return np.clip(images, 0, 255).astype(np.uint8)[..., None], labels


PARTS = {"train": shaded(64, 0), "validation": shaded(40, 1), "test": shaded(20, 2)}


def train(tmp_path, run, name="run", parts=PARTS):
    return fit(run, run_dir=tmp_path / name, data=parts, progress=False)


def shapes_without_contour() -> dict:
    """Masks to train on, and others to validate on in which one of the classes is nowhere."""
    images, _, masks = draw_shapes(0, 24, image_size=(24, 24))
    others = np.where(masks[16:] == 2, 1, masks[16:])
    return {"train": (images[:16], masks[:16]), "validation": (images[16:], others), "class_names": MASK_NAMES}


def labels_without_the_last() -> dict:
    images, rng = PARTS["train"][0], np.random.default_rng(0)
    labels = (rng.random((len(images), 3)) < 0.5).astype(np.float32)
    others = labels[:20] * [1, 1, 0]
    return {"train": (images, labels), "validation": (images[:20], others), "class_names": ("a", "b", "c")}


def monitoring(run: Run, metric: str, **options) -> Run:
    return replace(run, checkpoint=Checkpoint(f"validation/{metric}", **options))


def as_version_1(run_dir, direction: str) -> None:
    """Makes the folder's config.json what version 1 wrote of the same run, which always named a direction."""
    path = run_dir / "config.json"
    document = json.loads(path.read_text())
    document["checkpoint"]["direction"] = direction
    path.write_text(json.dumps({**document, "schema_version": 1}))


@pytest.mark.parametrize("task", ["classification", "multilabel", "segmentation"])
def test_the_metric_says_which_value_is_better(task):
    names = make_task(Run(task=task), 2, ("cat", "loss")).directions
    found = {name: monitor_direction(monitoring(Run(task=task), name), ("cat", "loss")) for name in names}
    assert {name for name, direction in found.items() if direction == "min"} == {"loss"}
    assert len(found) > 1


def test_the_best_accuracy_is_the_highest(tmp_path):
    result = train(tmp_path, BY_ACCURACY)
    values = [record["validation/accuracy"] for record in read_metrics(result.run_dir)]
    assert values[0] < max(values), "the first epoch is the best; this test then cannot tell highest from lowest"
    assert result.best_epoch == int(np.argmax(values)) + 1
    assert result.phases[0].best_value == max(values)


@pytest.mark.parametrize(("metric", "direction"), [("accuracy", "min"), ("loss", "max")])
def test_a_direction_that_contradicts_its_metric_is_refused(tmp_path, metric, direction, capsys):
    flags = ["--checkpoint.monitor", f"validation/{metric}", "--checkpoint.direction", direction]
    assert main(["train", "digits", *flags, "--run-dir", str(tmp_path / "run")]) == 2
    assert "keeps the worst checkpoint" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="keeps the worst"):
        fit_many(monitoring(RUN, metric, direction=direction), [0, 1], run_dir=tmp_path / "many", data=PARTS)
    assert not list(tmp_path.iterdir())


def test_a_direction_that_agrees_is_taken(tmp_path):
    runs = [replace(BY_ACCURACY, checkpoint=Checkpoint("validation/accuracy", each)) for each in ("max", "auto")]
    one, other = (train(tmp_path, replace(run, phases=(Phase(2),)), str(number)) for number, run in enumerate(runs))
    assert read_metrics(one.run_dir) == read_metrics(other.run_dir)
    assert one.best_step == other.best_step


@pytest.mark.parametrize(
    ("monitor", "before", "now"),
    [
        ("validation/loss", "min", "auto"),
        ("train/loss", "max", "max"),
        ("validation/accuracy", "min", "min"),
        ("validation/iou/loss", "max", "auto"),
        (None, "min", "auto"),
    ],
)
def test_descriptions_of_version_1_mean_what_they_meant(monitor, before, now):
    run = replace(Run(), checkpoint=Checkpoint(monitor, before))
    text = to_json(run).replace('"schema_version": 2', '"schema_version": 1')
    assert from_json(text, where="x") == replace(run, checkpoint=Checkpoint(monitor, now))
    without = json.loads(text)
    del without["checkpoint"]["direction"]
    meant = "min" if monitor is not None and not monitor.endswith("tion/loss") and monitor != "train/loss" else "auto"
    assert from_json(json.dumps(without), where="x").checkpoint.direction == meant


def test_a_run_begun_by_version_1_is_resumed_to_the_same_bits(tmp_path, monkeypatch):
    run = replace(BY_ACCURACY, checkpoint=Checkpoint("validation/accuracy"), early_stop=EarlyStop())
    whole = train(tmp_path, run, "whole")
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(StoppedError):
            train(tmp_path, run, "stopped")
    as_version_1(tmp_path / "stopped", "max")
    resumed = fit(run, run_dir=tmp_path / "stopped", data=PARTS, progress=False, resume=True)
    assert replace(resumed, seconds=0, run_dir="") == replace(whole, seconds=0, run_dir="")
    assert read_metrics(resumed.run_dir) == read_metrics(whole.run_dir)


def test_an_old_run_that_kept_the_worst_is_repeated_as_it_was(tmp_path, capsys):
    data = Data(source="digits", batch_size=64, limit_train=192, limit_validation=64, limit_test=64)
    model = Model("dense-mnist", {"features": (8,)})
    run = replace(BY_ACCURACY, data=data, model=model, checkpoint=Checkpoint("validation/accuracy", "min"))
    with pytest.warns(UserWarning, match="goes on as it was begun"):
        first = fit_or_repeat(run, run_dir=tmp_path / "run", progress=False, repeats=True)
    as_version_1(tmp_path / "run", "min")
    values = [record["validation/accuracy"] for record in read_metrics(first.run_dir)]
    assert first.best_epoch == int(np.argmin(values)) + 1
    with pytest.warns(UserWarning, match="keeps the worst checkpoint"):
        assert main(["rerun", str(tmp_path / "run")]) == 0
    assert restore_best(tmp_path / "run-rerun").step == first.best_step
    assert read_config(tmp_path / "run").checkpoint.direction == "min"
    with pytest.raises(ConfigError, match="keeps the worst"):
        fit(read_config(tmp_path / "run"), run_dir=tmp_path / "anew", progress=False)


def test_arms_that_contradict_their_metric_are_refused_before_any_is_trained(tmp_path):
    base = replace(RUN, data=Data(), model=Model(), checkpoint=Checkpoint("validation/loss", "min"))
    levels = {"loss": {}, "accuracy": {"checkpoint.monitor": "validation/accuracy"}}
    with pytest.raises(ConfigError, match=r"arm monitor=accuracy.*keeps the worst"):
        prepare(Ablation(base, {"monitor": Factor(levels)}, "one-at-a-time", 1), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    loose = replace(base, checkpoint=Checkpoint("validation/loss"))
    arms = Ablation(loose, {"monitor": Factor(levels)}, "one-at-a-time", 1).arms()
    assert [monitor_direction(arm.run, ()) for arm in arms] == ["min", "max"]


@pytest.mark.parametrize("residence", ["device", "stream"])
@pytest.mark.parametrize("patience", [None, 2])
def test_a_class_that_is_not_validated_is_no_monitor(tmp_path, residence, patience):
    run = replace(monitoring(SEGMENT, "iou/contour"), early_stop=EarlyStop(patience))
    run = replace(run, data=replace(run.data, residence=residence))
    with pytest.raises(DataError, match=r"validation part has no example of class 'contour'.*validation/mean_iou"):
        fit(run, run_dir=tmp_path / "run", data=shapes_without_contour(), progress=False)
    assert not (tmp_path / "run").exists()


def test_masks_in_files_are_looked_through(tmp_path, capsys):
    parts = shapes_without_contour()
    for part in ("train", "validation"):
        for kind, arrays in zip(("images", "masks"), parts[part], strict=True):
            (tmp_path / "data" / part / kind).mkdir(parents=True)
            for number, array in enumerate(arrays):
                Image.fromarray(array.squeeze()).save(tmp_path / "data" / part / kind / f"{number}.png")
    names = ["--data.class-names", *MASK_NAMES]
    command = ["train", "masks/unet", "--data.path", str(tmp_path / "data"), *names, "--run-dir", str(tmp_path / "run")]
    assert main([*command, "--checkpoint.monitor", "validation/iou/contour"]) == 2
    assert "no example of class 'contour'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("metric", "said"),
    [("average_precision/c", "class 'c'"), ("f1/c", "class 'c'"), ("average_precision", "any class"), ("loss", None)],
)
def test_labels_that_are_not_validated_are_no_monitor(tmp_path, metric, said):
    run = replace(monitoring(RUN, metric), task="multilabel", phases=(Phase(1),))
    parts = labels_without_the_last()
    if said == "any class" or said is None:
        parts["validation"] = (parts["validation"][0], np.zeros((20, 3), np.float32))
    if said is None:
        assert fit(run, run_dir=tmp_path / "run", data=parts, progress=False).best_step == 4
        return
    with pytest.raises(DataError, match=f"no example of {said}"):
        fit(run, run_dir=tmp_path / "run", data=parts, progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("patience", [None, 1])
def test_a_run_without_its_metric_keeps_the_last_checkpoint(tmp_path, patience):
    """As a run begun before such a monitor was refused."""
    run = replace(RUN, task="multilabel", phases=(Phase(1), Phase(2)), early_stop=EarlyStop(patience))
    run = monitoring(run, "average_precision/c")
    with pytest.warns(UserWarning, match="cannot be measured on it") as told:
        result = fit_or_repeat(
            run, run_dir=tmp_path / "run", data=labels_without_the_last(), progress=False, repeats=True
        )
    assert result.stop_reason == "completed"
    assert [(phase.best_step, phase.best_value) for phase in result.phases] == [(4, None), (12, None)]
    assert restore_best(tmp_path / "run").step == result.best_step == 12
    said = [str(warning.message) for warning in told]
    assert sum("was not measured in epoch 1." in text for text in said) == 2
    assert any("was in no evaluation of phases.1, so its last checkpoint (step 12) is kept" in text for text in said)


def test_a_metric_measured_late_replaces_the_checkpoint_kept_for_it():
    best = BestMetric(Checkpoint("validation/iou/cat"), EarlyStop(patience=1), "max")
    records = [{"train/loss": 1.0} | {"validation/iou/cat": value} for value in (0.1, 0.3, 0.2)]
    absent = {"train/loss": 1.0, "validation/loss": 1.0}
    between = {"validation/loss": 1.0}
    seen = [absent, between, absent, records[0], absent, records[1], absent, records[2]]
    assert [best.is_improved(record) for record in seen] == [True, False, True, True, False, True, False, False]
    assert [best.should_stop(record) for record in seen] == [False] * 7 + [True]


class NanInEvaluation(Classifier):
    """A model whose metrics are not finite, though all of its numbers are."""

    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        head = Chain(flatten=Flatten(), logits=Dense(math.prod(input_shape), num_classes, rngs=rngs))
        super().__init__(preprocessing=Rescaling(), base=Chain(), head=head)

    def __call__(self, images, train=False, *, rngs=None):
        logits = super().__call__(images, train, rngs=rngs)
        return logits if train else logits * math.nan


def test_what_was_trained_is_kept_where_its_metrics_are_not_finite(tmp_path):
    run = replace(RUN, model=Model(f"{__name__}:NanInEvaluation"))
    with pytest.raises(NonFiniteLossError, match=r"validation/loss is nan.*step 4 in"):
        train(tmp_path, run)
    assert restore_best(tmp_path / "run").step == 4


@pytest.mark.filterwarnings("ignore:The .* part shows no class but")
@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_part_without_weight_is_refused(tmp_path, part):
    images, labels = PARTS[part]
    parts = {**PARTS, part: (images[labels == 0], labels[labels == 0])}
    with pytest.raises(DataError, match=f"all examples of the {part} part are of classes of weight 0"):
        train(tmp_path, replace(RUN, loss=Loss(class_weights=(0.0, 1.0))), parts=parts)
    assert not (tmp_path / "run").exists()
