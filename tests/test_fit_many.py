"""Runs trained together are the runs that `fit` makes one by one, to rounding."""

import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from test_resume import DATA, RUN, stop_after

import jaxvision as jv
from jaxvision.changes import changed
from jaxvision.errors import ConfigError, NonFiniteLossError, RunFolderError
from jaxvision.mesh import member_mesh
from jaxvision.models import create_model
from jaxvision.train import vectorize
from jaxvision.train.checkpoint import ModelCard
from jaxvision.train.fit_many import fit_many
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.state import init_state
from jaxvision.train.step import from_pictures, make_train_step, make_train_stretch
from jaxvision.train.task import make_task
from jaxvision.train.vectorize import Numbers, alike, member_of, stack, train_stretches
from jaxvision.types import Stretch
from jaxvision.varied import VARIED, with_numbers

pytestmark = pytest.mark.usefixtures("kept_programs")

SEEDS = (0, 1, 2)
ONE_PHASE = replace(
    RUN, phases=(replace(RUN.phases[0], epochs=3),), evaluation=jv.Evaluation(), early_stop=jv.EarlyStop(), accumulate=1
)


def together(folder: Path, run: jv.Run = RUN, seeds=SEEDS, **options):
    return fit_many(run, seeds, run_dir=folder, data=DATA, progress=False, **options)


def alone(folder: Path, run: jv.Run) -> jv.Result:
    return jv.fit(run, run_dir=folder, data=DATA, progress=False)


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_alike(ours: Path, theirs: Path) -> None:
    for a, b in zip(lines(ours), lines(theirs), strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-4, err_msg=f"{a} {b}")
    one, other = (jv.restore_best(folder) for folder in (ours, theirs))
    assert one.step == other.step
    states = (jax.tree.leaves(nnx.state(each.model, (nnx.Param, nnx.BatchStat))) for each in (one, other))
    for a, b in zip(*states, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    one, other = (replace(jv.read_result(folder), name="", seconds=0, run_dir="") for folder in (ours, theirs))
    for part in ("train", "validation", "test"):
        assert getattr(one, part) == pytest.approx(getattr(other, part), rel=1e-4)
    empty = {"train": {}, "validation": {}, "test": {}, "phases": ()}
    assert replace(one, **empty) == replace(other, **empty)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two phases; in the second, which starts from the best of the first, the runs stop early, each in its time."""
    folder = tmp_path_factory.mktemp("many") / "all"
    results = together(folder)
    assert [result.seed for result in results] == [0, 1, 2]
    assert len({result.epochs for result in results}) > 1
    return folder


@pytest.mark.parametrize("seed", SEEDS)
def test_each_is_the_run_that_fit_makes(seed, folder, tmp_path):
    alone(tmp_path / "one", replace(RUN, seed=seed))
    assert_alike(folder / f"seed-{seed}", tmp_path / "one")
    assert not (folder / f"seed-{seed}" / "training").exists()
    environment = json.loads((folder / f"seed-{seed}" / "environment.json").read_text())
    assert (environment["together"], environment["seed"]) == (3, seed)
    assert jv.evaluate(folder / f"seed-{seed}", part="given", data=DATA["test"]) == pytest.approx(
        jv.read_result(folder / f"seed-{seed}").test, rel=1e-4
    )


def test_vmap_gives_the_same(tmp_path, monkeypatch):
    """What accelerators do. Not with Adam, which makes whole steps of what rounding leaves of gradients that are 0, as
    of biases before BatchNorm."""
    phase = replace(ONE_PHASE.phases[0], optimizer=jv.Optimizer("sgd", 0.05, momentum=0.9))
    run = replace(ONE_PHASE, phases=(phase,))
    monkeypatch.setattr(vectorize, "over_runs", lambda function, axes: jax.vmap(function, in_axes=axes))
    together(tmp_path / "many", run, seeds=(3, 4))
    alone(tmp_path / "one", replace(run, seed=4))
    assert_alike(tmp_path / "many/seed-4", tmp_path / "one")


@pytest.mark.slow
def test_numbers_may_differ(tmp_path):
    run = replace(ONE_PHASE, model=jv.Model("convnet-mnist", {"features": (4,), "dropout": 0.3}))
    arms = {
        "base": {},
        "slow": {"phases.0.optimizer.learning_rate": 1e-3, "phases.0.optimizer.weight_decay": 0.1},
        "smooth": {"loss.label_smoothing": 0.2, "model.options.dropout": 0.0, "ema_decay": 0.5},
    }
    together(tmp_path / "many", run, seeds=(5,), arms=arms)
    for name in ("slow", "smooth"):
        config = tmp_path / f"many/{name}/seed-5/config.json"
        alone(tmp_path / name, replace(jv.from_json(config.read_text(), where=str(config)), name="alone"))
        assert_alike(tmp_path / f"many/{name}/seed-5", tmp_path / name)
    ours = [lines(tmp_path / f"many/{name}/seed-5")[-1]["train/loss"] for name in arms]
    assert len(set(ours)) == 3


FIELDS = {
    "ema_decay": (0.5, 0.9), "loss.label_smoothing": (0.0, 0.3), "phases.0.groups.0.learning_rate_scale": (0.1, 2.0),
    "phases.0.optimizer.beta_1": (0.9, 0.5), "phases.0.optimizer.beta_2": (0.999, 0.9),
    "phases.0.optimizer.clip_norm": (0.01, 0.1), "phases.0.optimizer.epsilon": (1e-7, 0.1),
    "phases.0.optimizer.learning_rate": (0.01, 0.1), "phases.0.optimizer.momentum": (0.5, 0.9),
    "phases.0.optimizer.rho": (0.9, 0.5), "phases.0.optimizer.weight_decay": (0.0, 0.5),
    "phases.0.schedule.final_scale": (0.1, 0.9),
}  # fmt: skip


def test_every_field_that_may_vary_is_tried():
    assert {field.replace(".0", ".*") for field in FIELDS} == set(VARIED)


@pytest.mark.parametrize("field", FIELDS)
def test_a_number_as_an_argument_trains_as_the_number_written_down(field):
    name = "adam" if "beta" in field else "sgd" if "clip" in field or "final" in field else "rmsprop"
    phase = jv.Phase(
        epochs=1,
        optimizer=jv.Optimizer(name, 0.05, momentum=0.5 if "momentum" in field else 0.0, clip_norm=0.1),
        schedule=jv.Schedule("cosine", final_scale=0.5),
        groups=(jv.Group("head", 0.5),),
    )
    run = jv.Run(model=jv.Model("dense-mnist", {"features": (8,)}), phases=(phase,), ema_decay=0.5)
    runs = [with_numbers(run, {field: value}) for value in FIELDS[field]]
    model = create_model("dense-mnist", (8, 8, 1), 3, features=(8,))
    rng = np.random.default_rng(0)
    pictures, labels = rng.integers(0, 256, (20, 8, 8, 1)).astype(np.uint8), rng.integers(0, 3, 20).astype(np.int32)
    rows = rng.integers(0, 20, (2, 6, 5)).astype(np.int32)

    def step(run: jv.Run):
        from jaxvision.train.freeze import scale_groups, select

        selection = select(model, run.phases[0])
        optimizer, _ = make_optimizer(run.phases[0], 6, scale_groups(model, selection, run.phases[0].groups))
        task = make_task(run, 3)
        graph, state = init_state(model, optimizer, task, ema=True, trained=selection)
        return make_train_step(graph, task, optimizer, run, 3, from_pictures), state

    numbers, mesh = alike([ModelCard(each, (), (8, 8, 1), 3) for each in runs]).numbers, member_mesh(1, 2)
    assert list(numbers.fields) == [field]
    state = stack([step(each)[1] for each in runs], mesh)
    state, losses = train_stretches(lambda n: step(n.run(run))[0], numbers, mesh)(
        state, Stretch(pictures, labels, rows)
    )
    ends = []
    for number, each in enumerate(runs):
        train_step, begin = step(each)
        end, expected = make_train_stretch(train_step)(begin, Stretch(pictures, labels, rows[number]))
        np.testing.assert_allclose(losses[number], expected, rtol=1e-5)
        for ours, theirs in zip(
            *(jax.tree.leaves((s.params, s.ema)) for s in (member_of(state, number), end)), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
        ends.append(np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves((end.params, end.ema))]))
    assert np.abs(ends[0] - ends[1]).max() > 1e-4  # the number does something


@pytest.mark.parametrize("seeds", [(3,), pytest.param((3, 4), marks=pytest.mark.slow)])
def test_a_run_that_fails_does_not_take_the_others_with_it(seeds, tmp_path):
    smooth, rate = {"loss.label_smoothing": 0.2}, "phases.0.optimizer.learning_rate"
    # The others go on with their own numbers and their own order of examples: one alone, or two together.
    arms = {"bad": {rate: 1e30}, "good": {rate: 0.02, **smooth}}
    with pytest.raises(
        NonFiniteLossError, match=rf"{len(seeds)} of {2 * len(seeds)} runs failed, the others are"
    ) as told:
        together(tmp_path / "many", ONE_PHASE, seeds=seeds, arms=arms)
    assert "bad/seed-3: " in str(told.value)
    alone(tmp_path / "one", changed(replace(ONE_PHASE, seed=3), arms["good"], "test"))
    assert_alike(tmp_path / "many/good/seed-3", tmp_path / "one")
    assert not (tmp_path / "many/bad/seed-3/result.json").exists()
    last = lines(tmp_path / "many/bad/seed-3")[-1:]
    assert not last or any(value is None or not math.isfinite(value) for value in last[0].values())


@pytest.mark.parametrize("step", [pytest.param(2, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow), 13])
def test_stopped_and_resumed_together_they_come_to_the_same_bits(step, folder, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(patch, step, signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match=rf"after step {step}.*Go on with: fit_many\(.*resume=True"):
            together(tmp_path / "many")
    results = together(tmp_path / "many", resume=True)
    assert [result.epochs for result in results] == [jv.read_result(folder / f"seed-{seed}").epochs for seed in SEEDS]
    for seed in SEEDS:
        name = f"seed-{seed}/metrics.jsonl"
        assert (tmp_path / "many" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.slow
def test_members_that_stand_elsewhere_are_gone_on_with_too(tmp_path, monkeypatch):
    """One has not begun, one is finished, two stand at different steps."""
    runs = {seed: replace(ONE_PHASE, seed=seed, name=f"small/seed-{seed}") for seed in range(4)}
    whole = tmp_path / "whole"
    for seed in (0, 1, 2):
        alone(whole / f"seed-{seed}", runs[seed])
    alone(tmp_path / "many/seed-0", runs[0])
    for seed, step in ((1, 2), (2, 5)):
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            with pytest.raises(KeyboardInterrupt):
                alone(tmp_path / f"many/seed-{seed}", runs[seed])
    together(tmp_path / "many", ONE_PHASE, seeds=range(4), resume=True)
    for seed in (0, 1, 2):
        assert_alike(tmp_path / f"many/seed-{seed}", whole / f"seed-{seed}")
    assert jv.read_result(tmp_path / "many/seed-3").steps == 12


REFUSED = {
    "data.batch_size": ({"data.batch_size": 8}, r"^data.batch_size: runs that differ in it cannot be trained together"),
    "model": ({"model.options.features": [8]}, r"^model.options: .*more of their models than rates of dropout"),
    "width": ({"model.options.features": [4, 4]}, r"^model.options: .*features"),
    "clipping": ({"phases.0.optimizer.clip_norm": 0.5}, r"^phases.0.optimizer.clip_norm: runs that differ"),
    "streamed": ({}, r"^data.residence: .*Received: data.residence=stream"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_one_program_cannot_train_is_refused_before_anything_is_written(case, tmp_path):
    changes, message = REFUSED[case]
    run = replace(ONE_PHASE, model=jv.Model("convnet-mnist", {"features": (4,)}))
    if case == "streamed":
        run = replace(run, data=replace(run.data, residence="stream"))
    with pytest.raises(ConfigError, match=message):
        together(tmp_path / "many", run, arms={"base": {}, "other": changes})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"seeds: one or more, each once, such as range\(8\)\. Received: \(1, 1\)"):
        together(tmp_path / "many", run, seeds=(1, 1))
    for seeds, arms, said in ((3, None, "seeds: one or more.* Received: 3"), ((0,), {"": {}}, "arms: a name is part")):
        with pytest.raises(ConfigError, match=said):
            together(tmp_path / "many", run, seeds=seeds, arms=arms)
    (tmp_path / "many").mkdir()
    (tmp_path / "many/notes").touch()
    with pytest.raises(RunFolderError, match="not empty"):
        together(tmp_path / "many", run)


def test_a_run_without_dropout_has_the_layer_at_rate_0():
    cards = [
        ModelCard(jv.Run(model=jv.Model("convnet-dogs-vs-cats", options)), ("a", "b"), (180, 180, 3), 1)
        for options in ({}, {"dropout": 0.5}, {"dropout": 0.25})
    ]
    common = alike(cards)
    ((path, rates),) = common.numbers.rates.items()
    assert rates.tolist() == [0.0, 0.5, 0.25]
    assert vectorize.dropout_rates(common.model) == {path: 0.5}
    assert vectorize.dropout_rates(cards[0].build(abstract=True)) == {}
    seen = []

    def forward(model, *_):
        seen.append(vectorize.dropout_rates(model)[path])

    Numbers({}, {path: 0.125}).forward(forward)(common.model, None, True, None)
    assert seen == [0.125]
    assert vectorize.dropout_rates(common.model) == {path: 0.5}
