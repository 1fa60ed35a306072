"""Run folders and data in a bucket, by the clients that reach real ones, at a stand-in on this machine."""

import dataclasses
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from etils import epath
from fake_bucket import FakeBucket

from jaxvision import Data, Log, Run, evaluate
from jaxvision.bucket import absolute, require_reachable
from jaxvision.cli import main
from jaxvision.data import open_dataset
from jaxvision.errors import DataError, RunFolderError
from jaxvision.outputs import write_whole
from jaxvision.train.folder import read_metrics
from jaxvision.train.log import RunLog
from jaxvision.train.manifest import write_manifest
from jaxvision.train.resume import cut_records
from jaxvision.train.training_state import TrainingStates

HERE = Path(__file__).parents[1]


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """An empty gs://bucket."""
    pytest.importorskip("google.cloud.storage", reason="needs the extra gcs")
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl, for the certificate of the stand-in")
    fake = FakeBucket(tmp_path / "fake")
    with fake.serve() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield fake


def test_a_path_in_a_bucket_is_from_the_root():
    assert str(absolute("gs://bucket/run")) == "gs://bucket/run"
    assert str(absolute("runs/a")) == f"{Path.cwd()}/runs/a"


def test_what_is_missing_for_a_bucket_is_named(monkeypatch):
    with pytest.raises(RunFolderError, match="only those of Google Cloud Storage"):
        require_reachable("s3://bucket/run")
    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    with pytest.raises(RunFolderError, match=r"pip install 'jaxvision\[gcs\]'"):
        evaluate("gs://bucket/run")


def test_what_else_is_written_is_refused_in_a_bucket(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for command in (["ablate", "digits-parts"], ["extract", "vgg16", "pictures"]):
        assert main([*command, "--out", "gs://bucket/a.npz"]) == 2
        assert "only run folders can be in a bucket" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_or_not_ours_is_named(bucket):
    with pytest.raises(RunFolderError, match="there is no bucket 'nobodys'"):
        require_reachable("gs://nobodys/run")
    require_reachable("gs://bucket/run")  # nothing in it yet
    bucket.forbidden = True
    with pytest.raises(RunFolderError, match=r"storage.buckets.get\).*not allowed"):
        require_reachable("gs://bucket/other")


def test_a_file_is_uploaded_whole_and_nothing_beside_it(bucket):
    write_whole("gs://bucket/run/config.json", b"one")
    write_whole("gs://bucket/run/config.json", memoryview(b"two"))
    assert {name: content for name, (content, _) in bucket.objects.items()} == {"run/config.json": b"two"}
    assert not [path for method, path in bucket.calls if method == "DELETE" or "rewriteTo" in path]


def test_each_line_of_a_log_is_there_at_once_and_earlier_ones_stay(bucket):
    folder, run = epath.Path("gs://bucket/run"), Run(log=Log(tensorboard=True))
    first, second = ({"phase": 0, "epoch": epoch, "step": epoch, "train/loss": 0.5} for epoch in (1, 2))
    with RunLog(folder, run) as log:
        assert read_metrics(folder) == []
        log.record(first)
        assert read_metrics(folder) == [first]
        told = log.records_sha256
    with RunLog(folder, run, start_step=1, records=1) as log:
        assert log.records_sha256 == told
        log.record(second)
        log.timing({"epoch": 2, "step": 2, "seconds": 1.0})
        assert read_metrics(folder) == [first, second]
        assert b'"seconds": 1.0' in bucket.objects["run/timing.jsonl"][0]
        events = [item[0] for name, item in bucket.objects.items() if name.startswith("run/tensorboard/events.")]
        assert len(events) == 2
        assert all(b"train/loss" in content for content in events)
    cut_records(folder, PlaceOf(1, told))
    assert read_metrics(folder) == [first]


@dataclasses.dataclass
class PlaceOf:
    records: int
    records_sha256: str


def test_a_damaged_state_is_set_aside(bucket):
    for name in ("commit_success.txt", "place/metadata"):
        bucket.put(f"run/training/1/{name}", b"as it was")
    write_manifest(epath.Path("gs://bucket/run/training/1"))
    epath.Path("gs://bucket/run/training/1/place/metadata").write_bytes(b"as it is")
    with TrainingStates("gs://bucket/run", alone=True) as states:
        newest, told = states.newest()
    assert newest is None
    assert told == ["gs://bucket/run/training/1: damaged (place/metadata: changed); set aside as damaged-1"]
    assert bucket.objects["run/training/damaged-1/place/metadata"][0] == b"as it is"
    assert not [name for name in bucket.objects if name.startswith("run/training/1/")]


def test_data_is_copied_once_and_again_where_it_changed(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path / "cache"))
    for name in ("cat", "dog"):
        for number in range(2):
            bucket.put(f"data/pictures/{name}/{number}.png", _picture(number))
    bucket.put("data/pictures-of-others/fox/1.png", _picture(3))
    data = Data("folder", "gs://bucket/data/pictures", image_size=(8, 8))

    def downloads() -> int:
        return sum(path.startswith("/download/") for _, path in bucket.calls)

    before = open_dataset(data)
    assert (before.class_names, len(before.train.target), downloads()) == (("cat", "dog"), 4, 4)
    assert open_dataset(data).fingerprint == before.fingerprint
    assert downloads() == 4
    bucket.put("data/pictures/cat/0.png", _picture(40, size=9))
    del bucket.objects["data/pictures/dog/1.png"]
    assert len(open_dataset(data).train.target) == 3
    assert downloads() == 5
    content = io.BytesIO()
    np.savez(content, x_train=np.zeros((4, 8, 8), np.uint8), y_train=np.array([0, 1, 0, 1]))
    bucket.put("data/all.npz", content.getvalue())
    assert open_dataset(Data("npz", "gs://bucket/data/all.npz")).image_shape == (8, 8, 1)
    with pytest.raises(DataError, match="nothing in the bucket under this name"):
        open_dataset(Data("folder", "gs://bucket/data/pictures-of"))


def _picture(shade: int, size: int = 8) -> bytes:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), shade, np.uint8)).save(content, "png")
    return content.getvalue()


@pytest.mark.slow
def test_a_run_in_a_bucket_stopped_and_resumed_ends_as_on_a_disk(bucket, tmp_path):
    """Five processes: a run on disk, the same in a bucket, stopped, resumed by the command it tells, evaluated."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "jaxvision"]
    flags = ["digits", "--phases.0.epochs", "3", "--run-dir"]

    def jaxvision(*arguments: str) -> str:
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    jaxvision("train", *flags, "disk")
    process = subprocess.Popen([*command, "train", *flags, "gs://bucket/run", "--resume"], cwd=tmp_path,
                               env=environment, stderr=subprocess.PIPE, text=True)  # fmt: skip
    while b"train/loss" not in bucket.objects.get("run/metrics.jsonl", (b"", 0))[0]:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=300)[1]
    assert process.returncode == 143, told
    assert "run/training/1/MANIFEST.json" in bucket.objects
    jaxvision(*told.partition("Go on with: jaxvision ")[2].split())

    objects = {name: content for name, (content, _) in bucket.objects.items()}
    assert objects["run/metrics.jsonl"] == (tmp_path / "disk" / "metrics.jsonl").read_bytes()
    results = [json.loads(text) for text in (objects["run/result.json"], (tmp_path / "disk/result.json").read_bytes())]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1]
    assert objects["run/curves.png"].startswith(b"\x89PNG")
    assert not [name for name in objects if name.startswith("run/training/")]
    assert jaxvision("evaluate", "gs://bucket/run") == jaxvision("evaluate", "disk")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "fake"]
