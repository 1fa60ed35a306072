"""A batch spread over several devices trains as on one, to rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_resume import DATA

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
        # Programs compiled once serve all runs: most of the time is compilation.
        "JAXVISION_ONEDNN": "0",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONPATH": os.pathsep.join((str(HERE.parent), str(HERE))),
    }
    done = subprocess.run(
        [sys.executable, str(HERE / "four_devices.py"), str(folder)],
        env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1]) | {"said": " ".join(done.stderr.split())}


@pytest.mark.parametrize("run", ["four", "moved", "many", "many 4", "filled", "filled 4"])
def test_as_on_one_device_to_rounding(run, found):
    """Dropout, augmentation, BatchNorm over the whole batch, accumulation, a moving average, an uneven last batch; one
    run over the devices, or several runs trained together, some on each."""
    ours, theirs = found[run], found["one 4" if run.endswith("4") else "one"]
    assert len(ours["lines"]) == len(theirs["lines"])
    for a, b in zip(ours["lines"], theirs["lines"], strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-4)
    np.testing.assert_allclose(ours["weights"], theirs["weights"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(list(ours["test"].values()), list(theirs["test"].values()), rtol=1e-4)


@pytest.mark.parametrize("residence", ["device", "stream"])
def test_each_device_has_its_share_of_a_batch(residence, found):
    assert found[residence]["shares"] == [[4] * 4] * 4
    assert [label for labels in found[residence]["labels"] for label in labels] == DATA["train"][1].tolist()


def test_all_devices_are_used_and_another_number_is_said(found):
    assert (found["devices_before"], found["devices_after"]) == (4, 1)
    assert "changed since the run was begun, its numbers may differ in rounding: devices: ['cpu'," in found["said"]


def test_what_cannot_be_spread_is_refused(found):
    assert "data.batch_size: must be a multiple of the 4 devices" in found["batch"]
    assert "Set it to 20, or devices to less. Received: 18, devices=None" in found["batch"]
    assert "devices: this machine has 4 cpu devices. Received: 5" in found["devices"]
