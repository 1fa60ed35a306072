"""What a run tells while it goes. Time is a clock that the tests turn."""

import io
import json
import struct
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from jaxvision.config import Log, Phase, Run
from jaxvision.errors import ConfigError
from jaxvision.train import log as log_module
from jaxvision.train.log import RunLog

QUIET = Run(log=Log(tensorboard=False), phases=(Phase(epochs=30),))
RECORD = {"phase": 0, "epoch": 1, "step": 3, "train/loss": 0.1, "validation/accuracy": 0.5, "learning_rate": 1e-3}


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(log_module.time, "perf_counter", lambda: now.seconds)
    return now


def open_log(tmp_path, run=QUIET, total_steps=1000, **options):
    out = io.StringIO()
    console = Console(file=out, width=100, soft_wrap=True, **options)
    return RunLog(tmp_path, run, total_steps=total_steps, console=console), out


def take_steps(log, clock, count, examples=32, seconds=1.0):
    seen = []
    for number in range(count):
        clock.seconds += seconds
        seen.append(log.step(examples, jnp.float32(number)))
    return seen


def test_rate_leaves_out_compilation_and_evaluation(tmp_path, clock):
    log, _ = open_log(tmp_path)
    with log:
        assert log.images_per_second is None
        take_steps(log, clock, 1, seconds=100)  # compiles
        assert log.images_per_second is None
        take_steps(log, clock, 5)
        with log.not_training():
            clock.seconds += 500
        take_steps(log, clock, 5)
        take_steps(log, clock, 1, examples=20, seconds=70)  # another size compiles again
        take_steps(log, clock, 1, examples=20, seconds=0)
        with log.not_training():
            pass
        # At 1 s a step of 32; the steps in flight when the new size compiled are lost to the measurement.
        assert log.images_per_second == pytest.approx(32, rel=0.1)
        log.timing({"epoch": 1, "step": 13, "seconds": 681.0, "images_per_second": log.images_per_second})
        assert log.images_per_second is None
    line = json.loads((tmp_path / "timing.jsonl").read_text())
    assert line["seconds"] == 681.0


def test_the_device_is_looked_at_no_more_than_twice_a_second(tmp_path, clock):
    log, _ = open_log(tmp_path)
    with log:
        seen = take_steps(log, clock, 101, seconds=0.1)
    looks = [number for number, value in enumerate(seen) if value is not None]
    assert looks[0] == 0
    assert 15 <= len(looks) <= 21
    # The loss shown is that of the step before, which need not be waited for.
    assert all(seen[number] == number - 1 for number in looks[1:])


def test_metrics_are_appended_at_once_and_exactly(tmp_path):
    log, out = open_log(tmp_path)
    with log:
        log.record(RECORD)
        log.record({**RECORD, "step": 4, "train/loss": jnp.float32(0.1), "validation/accuracy": float("nan")})
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0] == RECORD
    assert lines[1]["train/loss"] == float(jnp.float32(0.1))
    assert lines[1]["validation/accuracy"] is None
    assert "epoch 1/30  step 3  train loss 0.1000  validation accuracy 0.5000" in out.getvalue()
    assert "not finite" in out.getvalue()
    log, _ = open_log(tmp_path)
    with log:
        log.record(RECORD)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3  # a resumed run goes on


@pytest.mark.parametrize(
    ("total_steps", "said"), [(2520, "about 46 min for 30 epochs at 29.1 img/s"), (10**6, "305.6 h for"), (54, None)]
)
def test_long_runs_are_estimated_once(tmp_path, clock, total_steps, said):
    # After 11 s the first 10 timed steps of 32 are known to be done.
    log, out = open_log(tmp_path, total_steps=total_steps)
    with log:
        take_steps(log, clock, 40)
    assert out.getvalue().count("about") == (said is not None)
    assert said is None or said in out.getvalue()


def test_phases_are_told_apart(tmp_path):
    log, out = open_log(tmp_path, run=Run(log=Log(tensorboard=False), phases=(Phase(epochs=3), Phase(epochs=7))))
    with log:
        log.record({**RECORD, "phase": 1})
    assert out.getvalue().startswith("phases.1  epoch 1/7  step 3")


def test_a_terminal_shows_a_bar(tmp_path, clock):
    log, out = open_log(tmp_path, force_terminal=True, total_steps=60)
    with log:
        take_steps(log, clock, 11)
    assert "11/60" in out.getvalue()
    assert "28.8 img/s  loss 9.0000" in out.getvalue()
    assert "54 s left" in out.getvalue()  # 10 s for the 9 steps known to be done, 49 to go


def test_without_progress_nothing_is_printed(tmp_path, capsys):
    with RunLog(tmp_path, QUIET, total_steps=3, progress=False) as log:
        log.step(32, jnp.float32(0))
        log.record(RECORD)
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_waiting_for_data_and_the_first_step_are_told(tmp_path, clock):
    out = io.StringIO()
    clock.seconds = 7.0
    with RunLog(tmp_path, QUIET, total_steps=9, console=Console(file=out), started=1.5) as log:
        log.step(32, jnp.zeros(1))
        log.timing({"epoch": 1, "step": 1, "images_per_second": 10.0, "data_wait_share": 0.25})
        log.timing({"epoch": 2, "step": 2, "images_per_second": 10.0, "data_wait_share": 0.01})
    assert log.seconds_to_first_step == 5.5
    assert "first step done 5.5 s after the start" in out.getvalue()
    assert out.getvalue().count("waited for data") == 1
    assert "waited for data 25% of the epoch" in out.getvalue()


def test_profile_covers_the_steps_asked_for(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append(("start", folder)))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    log, _ = open_log(tmp_path, run=Run(log=Log(tensorboard=False, profile_steps=(3, 4))))
    with log:
        for step in range(1, 8):
            log.profile(step)
            calls.append(step)
    assert calls == [1, 2, ("start", str(tmp_path / "profile")), 3, 4, "stop", 5, 6, 7]
    calls.clear()
    log, _ = open_log(tmp_path, run=Run(log=Log(tensorboard=False, profile_steps=(1, 9))))
    with log:
        log.profile(1)
    assert calls[-1] == "stop"  # the run ended first


def test_tensorboard_events_hold_the_metrics_and_no_tensorflow_is_imported(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    script = f"""
import sys
from jaxvision.config import Run
from jaxvision.train.log import RunLog
with RunLog({str(tmp_path)!r}, Run(), total_steps=3, progress=False) as log:
    log.record({RECORD!r})
    log.timing({{"epoch": 1, "step": 3, "images_per_second": 12.5}})
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    (file,) = (tmp_path / "tensorboard").iterdir()
    data, found = file.read_bytes(), {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        found |= {value.tag: (event.step, value.simple_value) for value in event.summary.value}
        data = data[16 + length :]
    assert found["train/loss"] == (3, pytest.approx(0.1))
    assert found["timing/images_per_second"] == (3, 12.5)
    assert set(found) == {"train/loss", "validation/accuracy", "learning_rate", "timing/images_per_second"}


def test_wandb_is_optional_and_gets_the_metrics(tmp_path, monkeypatch):
    run = Run(name="a/b", log=Log(tensorboard=False, wandb_project="p"))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"wandb is not installed.*jaxvision\[wandb\].*Received: 'p'"):
        open_log(tmp_path, run=run)
    assert list(tmp_path.iterdir()) == []
    told = []
    session = types.SimpleNamespace(
        log=lambda values, step: told.append((values["train/loss"], step)),
        finish=lambda exit_code: told.append(exit_code),
    )
    fake = types.SimpleNamespace(init=lambda **options: told.append(options) or session)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    log, _ = open_log(tmp_path, run=run)
    log.record(RECORD)
    log.__exit__(KeyError, KeyError(), None)
    assert told[0]["project"] == "p"
    assert told[0]["config"]["name"] == "a/b"
    assert told[1:] == [(0.1, 3), 1]
