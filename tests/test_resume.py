"""A run stopped anywhere ends as if it had never stopped: the same parameters, the same metrics.jsonl, bit for bit."""

import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from flax import nnx
from killed_runs import killed_run

import jaxvision as jv
from jaxvision.cli import main
from jaxvision.config import Model
from jaxvision.data.feed import ResidentFeed
from jaxvision.errors import DataError, RunFolderError, StoppedError
from jaxvision.models import model_options
from jaxvision.models.classifier import Classifier
from jaxvision.nn import BatchNorm, Chain, Conv, Dense, Dropout, Flatten, Rescaling
from jaxvision.train.checkpoint import BestCheckpoints, ModelCard, Saved
from jaxvision.train.deciding import FREE, differing_fields
from jaxvision.train.lock import RunLock
from jaxvision.train.log import RunLog
from jaxvision.train.pace import Pace
from jaxvision.train.resume import start_over
from jaxvision.train.state import TrainState
from jaxvision.train.training_state import Place, StoredState, TrainingStates

pytestmark = pytest.mark.usefixtures("kept_programs")


class Small(Classifier):
    """All that has a state of its own: BatchNorm's statistics, dropout's draws."""

    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        base = Chain(conv=Conv(1, 4, strides=2, rngs=rngs), norm=BatchNorm(4))
        head = Chain(flatten=Flatten(), dropout=Dropout(0.5), logits=Dense(4 * 6 * 6, num_classes, rngs=rngs))
        super().__init__(preprocessing=Rescaling(), base=base, head=head)


RNG = np.random.default_rng(0)
DATA = {
    name: (RNG.integers(0, 256, (count, 14, 14, 1)).astype(np.uint8), RNG.integers(0, 3, count).astype(np.int32))
    for name, count in (("train", 60), ("validation", 20), ("test", 20))
}
RUN = jv.Run(
    name="small",
    data=jv.Data(batch_size=16, image_size=None),
    model=jv.Model(f"{__name__}:Small"),
    augment=jv.Augment(flip="horizontal", rotation=0.1),
    phases=(
        jv.Phase(epochs=2, optimizer=jv.Optimizer("adam", learning_rate=0.01)),
        jv.Phase(
            epochs=4, optimizer=jv.Optimizer("sgd", momentum=0.9, learning_rate=0.05), schedule=jv.Schedule("cosine")
        ),
    ),
    evaluation=jv.Evaluation(every_steps=3),
    early_stop=jv.EarlyStop(patience=2),
    ema_decay=0.9,
    accumulate=2,
    log=jv.Log(tensorboard=False),
)
"""4 steps an epoch; the second phase starts from the best checkpoint of the first, and stops early."""


def fit(folder: Path, run: jv.Run = RUN, **options):
    return jv.fit(run, run_dir=folder, data=DATA, progress=False, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run, never stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    result = fit(folder)
    assert result.stop_reason == "early_stop"
    assert 4 < result.epochs < 6
    return folder


def stop_after(monkeypatch, step: int, number=signal.SIGTERM) -> None:
    """The signal comes while this step (counted in the process) is done."""
    done, count = 0, Pace.step

    def counting(self, *args, **kwargs):
        nonlocal done
        done += 1
        if done == step:
            signal.raise_signal(number)
        return count(self, *args, **kwargs)

    monkeypatch.setattr(Pace, "step", counting)


def stop_while_opening(monkeypatch) -> None:
    """The signal comes when the run's files are there, before its first step."""
    opened = RunLog.__init__

    def signalling(self, *args, **kwargs):
        opened(self, *args, **kwargs)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(RunLog, "__init__", signalling)


def stop_in_evaluation(monkeypatch, batch: int) -> None:
    """The signal comes before this batch (counted in the process) of the validation part."""
    seen, batches = 0, ResidentFeed.batches

    def counting(self, epoch, start=0):
        nonlocal seen
        for each in batches(self, epoch, start):
            seen += 1
            if seen == batch:
                signal.raise_signal(signal.SIGTERM)
            yield each

    monkeypatch.setattr(ResidentFeed, "batches", counting)


def assert_same(one: Path, other: Path) -> None:
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    ours, theirs = (jv.restore_best(folder) for folder in (one, other))
    assert (ours.step, ours.phase) == (theirs.step, theirs.phase)
    for a, b in zip(*(jax.tree.leaves(nnx.state(run.model)) for run in (ours, theirs)), strict=True):
        np.testing.assert_array_equal(a, b)
    a, b = ({**json.loads((folder / "result.json").read_text()), "seconds": 0} for folder in (one, other))
    assert a == b


@pytest.mark.parametrize(
    "stops",
    [
        (4,),  # with an epoch's last step, before its evaluation
        (3, 1, 1),  # with an evaluation between two epochs' ends; and again, and again
        (8,),  # with the last step of a phase
        (10, 5),  # within the second phase; and a later epoch of it
    ],
    ids=str,
)
def test_a_run_stopped_anywhere_ends_as_if_it_had_not(stops, whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    for stop in stops:
        with monkeypatch.context() as patch:
            stop_after(patch, stop)
            with pytest.raises(StoppedError, match="stopped by SIGTERM after step") as stopped:
                fit(folder, resume=True)
        assert f'run_dir="{folder}", data=..., resume=True' in str(stopped.value)
        assert not (folder / "result.json").exists()
    fit(folder, resume=True)
    assert_same(folder, whole)


@pytest.mark.parametrize("batch", [1, 4, 7])
def test_an_evaluation_is_not_waited_for(batch, whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"  # two batches an evaluation: between two epochs' ends, at an epoch's end, and later ones
    with monkeypatch.context() as patch:
        stop_in_evaluation(patch, batch)
        with pytest.raises(StoppedError, match=f"after step {(3, 4, 8)[batch // 3]};"):
            fit(folder)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == (batch - 1) // 2
    fit(folder, resume=True)
    assert_same(folder, whole)


def test_a_run_killed_between_saves_goes_on_from_the_last(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    saved, save = 0, TrainingStates.save

    def killed(self, place, state):
        nonlocal saved
        saved += 1
        if saved == 7:
            raise MemoryError("as if killed")
        save(self, place, state)

    monkeypatch.setattr(TrainingStates, "save", killed)
    # Every step is saved, and those steps' evaluations and best checkpoints are done again.
    eager = replace(RUN, checkpoint=jv.Checkpoint(every_minutes=0.0))
    with pytest.raises(MemoryError):
        fit(folder, eager)
    records = (folder / "metrics.jsonl").read_bytes()
    assert fit(folder, RUN, resume=True).seconds > 0
    assert (folder / "metrics.jsonl").read_bytes().startswith(records)
    assert_same(folder, whole)


def test_a_damaged_state_is_set_aside_and_the_one_before_it_used(whole, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    stop_after(monkeypatch, 6)
    with pytest.raises(StoppedError):
        fit(folder, replace(RUN, checkpoint=jv.Checkpoint(every_minutes=0.0)))
    monkeypatch.undo()
    newest = max((step for step in (folder / "training").iterdir()), key=lambda step: int(step.name))
    flip_a_bit(newest)
    fit(folder, resume=True)
    said = " ".join(capsys.readouterr().err.split())
    assert f"{newest}: damaged (" in said
    assert f": changed); set aside as damaged-{newest.name}" in said
    assert "goes on after step 5" in said
    assert_same(folder, whole)


def flip_a_bit(folder: Path) -> Path:
    """In the middle of the largest file of arrays."""
    largest = max(folder.glob("*/d/*"), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    return largest


PLACE = Place(
    phase=1, epoch=2, step=7, epochs=3, first_step=4, stopped=False, evaluating=True, best=(-math.inf, -0.25, 3),
    checkpoints=(Saved(0, 0.5, 4), Saved(1, None, 6)), records=5, records_sha256="0" * 64,
    seconds=1.5,
)  # fmt: skip


def tiny_state(value: float, width: int = 300) -> TrainState:
    params = nnx.State({"kernel": nnx.Param(jnp.full((width,), value)), "key": nnx.RngKey(jax.random.key(3))})
    return TrainState(jnp.asarray(7), params, nnx.State({}), (jnp.ones(2, jnp.bfloat16),), None, (), jax.random.key(0))


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing", "empty folder", "no manifest", "stray file"])
def test_states_are_checked_file_by_file(damage, tmp_path):
    with TrainingStates(tmp_path) as states:
        states.save(PLACE, tiny_state(1.0))
        states.save(replace(PLACE, step=9), tiny_state(2.0))
    newest = tmp_path / "training" / "2"
    file = next(file for file in (newest / "state" / "d").iterdir())
    if damage == "flipped":
        flip_a_bit(newest)
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-7])
    elif damage == "missing":
        file.unlink()
    elif damage == "empty folder":
        (newest.parent / "3").mkdir()
    elif damage == "no manifest":
        (newest / "MANIFEST.json").unlink()
    else:
        (newest / "extra").write_text("of another run")
    with TrainingStates(tmp_path) as states:
        stored, said = states.newest()
        assert len(said) == 1
        aside = 3 if damage == "empty folder" else 2
        assert f"training/{aside}: damaged (" in said[0]
        assert (newest.parent / f"damaged-{aside}").is_dir()
        whole = 2 if damage == "empty folder" else 1
        assert stored == StoredState(whole, replace(PLACE, step=9) if whole == 2 else PLACE)
        loaded = states.load(whole, tiny_state(0.0))
        for a, b in zip(*map(jax.tree.leaves, (loaded, tiny_state(float(whole)))), strict=True):
            assert a.dtype == b.dtype
            assert (a == b).all()
        with pytest.raises(RunFolderError, match=r"of another model, optimizer or version of the code"):
            states.load(whole, tiny_state(0.0, width=301))
        states.save(PLACE, tiny_state(4.0))
        assert states.newest()[0].number > whole


def test_a_damaged_best_checkpoint_is_not_used(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / str(jv.read_result(whole).best_step)
    changed = flip_a_bit(best)
    with pytest.raises(RunFolderError, match=f"{best}: damaged: {changed.relative_to(best)}: changed"):
        jv.restore_best(tmp_path / "run")
    shutil.rmtree(best)
    assert jv.restore_best(tmp_path / "run").phase != jv.restore_best(whole).phase


def stopped_after(folder: Path, step: int, monkeypatch, run: jv.Run = RUN) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, step)
        with pytest.raises(StoppedError):
            fit(folder, run)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_where_no_state_is_whole_nothing_is_thrown_away(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    stopped_after(folder, 6, monkeypatch)
    for manifest in folder.glob("training/*/MANIFEST.json"):
        manifest.write_text("5")
    best = contents(folder / "checkpoints")
    for _ in range(2):  # when they were set aside, too
        with pytest.raises(RunFolderError, match=r"no training state in it is whole.*remove .*training, and --resume"):
            fit(folder, resume=True)
    assert contents(folder / "checkpoints") == best
    assert (folder / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_a_damaged_best_checkpoint_is_told_before_hours_are_trained(damage, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    stopped_after(folder, 6, monkeypatch)
    best = next(folder.glob("checkpoints/*/MANIFEST.json")).parent
    flip_a_bit(best) if damage == "flipped" else shutil.rmtree(best)
    monkeypatch.setattr(Pace, "step", None)
    with pytest.raises(RunFolderError, match=f"{best}: damaged"):
        fit(folder, resume=True)


def test_what_a_state_needs_stays_until_a_later_one_is_saved(tmp_path, monkeypatch):
    """Killed after a better checkpoint was written and before the next state: the run goes on from the earlier best."""
    model = nnx.state(Small((14, 14, 1), 3, dtype=jnp.float32, rngs=nnx.Rngs(0)))
    card = ModelCard(replace(RUN, phases=RUN.phases[:1]), ("a", "b", "c"), (14, 14, 1), 3)

    def steps() -> set[str]:
        return {path.name for path in (tmp_path / "checkpoints").iterdir()}

    with BestCheckpoints(tmp_path, card) as checkpoints:
        checkpoints.save(Saved(0, 0.9, 1), model)
        checkpoints.save(Saved(0, 0.8, 2), model)
        assert steps() == {"2"}  # no state knows the first
        checkpoints.state_saved()
        kept = checkpoints.kept
        checkpoints.save(Saved(0, 0.7, 3), model)
        checkpoints.save(Saved(0, 0.6, 4), model)
        assert steps() == {"2", "4"}
    with BestCheckpoints(tmp_path, card) as checkpoints:
        checkpoints.resume(kept)
        assert steps() == {"2"}
        checkpoints.save(Saved(0, 0.5, 4), model)
        for expected in ({"2", "4"}, {"4"}):  # the newest state, and the one before it
            checkpoints.state_saved()
            assert steps() == expected
        checkpoints.save(Saved(0, 0.4, 6), model)
        checkpoints.finish()
        assert steps() == {"6"}


@pytest.mark.parametrize("change", ["a digit", "a line less", "no text"])
def test_the_log_is_checked_too(change, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    stopped_after(folder, 6, monkeypatch)
    log = folder / "metrics.jsonl"
    content = log.read_bytes()
    changed = {
        "a digit": content.replace(b'"step": 3', b'"step": 5'),
        "a line less": b"".join(content.splitlines(keepends=True)[1:]),
        "no text": b"\xff" + content[1:],
    }
    log.write_bytes(changed[change])
    with pytest.raises(RunFolderError, match=f"{log}: damaged"):
        fit(folder, resume=True)
    assert log.read_bytes() == changed[change]


def test_a_line_that_was_cut_off_does_not_spoil_the_next(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    stopped_after(folder, 6, monkeypatch)
    timing = folder / "timing.jsonl"
    lines = len(timing.read_text().splitlines())
    for log in (timing, folder / "metrics.jsonl"):
        log.write_bytes(log.read_bytes() + b'{"phase": 0, "epo')
    fit(folder, resume=True)
    assert_same(folder, whole)
    assert len([json.loads(line) for line in timing.read_text().splitlines()]) == jv.read_result(folder).epochs > lines


def test_a_run_that_another_process_finished_meanwhile_is_left_as_it_is(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    stopped_after(folder, 2, monkeypatch)
    prepare = sys.modules["jaxvision.train.fit"].prepare

    def slow(*arguments, **options):
        with monkeypatch.context() as patch:
            patch.setattr("jaxvision.train.fit.prepare", prepare)
            fit(folder, resume=True)
        before.update(contents(folder))
        return prepare(*arguments, **options)

    before: dict[Path, bytes] = {}
    monkeypatch.setattr("jaxvision.train.fit.prepare", slow)
    assert fit(folder, resume=True).epochs == jv.read_result(whole).epochs
    assert contents(folder) == before
    assert_same(folder, whole)


def test_a_fault_in_the_first_epoch_keeps_what_was_saved(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    batches = ResidentFeed.stretches

    def broken(self, *arguments, **options):
        for number, stretch in enumerate(batches(self, *arguments, **options)):
            if number == 2:
                raise DataError("a picture has vanished")
            yield stretch

    monkeypatch.setattr(ResidentFeed, "stretches", broken)
    with pytest.raises(DataError):
        fit(folder, replace(RUN, evaluation=jv.Evaluation()))
    assert not folder.exists()
    eager = replace(RUN, evaluation=jv.Evaluation(), checkpoint=jv.Checkpoint(every_minutes=0.0))
    with pytest.raises(DataError):
        fit(folder, eager)
    monkeypatch.undo()
    assert list(folder.glob("training/*/MANIFEST.json"))
    assert fit(folder, eager, resume=True).epochs > 4


def test_resume_begins_where_it_will_look_next_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "small").mkdir(parents=True)
    (tmp_path / "runs" / "small" / ".lock").touch()  # of a run killed at its very start
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            jv.fit(RUN, data=DATA, progress=False, resume=True)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["small"]
    (tmp_path / "runs" / "small" / "config.json").rename(tmp_path / "config.json")
    with pytest.raises(RunFolderError, match=r"its config.json is missing\. Bring it back"):
        jv.fit(RUN, data=DATA, progress=False, resume=True)


def test_what_changed_is_said(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    stopped_after(folder, 2, monkeypatch)
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["modules"].keys() == {__name__}  # the model's
    environment |= {
        "source": "0" * 64,
        "modules": {__name__: "1" * 64},
        "jax": {**environment["jax"], "jax_default_prng_impl": "rbg"},
    }
    (folder / "environment.json").write_text(json.dumps(environment))
    fit(folder, resume=True)
    said = " ".join(capsys.readouterr().err.split())
    assert "jax.jax_default_prng_impl: rbg -> threefry2x32" in said
    assert f"source: {'0' * 64} ->" in said
    assert f"modules.{__name__}: {'1' * 64} ->" in said


def test_an_option_left_out_is_its_default():
    """`--resume` of a run that a program began: the command line writes down all options of the model."""
    begun = jv.Run(model=Model("convnet-mnist", {"features": (4,)}))
    whole = replace(begun, model=Model("convnet-mnist", {**model_options("convnet-mnist"), "features": (4,)}))
    assert differing_fields(begun, whole, FREE) == []
    other = replace(whole, model=Model("convnet-mnist", {**whole.model.options, "dropout": 0.5}))
    assert differing_fields(begun, other, FREE) == ["model.options.dropout 0.0 there, 0.5 here"]


@pytest.mark.parametrize("thing", ["timing.jsonl", "curves.png", "tensorboard", "training", "checkpoints", ".lock"])
def test_something_else_in_the_place_of_a_file(thing, tmp_path, monkeypatch, capsys):
    """A folder where a file should be, and a file where a folder should be: told, and nothing is lost."""
    monkeypatch.chdir(tmp_path)
    folder = Path("run")
    run = replace(RUN, log=jv.Log(tensorboard=True))
    stopped_after(folder, 6, monkeypatch, run)
    place = folder / thing
    was_folder = place.is_dir()
    place.rename(tmp_path / "aside") if place.exists() else None
    place.write_text("a file") if was_folder else place.mkdir()
    before = {path: content for path, content in contents(folder).items() if path.name != "environment.json"}
    with pytest.raises(RunFolderError, match="run"):
        fit(folder, run, resume=True)
    if thing not in ("curves.png", "tensorboard"):
        assert {path: path.read_bytes() for path in before} == before


def test_a_stray_checkpoint_folder_is_passed_over(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "999").mkdir()
    with pytest.warns(UserWarning, match="999: no checkpoint of ours, passed over"):
        assert jv.restore_best(tmp_path / "run").step == jv.read_result(whole).best_step
    best = tmp_path / "run" / "checkpoints" / str(jv.read_result(whole).best_step)
    (best / "MANIFEST.json").unlink()
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "999")
    with pytest.warns(UserWarning, match=f"{best}: has no MANIFEST.json, so whether its files are as they were"):
        jv.restore_best(tmp_path / "run")


def test_a_finished_run_is_not_run_again(whole, monkeypatch):
    monkeypatch.setattr("jaxvision.train.prepared.open_dataset", None)  # not even the data is opened
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    assert fit(whole, resume=True).test == jv.read_result(whole).test
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_what_was_stopped_before_anything_was_saved_starts_over(whole, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"

    def out_of_memory(self, *args, **kwargs):
        if len((folder / "metrics.jsonl").read_text().splitlines()) == 2:
            raise MemoryError
        return count(self, *args, **kwargs)

    count = Pace.step
    with monkeypatch.context() as patch:
        patch.setattr(Pace, "step", out_of_memory)
        with pytest.raises(MemoryError):
            fit(folder)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    fit(folder, resume=True)
    assert "nothing was saved yet" in capsys.readouterr().err
    assert_same(folder, whole)


def test_a_run_is_resumed_as_what_it_is(whole, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(StoppedError):
            fit(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = replace(RUN, seed=7, phases=(replace(RUN.phases[0], epochs=3), RUN.phases[1]))
    with pytest.raises(RunFolderError, match=r"is of another run: .*seed 0 there, 7 here"):
        fit(folder, other, resume=True)
    images, labels = DATA["train"]
    with pytest.raises(RunFolderError, match="the data has changed since the run was begun"):
        jv.fit(RUN, run_dir=folder, data={**DATA, "train": (images[::-1], labels)}, progress=False, resume=True)
    with (
        RunLock(folder),
        pytest.raises(RunFolderError, match=rf"another process is at work in it \(number {os.getpid()}\)"),
    ):
        fit(folder, resume=True)
    with pytest.raises(RunFolderError, match="already there and not empty"):
        fit(folder)
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == {path: content for path, content in before.items() if path.name != ".lock"}
    fit(folder, replace(RUN, log=jv.Log(tensorboard=True)), resume=True)  # what is told of it may change
    assert_same(folder, whole)


def test_a_run_stopped_before_its_first_step(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_while_opening(patch)
        with pytest.raises(StoppedError, match="stopped by SIGTERM after step 1;"):
            fit(tmp_path / "run", resume=True)
    fit(tmp_path / "run", resume=True)
    assert_same(tmp_path / "run", whole)


def test_the_command_line_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flags = ["--data.limit-train", "64", "--data.limit-validation", "32", "--epochs", "2", "--run-dir", "run"]
    for number, code, step in ((signal.SIGINT, 130, 1), (signal.SIGTERM, 143, 2)):
        with monkeypatch.context() as patch:
            stop_after(patch, 1, number)
            assert main(["train", "digits", *flags, "--resume"]) == code
        said = capsys.readouterr().err
        assert f"stopped by {number.name} after step {step}" in said
    command = said[said.index("jaxvision train") :].split()
    assert command[1:] == ["train", "run/config.json", "--run-dir", "run", "--resume"]
    assert main(command[1:]) == 0
    assert "goes on after step 2" in capsys.readouterr().err
    assert jv.read_result("run").epochs == 2
    # Signals do again what they did before.
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own answer to Ctrl-C, which processes of pytest-xdist have switched off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_second_signal_stops_at_once(tmp_path, monkeypatch):
    stop_after(monkeypatch, 1, signal.SIGINT)
    monkeypatch.setattr(TrainingStates, "save", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt) as stopped:
        fit(tmp_path / "run")
    assert not isinstance(stopped.value, StoppedError)


def test_a_run_killed_in_its_first_save_can_start_over(tmp_path):
    """Nothing else removes the files of a save that was cut off while `start_over` does."""
    left = tmp_path / "training" / "1.orbax-checkpoint-tmp" / "place.orbax-checkpoint-tmp"
    for number in range(3000):
        (left / str(number % 30)).mkdir(parents=True, exist_ok=True)
        (left / str(number % 30) / str(number)).touch()
    with TrainingStates(tmp_path, alone=True) as states:
        assert states.newest() == (None, [])
    time.sleep(1)
    assert sum(path.is_file() for path in left.rglob("*")) == 3000
    start_over(epath.Path(tmp_path))
    assert not (tmp_path / "training").exists()


@pytest.mark.slow
def test_a_process_killed_again_and_again_ends_the_same(shared_data, tmp_path, monkeypatch):
    """SIGKILL at moments of its own choosing, in saves too."""
    monkeypatch.syspath_prepend(tmp_path)  # the run's model is in a module there
    killed = killed_run(shared_data, tmp_path, kills=6, seed=0)
    assert killed.in_saves >= 1
    assert_same(tmp_path / "killed", tmp_path / "whole")
