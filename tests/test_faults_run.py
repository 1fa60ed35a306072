"""What may happen to a run: the disk, the device, the clock, other processes. Each on a real file or process."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from faults import fault

import jaxvision as jv
from jaxvision.cli import main
from jaxvision.errors import OutOfMemoryError
from jaxvision.models.classifier import Classifier
from jaxvision.nn import Chain, Dense, Flatten, Rescaling
from jaxvision.train.pace import Pace

pytestmark = pytest.mark.usefixtures("kept_programs")

HERE = str(Path(__file__).parents[1])

TINY = ["train", "digits", "--model.name", "dense-mnist", "--model.options.features", "4"]


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    """Of processes that run this source, with caches of their own."""
    return {
        **os.environ,
        "PYTHONPATH": HERE,
        "JAXVISION_CACHE": str(tmp_path / "cache"),
        "JAXVISION_ONEDNN": "0",  # JAX cannot keep programs that call it
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@pytest.mark.slow
@fault(
    "disk full",
    happens="told before a save is begun; what was saved stays; with room again `--resume` ends with the same bits",
)
@fault("read-only run folder", happens="training: refused; evaluating a finished run: survived")
def test_a_full_or_read_only_disk_stops_a_run_that_then_goes_on(tmp_path, environment):
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    mountable = [*namespace, "mount", "-t", "tmpfs", "none", "/mnt"]
    if shutil.which("unshare") is None or subprocess.run(mountable, capture_output=True, check=False).returncode:
        pytest.skip("needs a Linux that lets its users mount a tmpfs in a namespace of their own")
    script = str(Path(__file__).with_name("small_disk.py"))
    done = subprocess.run(
        [*namespace, sys.executable, script, str(tmp_path / "whole")],
        env=environment, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    whole, tiny, small, again, read_only, new, enough, used = found["outcomes"]
    assert [each["code"] for each in found["outcomes"]] == [0, 2, 2, 2, 2, 2, 0, 0]
    assert whole["said"] == ""
    assert tiny["said"].endswith("config.json: cannot be written. Received: No space left on device\n")
    for each in (small, again):  # with one state saved, there is no room for another
        assert "error: /mnt/run/" in each["said"]
        assert "MB free, and" in each["said"]
        assert "mend that, and go on with --resume" in each["said"]
        assert each["states"] == ["1"]
    assert "goes on after step 1" in again["said"]
    for each in (read_only, new):
        assert "Read-only file system" in each["said"]
    assert new["files"] is None
    assert enough["states"] == []
    assert "goes on after step" in enough["said"]
    assert found["same"]
    assert used["said"] == ""  # a finished run may lie on a read-only disk
    assert "Traceback" not in done.stderr


class Huge(Classifier):
    """A terabyte of activations for a picture."""

    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        head = Chain(flatten=Flatten(), logits=Dense(784, num_classes, rngs=rngs))
        super().__init__(preprocessing=Rescaling(), base=Chain(), head=head)

    def __call__(self, images, train=False, *, rngs=None):
        logits = super().__call__(images, train, rngs=rngs)
        many = jnp.broadcast_to(logits[:, :1, None], (len(logits), 2**19, 2**19))
        return logits + jnp.sort(many, axis=2)[:, :1, 0]


@fault("device out of memory", happens="stopped: names the batch and how to cut it by accumulation; no folder is left")
def test_a_device_without_memory_enough(tmp_path, capsys):
    run = replace(jv.load_run("digits"), model=jv.Model(f"{__name__}:Huge"))
    run = replace(run, data=replace(run.data, batch_size=32, limit_train=64), accumulate=4)
    with pytest.raises(OutOfMemoryError) as told:
        jv.fit(run, run_dir=tmp_path / "run", progress=False)
    said = str(told.value)
    assert "the device ran out of memory (another" in said
    assert "Set accumulate to 8: the same step on the batch in 8 pieces of 4" in said
    assert "rematerialize=blocks keeps each block's input alone" in said
    assert "Received: data.batch_size=32, accumulate=4" in said
    assert not (tmp_path / "run").exists()
    whole = replace(run, accumulate=32)
    with pytest.raises(OutOfMemoryError, match=r"asked for\)\. Lower data.batch_size or data.image_size"):
        jv.fit(whole, run_dir=tmp_path / "run", progress=False)


@fault("pictures that do not fit on the device", happens="refused: says how to stream them")
def test_pictures_that_do_not_fit_on_the_device(tmp_path, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8589934592 bytes.")

    monkeypatch.setattr("jaxvision.mesh.jax.device_put", full)
    with pytest.raises(OutOfMemoryError, match=r"another 8,192 MB were asked for\). Set data.residence to stream"):
        jv.fit(jv.load_run("digits"), run_dir=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@fault("two runs in one folder", happens="the second is refused: names the process of the first, which goes on")
def test_two_processes_in_one_run_folder(tmp_path, environment, capsys):
    flags = [*TINY, "--epochs", "5000", "--checkpoint.every-minutes", "0", "--run-dir", str(tmp_path / "run")]
    first = subprocess.Popen(
        [sys.executable, "-m", "jaxvision", *flags], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        wait_for(lambda: list(tmp_path.glob("run/training/*/MANIFEST.json")), first)
        assert main([*flags, "--resume"]) == 2
        assert f"another process is at work in it (number {first.pid})" in " ".join(capsys.readouterr().err.split())
    finally:
        first.send_signal(signal.SIGTERM)
        told = first.communicate(timeout=60)[1].decode()
    assert first.returncode == 143  # and the first was not disturbed
    assert "everything to go on is saved" in told


def wait_for(condition, process: subprocess.Popen) -> None:
    started = time.monotonic()
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - started < 120
        time.sleep(0.05)


@fault("clock going backwards, files from the future", happens="survived: the same bits, times that are times")
def test_a_clock_that_goes_backwards(tmp_path, monkeypatch):
    """An hour back with each look at it, in a run that is stopped and resumed, its files from the future."""
    digits = jv.load_run("digits")
    run = replace(
        digits,
        data=replace(digits.data, limit_train=96, batch_size=32),
        model=jv.Model("dense-mnist", {"features": (4,)}),
        phases=(jv.Phase(epochs=2),),
        checkpoint=jv.Checkpoint(every_minutes=0.0),
    )
    expected = jv.fit(run, run_dir=tmp_path / "whole", progress=False)
    now = time.time()

    def backwards() -> float:
        nonlocal now
        now -= 3600.0
        return now

    monkeypatch.setattr(time, "time", backwards)
    with monkeypatch.context() as patch:
        patch.setattr(Pace, "step", lambda *_, **__: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(KeyboardInterrupt):
            jv.fit(run, run_dir=tmp_path / "run", progress=False)
    for path in (tmp_path / "run").rglob("*"):
        os.utime(path, (4e9, 4e9))  # written in the future
    result = jv.fit(run, run_dir=tmp_path / "run", progress=False, resume=True)
    assert result.test == expected.test
    assert 0 < result.seconds < 600
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
