"""What a run writes down while it goes."""

import json
import struct
import subprocess
import sys
import types

import jax.numpy as jnp
import pytest

from jaxvision.config import Log, Run
from jaxvision.errors import ConfigError
from jaxvision.train.log import RunLog

QUIET = Run(log=Log(tensorboard=False))
RECORD = {"phase": 0, "epoch": 1, "step": 3, "train/loss": 0.1, "validation/accuracy": 0.5, "learning_rate": 1e-3}


def test_metrics_are_appended_at_once_and_exactly(tmp_path):
    with RunLog(tmp_path, QUIET) as log:
        log.record(RECORD)
        log.record({**RECORD, "step": 4, "train/loss": jnp.float32(0.1), "validation/accuracy": float("nan")})
        lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0] == RECORD
    assert lines[1]["train/loss"] == float(jnp.float32(0.1))
    assert lines[1]["validation/accuracy"] is None
    with RunLog(tmp_path, QUIET) as log:
        log.record(RECORD)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3  # a resumed run goes on


def test_tensorboard_events_hold_the_metrics_and_no_tensorflow_is_imported(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    script = f"""
import sys
from jaxvision.config import Run
from jaxvision.train.log import RunLog
with RunLog({str(tmp_path)!r}, Run()) as log:
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
        RunLog(tmp_path, run)
    assert list(tmp_path.iterdir()) == []
    told = []
    session = types.SimpleNamespace(
        id="id-1",
        log=lambda values, step: told.append((values["train/loss"], step)),
        finish=lambda exit_code: told.append(exit_code),
    )
    fake = types.SimpleNamespace(init=lambda **options: told.append(options) or session)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    log = RunLog(tmp_path, run)
    log.record(RECORD)
    log.__exit__(KeyError, KeyError(), None)
    assert told[0]["project"] == "p"
    assert told[0]["config"]["name"] == "a/b"
    assert told[1:] == [(0.1, 3), 1]
    RunLog(tmp_path, run, start_step=3, records=1).__exit__(None, None, None)  # a resumed run goes on in the same one
    assert (told[0]["id"], told[3]["id"], told[3]["resume"]) == (None, "id-1", "allow")
    (tmp_path / "other").mkdir()
    RunLog(tmp_path / "other", run).__exit__(None, None, None)
    assert told[-2]["id"] is None
