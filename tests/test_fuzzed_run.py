"""Run folders with a byte changed somewhere, cut short, lost or doubled: never a wrong restore, never a traceback."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxvision as jv
from jaxvision.errors import UserError
from jaxvision.train.folder import read_config, read_metrics
from jaxvision.train.result import Result, read_result
from jaxvision.train.resume import require_same_run, take_up
from jaxvision.train.state import TrainState
from jaxvision.train.training_state import Place, TrainingStates

pytestmark = pytest.mark.usefixtures("kept_programs")

KINDS = ("flip", "cut", "empty", "lose", "random", "double", "nul")


class Stopped(NamedTuple):
    """A run with a best checkpoint and two training states; states: all that were saved, by place."""

    folder: Path
    states: dict[Place, TrainState]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Stopped:
    folder, states = tmp_path_factory.mktemp("runs") / "stopped", {}
    run = jv.load_run("digits")
    run = replace(
        run,
        data=replace(run.data, limit_train=96, limit_validation=32, limit_test=32),
        phases=(jv.Phase(epochs=2),),
        checkpoint=jv.Checkpoint(every_minutes=0.0),
        log=jv.Log(tensorboard=False),
    )
    save = TrainingStates.save

    def kept(self: TrainingStates, place: Place, state: TrainState) -> None:
        states[place] = jax.tree.map(jnp.copy, state)
        save(self, place, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingStates, "save", kept)
        patch.setattr(TrainingStates, "remove", lambda self: None)
        jv.fit(run, run_dir=folder, progress=False)
    return Stopped(folder, states)


def damage(file: Path, kind: str, where: float, value: int) -> None:
    content = bytearray(file.read_bytes())
    place = min(int(where * len(content)), max(len(content) - 1, 0))
    if kind == "lose":
        file.unlink()
    elif kind == "double":
        shutil.copy(file, file.with_name(f"{file.name}2"))
    elif kind == "cut":
        file.write_bytes(content[:place])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "random":
        file.write_bytes(np.random.default_rng(value).bytes(len(content)))
    elif kind == "nul":
        file.write_bytes(bytes(len(content)))
    elif content:
        content[place] ^= value
        file.write_bytes(content)


def model_bits(folder: Path) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(nnx.state(jv.restore_best(folder).model))]


def is_resumed_right(
    folder: Path, stopped: Path, run: jv.Run, fingerprint: str, states: dict[Place, TrainState]
) -> bool:
    """Whether the run would go on from what it had at one of the last two saves, to the bit."""
    log = (stopped / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    stored = take_up(folder, run, fingerprint)
    assert stored is not None
    assert stored.place in list(states)[-2:]
    with TrainingStates(folder) as training:
        loaded = training.load(stored.number, states[stored.place])
    pairs = zip(jax.tree.leaves(loaded), jax.tree.leaves(states[stored.place]), strict=True)
    records = (folder / "metrics.jsonl").read_bytes()
    return records == b"".join(log[: stored.place.records]) and all((a == b).all() for a, b in pairs)


@pytest.mark.slow
@settings(
    max_examples=200, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(
    kind=st.sampled_from(KINDS),
    file=st.integers(0, 10**6),
    where=st.floats(0, 1, exclude_max=True),
    value=st.integers(1, 255),
)
def test_damage_is_seen(kind, file, where, value, stopped, tmp_path_factory):
    run, result = read_config(stopped.folder), read_result(stopped.folder)
    bits = model_bits(stopped.folder)
    files = sorted(path for path in stopped.folder.rglob("*") if path.is_file() and path.name != ".lock")
    folder = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(stopped.folder, folder)
    damage(folder / files[file % len(files)].relative_to(stopped.folder), kind, where, value)
    for use in (
        lambda: model_bits(folder) == bits,
        lambda: require_same_run(folder, run) is None,
        lambda: isinstance(read_result(folder), Result),
        lambda: isinstance(read_metrics(folder), list),
        lambda: is_resumed_right(folder, stopped.folder, run, result.fingerprint, stopped.states),
    ):
        try:
            right = use()
        except UserError as told:
            right = str(folder) in str(told)
        assert right
    shutil.rmtree(folder.parent)
