"""What a run tells on the terminal while it goes. Time is a clock that the tests turn."""

import io
import types

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from jaxvision.config import Log, Phase, Run
from jaxvision.train import pace as pace_module
from jaxvision.train.pace import Pace

QUIET = Run(log=Log(tensorboard=False), phases=(Phase(epochs=30),))
RECORD = {"phase": 0, "epoch": 1, "step": 3, "train/loss": 0.1, "validation/accuracy": 0.5, "learning_rate": 1e-3}


@pytest.fixture
def clock(monkeypatch):
    now = types.SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(pace_module.time, "perf_counter", lambda: now.seconds)
    return now


def open_pace(run=QUIET, total_steps=1000, runs=1, profile=None, **options):
    out = io.StringIO()
    console = Console(file=out, width=100, soft_wrap=True, **options)
    return Pace(run, total_steps=total_steps, runs=runs, profile=profile, console=console), out


def take_steps(pace, clock, count, examples=32, seconds=1.0):
    seen = []
    for number in range(count):
        clock.seconds += seconds
        seen.append(pace.step(examples, jnp.float32(number)))
    return seen


def test_a_line_of_an_evaluation():
    pace, out = open_pace()
    pace.tell([RECORD])
    pace.tell([{**RECORD, "train/loss": float("nan")}])
    assert "epoch 1/30  step 3  train loss 0.1000  validation accuracy 0.5000" in out.getvalue()
    assert "train loss not finite" in out.getvalue()


def test_runs_trained_together_are_told_in_one_line(clock):
    pace, out = open_pace(runs=3)
    with pace:
        take_steps(pace, clock, 11)
        pace.tell([{**RECORD, "train/loss": loss} for loss in (0.1, 0.2, 0.6)])
    assert "3 of 3 runs  epoch 1/30  step 3  train loss 0.3000 (0.1000 to 0.6000)" in out.getvalue()
    assert "3 x 28.8 img/s" in out.getvalue()


def test_rate_leaves_out_compilation_and_evaluation(clock):
    pace, _ = open_pace()
    with pace:
        assert pace.images_per_second is None
        take_steps(pace, clock, 1, seconds=100)  # compiles
        assert pace.images_per_second is None
        take_steps(pace, clock, 5)
        with pace.not_training():
            clock.seconds += 500
        take_steps(pace, clock, 5)
        take_steps(pace, clock, 1, examples=20, seconds=70)  # another size compiles again
        take_steps(pace, clock, 1, examples=20, seconds=0)
        with pace.not_training():
            pass
        # At 1 s a step of 32; the steps in flight when the new size compiled are lost to the measurement.
        assert pace.images_per_second == pytest.approx(32, rel=0.1)
        pace.end_epoch(data_wait_share=0.0)
        assert pace.images_per_second is None


def test_the_device_is_looked_at_no_more_than_twice_a_second(clock):
    pace, _ = open_pace()
    with pace:
        seen = take_steps(pace, clock, 101, seconds=0.1)
    looks = [number for number, value in enumerate(seen) if value is not None]
    assert looks[0] == 0
    assert 15 <= len(looks) <= 21
    # The loss shown is that of the step before, which need not be waited for.
    assert all(seen[number] == number - 1 for number in looks[1:])


@pytest.mark.parametrize(
    ("total_steps", "said"), [(2520, "about 46 min for 30 epochs at 29.1 img/s"), (10**6, "305.6 h for"), (54, None)]
)
def test_long_runs_are_estimated_once(clock, total_steps, said):
    # After 11 s the first 10 timed steps of 32 are known to be done.
    pace, out = open_pace(total_steps=total_steps)
    with pace:
        take_steps(pace, clock, 40)
    assert out.getvalue().count("about") == (said is not None)
    assert said is None or said in out.getvalue()


def test_phases_are_told_apart():
    pace, out = open_pace(run=Run(log=Log(tensorboard=False), phases=(Phase(epochs=3), Phase(epochs=7))))
    with pace:
        pace.tell([{**RECORD, "phase": 1}])
    assert out.getvalue().startswith("phases.1  epoch 1/7  step 3")


def test_a_terminal_shows_a_bar(clock):
    pace, out = open_pace(force_terminal=True, total_steps=60)
    with pace:
        take_steps(pace, clock, 11)
    assert "11/60" in out.getvalue()
    assert "28.8 img/s  loss 9.0000" in out.getvalue()
    assert "54 s left" in out.getvalue()  # 10 s for the 9 steps known to be done, 49 to go


def test_without_progress_nothing_is_printed(capsys):
    with Pace(QUIET, total_steps=3, progress=False) as pace:
        pace.step(32, jnp.float32(0))
        pace.tell([RECORD])
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_waiting_for_data_and_the_first_step_are_told(clock):
    out = io.StringIO()
    clock.seconds = 7.0
    with Pace(QUIET, total_steps=9, console=Console(file=out), started=1.5) as pace:
        pace.step(32, jnp.zeros(1))
        pace.end_epoch(data_wait_share=0.25)
        pace.end_epoch(data_wait_share=0.01)
    assert pace.seconds_to_first_step == 5.5
    assert "first step done 5.5 s after the start" in out.getvalue()
    assert out.getvalue().count("waited for data") == 1
    assert "waited for data 25% of the epoch" in out.getvalue()


def test_profile_covers_the_steps_asked_for(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: calls.append(("start", folder)))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    pace, _ = open_pace(run=Run(log=Log(tensorboard=False, profile_steps=(3, 4))), profile=tmp_path / "profile")
    with pace:
        for step in range(1, 8):
            pace.profile(step)
            calls.append(step)
    assert calls == [1, 2, ("start", str(tmp_path / "profile")), 3, 4, "stop", 5, 6, 7]
    calls.clear()
    pace, _ = open_pace(run=Run(log=Log(tensorboard=False, profile_steps=(1, 9))))
    with pace:
        pace.profile(1)
    assert calls[-1] == "stop"  # the run ended first
