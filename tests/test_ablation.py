"""Ablations as values: what they expand to, what is refused, and the ones that are shipped."""

import itertools
import re
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxvision.ablation import Ablation, Factor
from jaxvision.config import Augment, Model, Phase, Run, Schedule
from jaxvision.errors import ConfigError
from jaxvision.experiments import list_ablations, list_experiments, load_ablation
from jaxvision.models import create_model
from jaxvision.serialize import check
from jaxvision.train.optimizer import make_optimizer
from jaxvision.train.state import init_state
from jaxvision.train.step import make_train_step
from jaxvision.train.task import make_task
from jaxvision.types import Batch

BASE = Run(
    name="group/study",
    augment=Augment(flip="both", rotation=0.1),
    model=Model("convnet-mnist", {"dropout": 0.3}),
    phases=(Phase(schedule=Schedule("cosine")),),
    seed=4,
)
PARTS = {"augmentation": {"augment": Augment()}, "dropout": {"model.options.dropout": 0.0}}
POOLING = Factor(
    {
        "max": {},
        "average": {"model.options.downsample": "average"},
        "stride": {"model.options.downsample": "stride"},
    }
)


def names(**changes):
    return [arm.name for arm in replace(Ablation(BASE, PARTS, "factorial"), **changes).arms()]


def test_designs():
    pooling = {"pooling": POOLING}
    cosine = {"cosine": {"phases.0.schedule.name": "constant"}}
    assert names() == ["all", "no-augmentation", "no-dropout", "no-augmentation+no-dropout"]
    assert names(factors={**PARTS, **cosine})[4:] == [
        "no-augmentation+no-dropout", "no-augmentation+no-cosine", "no-dropout+no-cosine",
        "no-augmentation+no-dropout+no-cosine",
    ]  # fmt: skip
    assert names(factors={**PARTS, **cosine}, design="leave-one-out") == [
        "all", "no-augmentation", "no-dropout", "no-cosine",
    ]  # fmt: skip
    assert names(factors={**cosine, **pooling}, design="one-at-a-time") == [
        "base", "no-cosine", "pooling=average", "pooling=stride",
    ]  # fmt: skip
    assert names(factors={**cosine, **pooling}, design="grid")[2:] == [
        "pooling=average", "pooling=stride", "no-cosine+pooling=average", "no-cosine+pooling=stride",
    ]  # fmt: skip


def test_arms_are_the_runs_they_say():
    arms = {arm.name: arm for arm in Ablation(BASE, PARTS, "factorial").arms()}
    assert arms["all"].run == replace(BASE, name="group/study/all")
    both = arms["no-augmentation+no-dropout"]
    assert both.run.augment == Augment()
    assert both.run.model.options == {"dropout": 0.0}
    assert both.run.phases == BASE.phases
    assert both.levels == {"augmentation": "without", "dropout": "without"}
    assert both.changes == {"augment.flip": "none", "augment.rotation": 0.0, "model.options.dropout": 0.0}
    assert arms["all"].changes == {}


def test_trials_take_the_seeds_in_turn():
    trials = Ablation(BASE, PARTS, "leave-one-out", seeds=2).trials()
    assert [(trial.arm, trial.seed) for trial in trials] == [
        (arm, seed) for seed in (4, 5) for arm in ("all", "no-augmentation", "no-dropout")
    ]
    assert [trial.run.seed for trial in trials] == [4, 4, 4, 5, 5, 5]
    assert trials[4].run.name == "group/study/no-augmentation/seed-5"


def test_the_first_level_may_name_what_is_so_by_default():
    """The base then says it too, so that arms differ in nothing else."""
    levels = {"max": {"model.options.downsample": "max"}, "none": {"model.options.downsample": "none"}}
    base, other = Ablation(BASE, {"pooling": Factor(levels)}, "grid").arms()
    assert base.run.model.options == {"dropout": 0.3, "downsample": "max"}
    assert other.changes == {"model.options.downsample": "none"}


def test_all_changes_hold_whatever_the_order_of_factors():
    """Another model starts from its own options, but not from those that another factor sets."""
    dropout = {"dropout": {"model.options.dropout": 0.0}}
    model = {"model": Factor({"conv": {}, "xc": {"model.name": "mini-xception"}})}
    expected = {
        repr(Model("convnet-mnist", {"dropout": 0.3})), repr(Model("convnet-mnist", {"dropout": 0.0})),
        repr(Model("mini-xception")), repr(Model("mini-xception", {"dropout": 0.0})),
    }  # fmt: skip
    for factors in (dropout | model, model | dropout):
        assert {repr(arm.run.model) for arm in Ablation(BASE, factors, "grid").arms()} == expected
    said = {"dropout": Factor({"some": {"model.options.dropout": 0.3}, "none": {"model.options.dropout": 0.0}})}
    arm = Ablation(BASE, said | model, "one-at-a-time").arms()[-1]
    assert arm.run.model == Model("mini-xception", {"dropout": 0.3})  # as its level `some` says


def test_what_first_levels_assume_of_the_model():
    levels = {"a": {"model.options.downsample": "stride", "model.options.dropout": 0.3}, "b": {"data.batch_size": 8}}
    assert list(Ablation(BASE, {"f": Factor(levels)}, "grid").assumed()) == [("f", "a", "downsample", "stride")]


def test_many_arms_and_too_many_seeds_are_soon_told():
    values = [round(0.01 * n, 2) for n in range(12)]
    factors = {
        field: Factor({f"l{value}": {f"augment.{field}": value} for value in values})
        for field in ("rotation", "zoom", "translation")
    }
    begin = time.process_time()
    arms = Ablation(Run(), factors, "grid", seeds=1).arms()
    assert len(arms) == 12**3
    with pytest.raises(ConfigError, match=r"9,000,000 trials, more than 10,000.*3 arms, 3,000,000 seeds"):
        Ablation(BASE, PARTS, "leave-one-out", seeds=3_000_000).trials()
    assert time.process_time() - begin < 10


def test_another_model_starts_from_its_own_options():
    factors = {"xception": {"model.options.features": (8, 16), "model.name": "mini-xception"}}
    other = Ablation(BASE, factors, "grid").arms()[1].run
    assert other.model == Model("mini-xception", {"features": (8, 16)})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"factors": {"f": {"augment.rotatoin": 0.0}}},
         "factor 'f', level 'without': augment.rotatoin: unknown field. Did you mean 'rotation'"),
        ({"factors": {"f": {"modle.options.dropout": 0.0}}}, "modle: unknown field. Did you mean 'model'"),
        ({"factors": {"f": {"batch_size": 3}}}, "batch_size: unknown field. Did you mean 'data.batch_size'"),
        ({"factors": {"f": {"augment.rotation": "x"}}}, "augment.rotation: must be a valid number. Received: 'x'"),
        ({"factors": {"f": {"augment.rotation": float("nan")}}}, "augment.rotation"),
        ({"factors": {"f": {"augment": object()}}}, "factor 'f', level 'without': values must be what JSON can hold"),
        ({"factors": {"f": {"phases.1.epochs": 3}}}, "phases.1.epochs: there are numbers 0 to 0. Received: '1'"),
        ({"factors": {"f": {"seed": 3}}}, "seed: is not for a factor to change"),
        ({"factors": {"f": {"augment.rotation": 0.1}}}, "'f', level 'without': changes nothing of the base"),
        ({"factors": {"f": Factor({"a": {"augment.rotation": 0.2}, "b": {}})}},
         "level 'a': the first level is the base's, and the base has augment.rotation 0.1. Received: 0.2"),
        ({"factors": {"f": Factor({"a": {}})}}, "factor 'f': needs at least two levels. Received: a"),
        ({"factors": {"f": POOLING}}, "design factorial takes factors of two levels; take grid"),
        ({"factors": {"f": POOLING}, "design": "leave-one-out"}, "take one-at-a-time"),
        ({"factors": {"f=2": PARTS["dropout"]}}, "factor 'f=2': a name is a text of letters"),
        ({"factors": {"f": PARTS["dropout"], "F": PARTS["augmentation"]}}, "letter case alone"),
        ({"factors": {"f": Factor({"a": {}, 5: {"data.batch_size": 5}})}}, "level 5: a name is a text of letters"),
        ({"factors": {"f": None}}, "factor 'f', level 'without': changes are {field: value}. Received: None"),
        ({"factors": {"f": {"augment": Augment()}, "g": {"augment.rotation": 0.2}}},
         "factors 'f' and 'g' both set augment.rotation"),
        ({"factors": {"f": Factor({"a": {"phases": (Phase(schedule=Schedule("cosine")), Phase())}, "b": {}})}},
         "level 'a': the first level is the base's, and the base has phases.1.epochs none. Received: 5"),
        ({"factors": {"f": Factor({"a": {"model.options": {}}, "b": {}})}},
         "the base has model.options.dropout 0.3. Received: none"),
        ({"factors": ["x"]}, "factors are {name: what is varied}. Received: \\['x'\\]"),
        ({"factors": {"f": Factor(["x"])}}, "factor 'f': levels are {level: changes}. Received: \\['x'\\]"),
        ({"factors": {"f": Factor(None)}}, "factor 'f': levels are {level: changes}. Received: None"),
        ({"factors": {"f": Factor({"a": {5: 1}, "b": {}})}}, "level 'a': changes are {field: value}. Received: {5: 1}"),
        ({"factors": {}}, "at least one factor"),
        ({"design": "factoral"}, "Did you mean 'factorial'"),
        ({"seeds": 0}, "seeds must be .* Received: 0"),
        ({"base": replace(BASE, name="..")}, "base: name"),
        ({"factors": {f"f{n}": {"data.batch_size": 1 + n} for n in range(14)}}, "49,152 trials.*2 x 2"),
    ],
)  # fmt: skip
def test_faults_are_named(changes, said):
    with pytest.raises(ConfigError, match=said):
        replace(Ablation(BASE, PARTS, "factorial"), **changes).arms()


FIELDS = ("augment.rotation", "augment.zoom", "data.batch_size", "model.options.dropout", "loss.label_smoothing")


@st.composite
def ablations(draw) -> Ablation:
    """Factors of levels that may be the same, so that combinations may give the same run."""
    design = draw(st.sampled_from(["factorial", "leave-one-out", "one-at-a-time", "grid"]))
    most = 1 if design in ("factorial", "leave-one-out") else 3
    factors = {}
    names = draw(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4, unique=True))
    for name, field in zip(names, draw(st.permutations(FIELDS)), strict=False):
        values = [2, 3, 4] if field == "data.batch_size" else [0.25, 0.5, 0.75]
        others = [{field: value} for value in draw(st.lists(st.sampled_from(values), min_size=1, max_size=most))]
        if len(others) == 1 and draw(st.booleans()):
            factors[name] = others[0]
        else:
            factors[name] = Factor({"l0": {}, **{f"l{n}": changes for n, changes in enumerate(others, 1)}})
    return Ablation(Run(name="x"), factors, design, seeds=draw(st.integers(1, 3)))


def fields_of(factor) -> tuple[str, list]:
    """The field that a factor varies, and its values but the base's."""
    changes = list(factor.levels.values())[1:] if isinstance(factor, Factor) else [factor]
    return next(iter(changes[0])), [next(iter(each.values())) for each in changes]


@settings(max_examples=60, deadline=None)
@given(ablations())
def test_expansion(ablation):
    arms, varied = ablation.arms(), [fields_of(factor) for factor in ablation.factors.values()]
    # The runs that there are, counted in another way: as assignments of values to fields.
    if ablation.design in ("factorial", "grid"):
        combinations = itertools.product(*([(field, value) for value in (None, *values)] for field, values in varied))
    else:
        combinations = [(), *(((field, value),) for field, values in varied for value in values)]
    assignments = {
        frozenset({field: value for field, value in each if value is not None}.items()) for each in combinations
    }
    assert len(arms) == len(assignments)
    assert {frozenset(arm.changes.items()) for arm in arms} == assignments
    assert arms[0].run == replace(ablation.base, name=arms[0].run.name)
    assert arms[0].name in ("all", "base")
    runs = [replace(arm.run, name="x") for arm in arms]
    assert not any(one == other for one, other in itertools.combinations(runs, 2))
    assert len({arm.name.casefold() for arm in arms}) == len(arms)
    assert all(re.fullmatch(r"[A-Za-z0-9.=+_-]+", arm.name) for arm in arms)
    trials = ablation.trials()
    assert len({trial.run.name for trial in trials}) == len(trials) == len(arms) * ablation.seeds
    assert all(check(trial.run) == trial.run for trial in trials)
    # The same value, the same names.
    assert [arm.name for arm in replace(ablation).arms()] == [arm.name for arm in arms]


def test_ablations_are_found_by_name_and_file(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from jaxvision.ablation import Ablation\nfrom jaxvision.experiments import load_run\n"
        "_BASE = load_run('digits')\nMINE = Ablation(_BASE, {'dropout': {'model.options.dropout': 0.0}}, 'grid')\n"
        '"""Whether dropout helps. Mine."""\n'
    )
    found = load_ablation(f"{file}:MINE")
    assert found == load_ablation(str(file))
    assert found.summary == "Whether dropout helps."
    with pytest.raises(ConfigError, match=r"say which ablation.*Did you mean 'MINE'"):
        load_ablation(f"{file}:MIEN")
    with pytest.raises(ConfigError, match=r"no ablation.*Did you mean 'mnist-parts'"):
        load_ablation("mnist-part")


SHIPPED = list_ablations()


def test_shipped_ablations_say_how_to_run_them_and_keep_clear_of_experiments():
    assert not set(SHIPPED) & set(list_experiments())
    for name, entry in SHIPPED.items():
        written = entry.file.read_text()
        assert re.search(rf"jaxvision ablate {re.escape(name)}(\s|$)", written), f"no command for {name}"


@pytest.mark.parametrize("name", SHIPPED)
def test_every_arm_of_the_shipped_takes_a_step(name):
    """As shapes alone."""
    arms = SHIPPED[name].ablation.arms()
    assert len(arms) >= 3
    for arm in arms:
        shapes = jax.eval_shape(lambda run=arm.run: a_step(run))
        assert shapes.shape == ()


def a_step(run: Run) -> jax.Array:
    """The loss of a training step on a batch of two."""
    size = run.data.image_size or (64, 64)
    height, width, channels = (28, 28, 1) if run.model.name == "convnet-mnist" else (*size, 3)
    segments = run.task == "segmentation"
    task = make_task(run, 3 if segments else 2)
    model = create_model(run.model.name, (height, width, channels), task.num_outputs, **run.model.options)
    optimizer, _ = make_optimizer(run.phases[0], 10)
    graph, state = init_state(model, optimizer, task, ema=run.ema_decay is not None)
    target = jnp.zeros((2, height, width), jnp.uint8) if segments else jnp.zeros(2, jnp.int32)
    batch = Batch(jnp.zeros((2, height, width, channels), jnp.uint8), target, np.ones(2, bool))
    return make_train_step(graph, task, optimizer, run, 3 if segments else 2)(state, batch)[1]
