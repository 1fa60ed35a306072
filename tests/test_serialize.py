"""Runs as JSON: exact both ways, strict, upgraded."""

import dataclasses
import json
from dataclasses import replace

import pytest

from jaxvision import serialize
from jaxvision.config import (
    SCHEMA_VERSION,
    Augment,
    Checkpoint,
    Data,
    EarlyStop,
    Log,
    Model,
    Optimizer,
    Phase,
    Run,
    Schedule,
)
from jaxvision.errors import ConfigError
from jaxvision.serialize import check, from_json, to_json

OPTIONS = {"i": 1, "f": 1.0, "yes": True, "t": (1, 2), "empty": (), "none": None, "s": "max", "tiny": 1e-7, "b": 0}
FULL = Run(
    name="dogs-vs-cats/all",
    data=Data(path="a b/ü", image_size=(180, 90), channels=3, validation_fraction=0.1, limit_train=7, shuffle=False),
    augment=Augment(flip="horizontal", rotation=0.1, zoom=1 / 3),
    model=Model("m", OPTIONS),
    phases=(
        Phase(3, Optimizer("sgd", 0.1, momentum=0.9, nesterov=True, clip_norm=1.0)),
        Phase(9, schedule=Schedule("step", step_epochs=(2.0, 4.5))),
    ),
    ema_decay=0.0,
    log=Log(profile_steps=(2, 5)),
    seed=2**32 - 1,
)


def document(**changes):
    return {**json.loads(to_json(Run())), **changes}


@pytest.mark.parametrize("run", [Run(), FULL])
def test_round_trip_keeps_every_value_and_type(run):
    restored = from_json(to_json(run), where="x")
    assert restored == run
    assert repr(restored) == repr(run)  # 1, 1.0 and True are equal but print differently


def test_fields_left_out_keep_their_defaults():
    assert from_json('{"data": {"batch_size": 8}}', where="x") == Run(data=Data(batch_size=8))


def test_integers_given_for_numbers_become_floats():
    run = check(replace(Run(), ema_decay=0, phases=(Phase(optimizer=Optimizer(learning_rate=1)),)))
    assert type(run.ema_decay) is float
    assert type(run.phases[0].optimizer.learning_rate) is float
    assert repr(from_json(to_json(run), where="x")) == repr(run)


@pytest.mark.parametrize(
    ("changes", "path", "said"),
    [
        ({"data": {"batch_sise": 3}}, "data.batch_sise: unknown", ["Did you mean 'batch_size'", "Received: 3"]),
        ({"phases": [{}, {"epoch": 3}]}, "phases.1.epoch: unknown", ["'epochs'"]),
        ({"learning_rate": 3}, "learning_rate: unknown", ["'phases.0.optimizer.learning_rate'"]),
        ({"data": {"batch_size": 0}}, "data.batch_size", ["greater than or equal to 1", "Received: 0"]),
        ({"data": {"batch_size": "3"}}, "data.batch_size", ["integer", "Received: '3'"]),
        ({"data": {"batch_size": 3.0}}, "data.batch_size", ["integer"]),
        ({"data": {"shuffle": 1}}, "data.shuffle", ["boolean"]),
        ({"seed": True}, "seed", ["integer"]),
        ({"data": {"image_size": [1, 2, 3]}}, "data.image_size", ["Received: [1, 2, 3]"]),
        ({"data": {"channels": 2}}, "data.channels", ["1 or 3"]),
        ({"precision": "float16"}, "precision", ["'float32' or 'bfloat16'"]),
        ({"ema_decay": 1.0}, "ema_decay", ["less than 1"]),
        ({"model": {"options": {"w": [1, "x"]}}}, "model.options.w", ["Received: [1, 'x']"]),
        ({"model": {"options": {"w": {"a": 1}}}}, "model.options.w", ["Received: {'a': 1}"]),
        ({"phases": 3}, "phases", ["Received: 3"]),
        ({"data": None}, "data", ["Received: None"]),
        ({"phases": []}, "phases", ["at least one"]),
    ],
)
def test_wrong_documents_are_refused_by_path(changes, path, said):
    with pytest.raises(ConfigError) as caught:
        from_json(json.dumps(document(**changes)), where="runs/x/config.json")
    message = str(caught.value)
    assert message.startswith(f"runs/x/config.json: {path}")
    assert all(part in message for part in said), message


def test_not_finite_numbers_are_refused():
    with pytest.raises(ConfigError, match=r"model\.options\.w.*Received: nan"):
        from_json(json.dumps(document(model={"options": {"w": float("nan")}})), where="x")
    with pytest.raises(ConfigError, match=r"augment\.zoom.*Received: inf"):
        check(Run(augment=Augment(zoom=float("inf"))))


def test_all_faults_are_listed_in_one_message():
    with pytest.raises(ConfigError) as caught:
        from_json(json.dumps(document(data={"batch_size": 0, "sourse": "x"}, seed="1")), where="x")
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == [
        "data.batch_size",
        "data.sourse",
        "seed",
    ]


@pytest.mark.parametrize(("text", "said"), [("{\n!", "x, line 2: not JSON"), ("[1]", "Received: list")])
def test_other_texts_are_refused(text, said):
    with pytest.raises(ConfigError, match=said):
        from_json(text, where="x")


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, "1", True, None])
def test_other_schema_versions_are_refused(version):
    with pytest.raises(ConfigError, match=f"schema_version.*Received: {version!r}"):
        from_json(json.dumps(document(schema_version=version)), where="x")


def test_older_documents_are_upgraded_step_by_step(monkeypatch):
    def from_minus_one(old):
        batch = old.pop("batch_size")
        return {**old, "data": {"batch": batch}}

    def from_zero(old):
        return {**old, "data": {"batch_size": old["data"]["batch"]}}

    monkeypatch.setattr(serialize, "UPGRADES", {-1: from_minus_one, 0: from_zero, **serialize.UPGRADES})
    text = '{"name": "old", "batch_size": 9, "schema_version": -1}'
    assert from_json(text, where="x") == Run(name="old", data=Data(batch_size=9))
    with pytest.raises(ConfigError, match="no upgrade from schema_version -2"):
        from_json('{"schema_version": -2}', where="x")


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"name": "../x"}, "name"),
        ({"name": "/x"}, "name"),
        ({"name": " "}, "name"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"accumulate": 3}, "accumulate"),
        ({"phases": ()}, "phases"),
        ({"schema_version": 0}, "schema_version"),
        ({"phases": (Phase(), Phase(2, schedule=Schedule(warmup_epochs=2.5)))}, "phases.1.schedule.warmup_epochs"),
        ({"phases": (Phase(schedule=Schedule("step")),)}, "phases.0.schedule.step_epochs"),
        ({"phases": (Phase(schedule=Schedule(step_epochs=(1.0,))),)}, "phases.0.schedule.step_epochs"),
        ({"phases": (Phase(schedule=Schedule("step", step_epochs=(2.0, 1.0))),)}, "phases.0.schedule.step_epochs"),
        ({"phases": (Phase(optimizer=Optimizer("adam", momentum=0.9)),)}, "phases.0.optimizer.momentum"),
        ({"phases": (Phase(optimizer=Optimizer("sgd", nesterov=True)),)}, "phases.0.optimizer.nesterov"),
        ({"augment": Augment(mixup=0.2, cutmix=1.0)}, "augment.cutmix"),
        ({"augment": Augment(zoom=1.0)}, "augment.zoom"),
        ({"augment": Augment(crop_padding=28), "data": Data(image_size=(40, 28))}, "augment.crop_padding"),
        ({"checkpoint": Checkpoint("test/accuracy")}, "checkpoint.monitor"),
        ({"checkpoint": Checkpoint("accuracy")}, "checkpoint.monitor"),
        ({"checkpoint": Checkpoint(None), "early_stop": EarlyStop(3)}, "early_stop.patience"),
        ({"log": Log(profile_steps=(5, 2))}, "log.profile_steps"),
    ],
)
def test_contradictions_are_refused(changes, path):
    with pytest.raises(ConfigError) as caught:
        check(replace(Run(), **changes), where="mnist")
    assert str(caught.value).startswith(f"mnist: {path}: ")
    if path != "schema_version":
        with pytest.raises(ConfigError):
            from_json(json.dumps(dataclasses.asdict(replace(Run(), **changes))), where="x")


def test_values_just_inside_the_limits_are_taken():
    run = replace(
        FULL,
        accumulate=32,
        data=replace(FULL.data, image_size=(28, 28)),
        augment=Augment(crop_padding=27, cutmix=1.0),
        phases=(Phase(2, schedule=Schedule("cosine", warmup_epochs=2.0)),),
        log=Log(profile_steps=(5, 5)),
    )
    assert check(run) == run


@pytest.mark.parametrize("value", [{}, None, Run(phases=[Phase()]), Run(data=Augment())])
def test_other_values_are_refused(value):
    with pytest.raises(ConfigError, match=r"^run: .*Received: "):
        check(value)
