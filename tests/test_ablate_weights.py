"""What a result owes to each block: networks of known answers, all tasks, the command and its figure."""

import itertools
import json
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx
from predicted_runs import finished_run

import jaxvision as jv
from jaxvision.cli import main
from jaxvision.config import Data, Model, Run
from jaxvision.errors import ConfigError, DataError
from jaxvision.explain import ablate_weights as module
from jaxvision.explain.ablate_weights import ablate_weights, model_blocks, replaced, zeroed
from jaxvision.explain.chance import chance_level
from jaxvision.figures.ablation import plot_ablation
from jaxvision.models import abstract_model
from jaxvision.models.classifier import Classifier
from jaxvision.nn import BatchNorm, Chain, Conv, Dense, GlobalAveragePool, Rescaling, Residual
from jaxvision.train.checkpoint import BestCheckpoints, ModelCard, Saved, restore_best
from jaxvision.train.folder import write_config
from jaxvision.types import IGNORE

pytestmark = pytest.mark.usefixtures("kept_programs")

BLOCKS = ["base/stem", "base/branch", "base/norm", "head/logits"]


class Bright(Classifier):
    """Whether a picture is bright, once its values are those of `learned`. Layers run in no order of the alphabet."""

    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        branch = Residual(conv=Conv(2, 2, 3, padding="SAME", rngs=rngs), bn=BatchNorm(2))
        base = Chain(stem=Conv(input_shape[-1], 2, 1, rngs=rngs), branch=branch, norm=BatchNorm(2))
        head = Chain(average=GlobalAveragePool(), logits=Dense(2, num_classes, rngs=rngs))
        super().__init__(preprocessing=Rescaling(), base=base, head=head)


def learned(model: Bright) -> nnx.State:
    """stem: v and 1 - v of a pixel v, 0..1. branch: adds nothing. norm: both less 1/2. logits: 8 times their
    difference."""
    stem, branch, norm, logits = model.base.stem, model.base.branch, model.base.norm, model.head.logits
    for variable, value in (
        (stem.kernel, [[[[1.0, -1.0]]]]), (stem.bias, [0.0, 1.0]),
        (branch.conv.kernel, np.zeros((3, 3, 2, 2))), (branch.bn.mean, [0.0, 0.0]), (branch.bn.var, [3.0, 3.0]),
        (norm.mean, [0.5, 0.5]), (norm.var, [0.999, 0.999]),
        (logits.kernel, [[8.0], [-8.0]]), (logits.bias, [0.0]),
    ):  # fmt: skip
        variable[...] = np.asarray(value, np.float32)
    return nnx.state(model)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run of `Bright` with 12 pictures to validate on, 9 dark and 3 bright."""
    folder = tmp_path_factory.mktemp("ablate")
    rng = np.random.default_rng(0)
    target = np.array([0, 0, 0, 1] * 3)
    pictures = rng.integers(0, 100, (12, 6, 6, 1)) + 150 * target[:, None, None, None]
    parts = {"inputs": pictures.astype(np.uint8), "target": target.astype(np.int32)}
    arrays = {f"{part}_{name}": array for part in ("train", "validation") for name, array in parts.items()}
    np.savez(folder / "data.npz", **arrays, class_names=np.array(["dark", "bright"]))
    data = Data(source="npz", path=str(folder / "data.npz"), batch_size=5)
    run = Run(name="bright", data=data, model=Model(f"{__name__}:Bright"), seed=4)
    card = ModelCard(run, ("dark", "bright"), (6, 6, 1), 1)
    with BestCheckpoints(folder / "run", card) as checkpoints:
        checkpoints.save(Saved(phase=0, value=1.0, step=1), learned(card.build()))
    write_config(folder / "run", run)
    return folder / "run"


def flat(variables) -> dict[str, np.ndarray]:
    return {"/".join(map(str, path)): np.array(value[...]) for path, value in nnx.to_flat_state(variables)}


def changed(before, after) -> set[str]:
    return {name for name, value in flat(before).items() if not np.array_equal(value, flat(after)[name])}


def test_a_block_is_owed_what_is_lost_without_it(run_dir):
    found = ablate_weights(run_dir, progress=False)
    assert (found.part, found.examples, found.headline, found.seeds) == ("validation", 12, "accuracy", ())
    assert found.intact == jv.evaluate(run_dir, part="validation")
    assert found.intact["accuracy"] == 1.0
    assert found.chance == 0.75
    assert [block.name for block in found.blocks] == BLOCKS
    assert [block.parameters for block in found.blocks] == [4, 36 + 2 + 4, 4, 3]
    stem, branch, norm, logits = found.blocks
    # The branch adds nothing to begin with; without any other the logit is 0, which means dark.
    assert branch.metrics == (found.intact,)
    assert branch.difference == 0
    for block in (stem, norm, logits):
        assert (block.mean, block.std, block.difference) == (0.75, None, -0.25)
        assert block.metrics[0]["loss"] == pytest.approx(np.log(2), rel=1e-6)


def test_a_block_drawn_anew_is_that_of_a_fresh_model(run_dir):
    found = ablate_weights(run_dir, how="random", seeds=2, progress=False)
    assert found == ablate_weights(run_dir, how="random", seeds=2, progress=False)
    assert found.seeds == (5, 6)
    stem, _, norm, logits = found.blocks
    assert stem.metrics[0] != stem.metrics[1]
    values = [metrics["accuracy"] for metrics in logits.metrics]
    assert logits.mean == pytest.approx(np.mean(values))
    assert logits.std == pytest.approx(np.std(values, ddof=1))
    # A fresh norm is one of mean 0 and variance 1: the difference of its two outputs, and the decision, stay.
    assert norm.mean == 1.0
    restored = restore_best(run_dir)
    card = replace(restored.card, run=replace(restored.card.run, seed=6))
    restored.model.base.stem = card.build().base.stem
    with_other = loss_and_accuracy(restored.model, run_dir)
    assert stem.metrics[1] == pytest.approx(with_other, rel=1e-6)


def loss_and_accuracy(model, run_dir) -> dict[str, float]:
    """Loss and accuracy on the run's validation part, computed here."""
    arrays = np.load(run_dir.parent / "data.npz")
    logits = np.asarray(model(arrays["validation_inputs"], train=False))[:, 0]
    target = arrays["validation_target"]
    losses = np.logaddexp(0, np.where(target == 1, -logits, logits))
    return {"loss": losses.mean(), "accuracy": ((logits > 0) == target).mean()}


@pytest.mark.parametrize(
    ("block", "zeros", "anew"),
    [
        ("base/stem", {"base/stem/kernel", "base/stem/bias"}, {"base/stem/kernel", "base/stem/bias"}),
        # Statistics become those of a fresh model with the layer's parameters, here 1 and 0 already.
        ("base/norm", {"base/norm/scale"}, {"base/norm/mean", "base/norm/var"}),
        ("norm/scale", {"base/norm/scale"}, set()),
        ("branch", {"base/branch/bn/scale"}, {"base/branch/conv/kernel", "base/branch/bn/var"}),
        ("branch/conv", set(), {"base/branch/conv/kernel"}),
        ("*/kernel+norm",
         {"base/stem/kernel", "base/norm/scale", "head/logits/kernel"},
         {"base/stem/kernel", "base/branch/conv/kernel", "head/logits/kernel", "base/norm/mean", "base/norm/var"}),
    ],
)  # fmt: skip
def test_only_the_block_changes_and_the_restored_model_never(block, zeros, anew, run_dir):
    restored = restore_best(run_dir)
    _, variables = nnx.split(restored.model)
    before = flat(variables)
    params = module._named(restored.model, block)
    without = zeroed(variables, params)
    assert changed(variables, without) == zeros
    assert all((flat(without)[name] == 0).all() for name in zeros)
    fresh = nnx.state(restored.card.build())
    drawn = replaced(variables, params, fresh)
    assert changed(variables, drawn) == anew
    assert all(np.array_equal(flat(drawn)[name], flat(fresh)[name]) for name in anew)
    assert all(np.array_equal(before[name], value) for name, value in flat(nnx.state(restored.model)).items())


def test_blocks_are_patterns_and_all_that_one_matches_goes_together(run_dir):
    names = ("base[-2:]", "branch", "head+branch", "branch")
    found = ablate_weights(run_dir, blocks=names, part="train", progress=False)
    assert [(block.name, block.parameters) for block in found.blocks] == [
        ("base[-2:]", 46),
        ("branch", 42),
        ("head+branch", 45),
    ]
    assert [block.difference for block in found.blocks] == [-0.25, 0, -0.25]


def test_the_evaluation_is_compiled_once(run_dir, monkeypatch):
    steps = []
    make = module.make_eval_step
    monkeypatch.setattr(module, "make_eval_step", lambda *args: steps.append(make(*args)) or steps[-1])
    ablate_weights(run_dir, how="random", seeds=2, progress=False)
    ablate_weights(run_dir, progress=False)
    assert [step._cache_size() for step in steps] == [1, 1]


@pytest.mark.parametrize("name", ["resnet50", "residual-convnet"])
def test_blocks_come_in_the_order_they_run(name):
    model = abstract_model(name, (64, 64, 3), 5)
    blocks = model_blocks(model, (64, 64, 3))
    with_params = {
        (part, layer)
        for part in ("base", "head")
        for layer in getattr(model, part).names
        if jax.tree.leaves(nnx.state(getattr(getattr(model, part), layer), nnx.Param))
    }
    in_order = [(part, layer) for part in ("base", "head") for layer in getattr(model, part).names]
    assert list(blocks) == ["/".join(block) for block in in_order if block in with_params]
    everything = {path for path, _ in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    assert sorted(map(str, frozenset().union(*blocks.values()))) == sorted(map(str, everything))
    assert sum(map(len, blocks.values())) == len(everything)


@pytest.mark.parametrize("task", ["multilabel", "segmentation"])
def test_other_tasks_and_models_without_base_and_head(task, tmp_path):
    """`Levels`, whose pictures are all the same to it without its kernel: then the answer is dark."""
    run = finished_run(tmp_path / task, task)
    brightness = np.array([0, 20, 30, 128, 255, 10, 15])
    pictures = np.broadcast_to(brightness[:, None, None, None], (7, 12, 18, 3)).astype(np.uint8)
    level = np.array([0, 0, 0, 1, 2, 0, 0])
    if task == "multilabel":
        target, chance = np.eye(3, dtype=np.float32)[level], (5 / 7 + 1 / 7 + 1 / 7) / 3
    else:
        target = np.broadcast_to(level[:, None, None], (7, 12, 18)).astype(np.uint8)
        chance = 5 / 7 / 3
    found = ablate_weights(run, data=(pictures, target), progress=False)
    assert found.intact == jv.evaluate(run, data=(pictures, target))
    assert found.headline == {"multilabel": "average_precision", "segmentation": "mean_iou"}[task]
    assert found.intact[found.headline] == 1.0
    assert {block.name: block.parameters for block in found.blocks} == {"kernel": 3, "levels": 3}
    kernel = found.blocks[0]
    assert found.chance == pytest.approx(chance)
    assert kernel.mean == pytest.approx(chance)


def test_chance_level_leaves_out_what_does_not_count():
    assert chance_level(np.array([2, 2, 1, 0]), 4) == 0.5
    assert chance_level(np.array([[1, 0, 0], [1, 1, 0]], np.float32), 3) == 0.75
    masks = np.full((100, 2, 2), IGNORE, np.uint8)
    masks[:, 0] = 1
    masks[:50, 1, 0] = 3
    assert chance_level(masks, 5) == pytest.approx(200 / 250 / 2)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"blocks": ("stm",)}, ConfigError, "blocks: no parameter.* Did you mean 'stem'.*Received: 'stm'"),
        ({"blocks": ("head+bse[1:]",)}, ConfigError, "blocks: no chain of layers called 'bse'"),
        ({"part": "test"}, ConfigError, "no part 'test'.*train, validation"),
        ({"how": "half"}, ConfigError, "how: must be zero or random. Received: 'half'"),
        ({"seeds": 0}, ConfigError, "seeds: must be at least 1"),
        ({"limit": 13}, ConfigError, "limit: the validation part has 12 examples. Received: 13"),
        ({"limit": 0}, ConfigError, "limit: must be at least 1"),
        ({"data": Data(source="npz", path="gone.npz")}, DataError, "gone.npz"),
    ],
)
def test_wrong_arguments_are_told(arguments, error, said, run_dir):
    with pytest.raises(error, match=said):
        ablate_weights(run_dir, progress=False, **arguments)


def test_the_command_writes_a_table_a_figure_and_json(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(run_dir), "--part", "validation", "--data.limit-validation", "7", "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    intact = evaluated["accuracy"]
    command = ["ablate-weights", str(run_dir), "--limit", "7"]
    assert main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run, each block set to 0: validation, 7 examples"
    assert lines[2].split() == ["intact", f"{intact:.4f}"]
    assert lines[4].split() == ["base/branch", "42", f"{intact:.4f}", "+0.0000"]
    assert [line.split()[0] for line in lines[3:7]] == BLOCKS
    assert lines[-1] == "in ablate-weights: ablate-weights.json, ablate-weights.png"
    document = json.loads((tmp_path / "ablate-weights" / "ablate-weights.json").read_text())
    assert document["intact"] == {name: evaluated[name] for name in ("loss", "accuracy")}
    assert [block["name"] for block in document["blocks"]] == BLOCKS
    assert (tmp_path / "ablate-weights" / "ablate-weights.png").read_bytes().startswith(b"\x89PNG")
    more = ["--how", "random", "--seeds", "2", "--block", "head", "stem", "--block", "norm", "--json"]
    assert main([*command, *more]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "ablate-weights-2" / "ablate-weights.json").read_text())
    assert [(block["name"], len(block["metrics"])) for block in printed["blocks"]] == [
        ("head", 2),
        ("stem", 2),
        ("norm", 2),
    ]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--block", "hed"], "Did you mean 'head'"),
        (["--part", "test"], "no part 'test'"),
        (["--data.path", "gone.npz"], "gone.npz"),
        (["--seeds", "2"], "--seeds: goes with --how random"),
        (["--how", "half"], "half"),
        (["--data.batch-size", "0"], "data.batch_size"),
        (["--out", "full"], "already there; nothing is written over"),
    ],
)
def test_the_command_refuses_and_writes_nothing(flags, said, run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "ablate-weights.json").write_text("mine")
    assert main(["ablate-weights", str(run_dir), *flags]) == 2
    assert said in capsys.readouterr().err
    assert [file.name for file in tmp_path.rglob("*")] == ["full", "ablate-weights.json"]
    assert (tmp_path / "full" / "ablate-weights.json").read_text() == "mine"


def test_the_command_wants_a_run(capsys):
    assert main(["ablate-weights"]) == 2
    assert "the run folder comes first: jaxvision ablate-weights RUN" in capsys.readouterr().err
    assert main(["ablate-weights", "--help"]) == 0


@pytest.mark.parametrize(("count", "seeds"), [(1, 1), (4, 3), (65, 2)])
def test_the_figure_names_every_block_and_cuts_none(count, seeds):
    rng = np.random.default_rng(count)
    names = [f"base/stage{number}_of_$some$_network/conv" for number in range(count - 1)] + ["_logits"]
    values = {name: rng.uniform(0.2, 1.0, seeds).tolist() for name in names}
    title = "short" if count > 1 else "long-name-of-a-run-0, each block drawn anew 3 times: validation, 10,000 examples"
    figure = plot_ablation(values, title, metric="accuracy", intact=0.93, chance=0.5)
    figure.canvas.draw()
    axes, right = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert [label.get_text()[:5] for label in right.get_yticklabels()] == [f"{np.mean(v):.3f}" for v in values.values()]
    drawn = figure.get_tightbbox()
    assert drawn.x0 >= 0
    assert drawn.y0 >= 0
    assert drawn.x1 <= figure.get_figwidth()
    assert drawn.y1 <= figure.get_figheight()
    assert axes.get_window_extent().width >= 3 * figure.dpi
    heights = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(heights))
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert np.allclose(ends, [(0.93, np.mean(each)) for each in values.values()])
