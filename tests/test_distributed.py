"""Several processes train one run: as one does, to rounding; stop alike; and do not outlive each other."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from test_resume import DATA

import jaxvision as jv
from jaxvision import distributed, mesh, processes
from jaxvision.cli import main
from jaxvision.data import open_feed
from jaxvision.data.parts import FilePart
from jaxvision.errors import ConfigError, HostGoneError, RunFolderError
from jaxvision.train.agreement import Agreement, SharedAgreement, agreement
from jaxvision.train.checks import require_wide

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("auto", 2), "auto finds number and place of the processes itself"),
        (("localhost",), "must be auto, or HOST:PORT"),
        (("localhost:70000", 2, 0), "must be auto, or HOST:PORT"),
        (("localhost:7000",), "with an address, say num_processes and process_id"),
        (("localhost:7000", 2, 2), "process_id must be from 0 to num_processes - 1"),
        (("localhost:7000", 0, 0), "process_id must be from 0 to num_processes - 1"),
    ],
)
def test_wrong_arguments_are_said_before_anything_is_joined(arguments, said):
    with pytest.raises(ConfigError, match=said):
        distributed.join(*arguments)
    assert processes.process_count() == 1


def test_the_command_line_refuses_in_one_line(capsys, tmp_path):
    flags = ["train", "digits", "--run-dir", str(tmp_path / "run"), "--num-processes", "2"]
    assert main(flags) == 2
    assert "error: distributed: num_processes and process_id need it" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


@pytest.fixture
def not_begun(monkeypatch):
    """As in a process that has not used JAX yet."""
    monkeypatch.setattr(distributed.xla_bridge, "backends_are_initialized", lambda: False)


SLURM = {
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2", "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}  # fmt: skip


def test_a_taken_port_is_named(not_begun, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = f"port {port} of this host cannot be had"
        with pytest.raises(ConfigError, match=said):
            distributed.join(f"127.0.0.1:{port}", 2, 0)
        for name, value in {**SLURM, "JAX_COORDINATOR_PORT": str(port)}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=rf"{said}.*Received: localhost:{port}"):
            distributed.join()


def test_where_there_is_no_cluster_auto_says_so(not_begun, monkeypatch):
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="auto found no cluster"):
        distributed.join()


def test_an_address_where_nobody_answers_is_named(not_begun):
    with pytest.raises(HostGoneError, match=r"nobody answers at 127.0.0.1:\d+ after 0.1 s \(Connection refused\)"):
        distributed.join(f"127.0.0.1:{free_port()}", 2, 1, wait_seconds=0.1)


def test_joining_comes_first():
    jax.devices()
    with pytest.raises(ConfigError, match="before anything else that uses JAX"):
        distributed.join("127.0.0.1:7000", 2, 0)


def free_port() -> int:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        return some.getsockname()[1]


def test_each_process_has_the_rows_of_its_own_devices(monkeypatch):
    devices = np.array([SimpleNamespace(process_index=number) for number in (0, 0, 0, 1)])
    uneven = SimpleNamespace(axis_names=(mesh.AXIS,), shape={mesh.AXIS: 4}, devices=devices)
    for number, share, whole in ((0, slice(0, 12), slice(0, 15)), (1, slice(12, 16), slice(0, 15))):
        monkeypatch.setattr(jax, "process_index", lambda number=number: number)
        assert mesh.own_rows(uneven, 16) == share
        assert mesh.own_rows(uneven, 15) == whole


@pytest.mark.parametrize("seed", [0, None], ids=["training", "evaluation"])
@pytest.mark.parametrize("examples", [64, 59, 61])
def test_a_process_decodes_its_own_rows_only(examples, seed, monkeypatch):
    """Two processes of two devices: together they give each batch as one does; 59 and 61 leave an uneven last one."""
    decoded: list[int] = []

    def file_batches(part, order, batch_size):
        decoded.extend(order)
        for begin in range(0, len(order), batch_size):
            rows = order[begin : begin + batch_size]
            yield rows.reshape(-1, 1, 1, 1), part.target[rows]

    monkeypatch.setattr("jaxvision.data.pipeline.file_batches", file_batches)
    monkeypatch.setattr("jaxvision.data.feed.spread", lambda mesh, own, rows: own)
    part = FilePart(tuple(map(str, range(examples))), np.arange(examples), (8, 8), 3)

    def batches(owners: tuple[int, ...], number: int) -> list[np.ndarray]:
        monkeypatch.setattr(jax, "process_index", lambda: number)
        devices = np.array([SimpleNamespace(process_index=owner) for owner in owners])
        over = SimpleNamespace(axis_names=(mesh.AXIS,), shape={mesh.AXIS: len(owners)}, devices=devices)
        feed = open_feed(part, batch_size=16, seed=seed, residence="stream", resident_mb=1, mesh=over)
        return [np.stack([batch.inputs.ravel(), batch.target, batch.valid * 1]) for batch in feed.batches(epoch=1)]

    whole = batches((0,), 0)
    decoded.clear()
    shares = [batches((0, 0, 1, 1), number) for number in (0, 1)]
    for one, *own in zip(whole, *shares, strict=True):
        divides = one.shape[1] % 4 == 0
        np.testing.assert_array_equal(np.concatenate(own, axis=1) if divides else own[0], one)
        assert divides or (own[1] == one).all()
    counted = sum(share.shape[1] for share in shares[0] + shares[1])
    # Of an evaluation's padding at most one picture is decoded, where a process has nothing else.
    assert len(decoded) == (counted if seed is not None else pytest.approx(examples, abs=1))


def test_devices_come_in_groups_of_equal_size():
    with pytest.raises(ConfigError, match="model_devices: 1 devices cannot be put into groups"):
        mesh.batch_mesh(1, 2)


def test_a_model_with_nothing_wide_is_not_cut():
    model = jv.create_model("convnet-mnist", input_shape=(28, 28, 1), num_classes=10, seed=0)
    with pytest.raises(ConfigError, match=r"no matrix of at least 512 outputs.*with matrices of \[\(1152, 10\)\]"):
        require_wide(model, jv.Run(model_devices=2))


class Calls(threading.local):
    """A count of its own in each process."""

    count = -1

    def __next__(self):
        self.count += 1
        return self.count


class FakeStore(dict):
    """The store of `jax.distributed`, in one process."""

    def key_value_set(self, key, value):
        assert key not in self, "each is told once"
        self[key] = value

    def blocking_key_value_get(self, key, milliseconds):
        until = time.monotonic() + 20
        while key not in self and time.monotonic() < until:
            time.sleep(0.001)
        return self[key]

    def key_value_dir_get(self, key):
        return [(name, value) for name, value in self.items() if name.startswith(key)]

    def key_value_delete(self, key):
        self.pop(key, None)


@pytest.fixture
def two(monkeypatch):
    """Runs a function as processes 0 and 1, in two threads; gives what each returned or raised."""
    store, here = FakeStore(), threading.local()
    monkeypatch.setattr(processes, "store", lambda: store)
    monkeypatch.setattr(processes, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "process_index", lambda: here.number)
    monkeypatch.setattr(processes, "_calls", Calls())

    def run(function):
        store.clear()
        outcomes: dict[int, object] = {}

        def act(number):
            here.number = number
            try:
                outcomes[number] = function(number)
            except Exception as error:
                outcomes[number] = error

        threads = [threading.Thread(target=act, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        return outcomes[0], outcomes[1]

    return run


@pytest.mark.parametrize("slow", [0, 1])
def test_all_stop_save_and_see_a_loss_after_the_same_step(two, slow):
    """Whichever is behind; by a signal that one gets, and a clock and losses that differ."""
    collective = threading.Barrier(2, timeout=20)

    def act(number):
        stop = SimpleNamespace(received=None)
        agreed = agreement(stop, every_minutes=1e9 if number else 0.05 / 60)
        assert isinstance(agreed, SharedAgreement)
        saved, seen = [], []
        for step in range(1, 2000):
            time.sleep(0.002 * (number == slow))
            if step % 32 == 0:
                collective.wait()
            if step == 150 and number == 1:
                stop.received = signal.SIGTERM
            loss = agreed.look(None if step % 7 else float(step + 10_000 * number))
            seen += [(step, loss)] if loss is not None else []
            if agreed.told is not None:
                return step, agreed.told, saved, seen
            if agreed.is_time_to_save:
                saved.append(step)
                agreed.saved()
        raise AssertionError("the signal was not heeded")

    zero, one = two(act)
    assert zero == one, (zero, one)
    step, told, saved, seen = zero
    assert 150 <= step < 150 + 2 * 64
    assert told == signal.SIGTERM
    assert saved
    assert seen
    assert all(loss < 10_000 for _, loss in seen), "those of process 0"


def test_one_process_agrees_with_itself_at_once():
    stop = SimpleNamespace(received=None)
    alone = agreement(stop, every_minutes=0.0)
    assert type(alone) is Agreement
    assert (alone.look(1.5), alone.told, alone.is_time_to_save) == (1.5, None, True)
    stop.received = signal.SIGINT
    assert alone.told == signal.SIGINT


def test_what_process_0_finds_or_refuses_all_are_told(two):
    def refuse():
        raise RunFolderError("run folder x: already there")

    assert two(lambda number: processes.on_writer(lambda: f"found by {number}")) == ("found by 0", "found by 0")
    zero, one = two(lambda number: processes.on_writer(refuse))
    assert isinstance(zero, RunFolderError)
    assert isinstance(one, RunFolderError)
    assert str(zero) == str(one) == "run folder x: already there"


class Pair:
    """Starts `two_processes.py` as one process or as two, in a folder of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            # Programs compiled once serve all runs: most of the time is compilation.
            "JAXVISION_ONEDNN": "0",
            "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "PYTHONPATH": os.pathsep.join((str(HERE.parent), str(HERE))),
        }

    def start(self, count: int, devices: int, name: str, *more: str, residence: str = "device") -> list:
        address = f"127.0.0.1:{free_port()}"
        return [
            subprocess.Popen(
                [
                    sys.executable,
                    str(HERE / "two_processes.py"),
                    *(address, str(number), str(count), str(self.folder), name, residence, *more),
                ],
                env={**self.environment, "JAX_NUM_CPU_DEVICES": str(devices)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for number in range(count)
        ]

    def run(self, count: int, devices: int, name: str, *more: str, residence: str = "device") -> list[tuple[int, str]]:
        """Exit code and output of each."""
        started = self.start(count, devices, name, *more, residence=residence)
        said = [process.communicate(timeout=300)[0] for process in started]
        return [(process.returncode, text) for process, text in zip(started, said, strict=True)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return Pair(tmp_path_factory.mktemp("processes"))


@pytest.fixture(scope="module")
def whole(pair):
    """The runs by one process on one device."""
    for name, more in (("one", ()), ("one-odd", ("odd",))):
        assert [code for code, _ in pair.run(1, 1, name, *more)] == [0]
    return pair.folder


def assert_same_numbers(one: Path, other: Path) -> None:
    ours, theirs = ([json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (one, other))
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        np.testing.assert_allclose(list(a.values()), list(b.values()), rtol=1e-4)
    a, b = jv.read_result(one), jv.read_result(other)
    assert (a.best_step, a.steps, a.phases[0].epochs) == (b.best_step, b.steps, b.phases[0].epochs)
    np.testing.assert_allclose(list(a.test.values()), list(b.test.values()), rtol=1e-4)


def assert_same(one: Path, other: Path) -> None:
    assert_same_numbers(one, other)
    # The checkpoint is whole, and means the same to one process.
    found = jv.evaluate(other, data=DATA["test"])
    np.testing.assert_allclose(list(found.values()), list(jv.read_result(one).test.values()), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "residence"), [((), "device"), (("odd",), "device"), (("odd",), "stream")], ids=["even", "odd", "stream"]
)
def test_two_processes_train_as_one_device(more, residence, pair, whole):
    """Dropout, augmentation, BatchNorm over the whole batch, accumulation, a moving average; odd: the four devices
    divide neither the last training batch (11 of 59 examples) nor the evaluation's (15)."""
    name = "-".join(["two", *more, residence])
    outcomes = pair.run(2, 2, name, *more, residence=residence)
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert all("devices 4 of 2" in text for _, text in outcomes)
    assert_same(whole / "-".join(["one", *more]), pair.folder / name)
    assert json.loads((pair.folder / name / "environment.json").read_text())["processes"] == 2


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_any_devices_go_on(pair, whole):
    """Saved by 2 processes of 2 devices; resumed by the same, by one process of 4, by one device."""
    outcomes = pair.run(2, 2, "stopped", "stop=1,6")
    assert [code for code, _ in outcomes] == [143, 143], outcomes
    steps = {line for _, text in outcomes for line in text.splitlines() if line.startswith("saved after step")}
    assert len(steps) == 1, steps
    for name, count, devices in (("two-again", 2, 2), ("one-of-four", 1, 4), ("one-device", 1, 1)):
        shutil.copytree(pair.folder / "stopped", pair.folder / name)
        outcomes = pair.run(count, devices, name)
        assert [code for code, _ in outcomes] == [0] * count, outcomes
        assert "goes on after step" in outcomes[0][1]
        assert_same(whole / "one", pair.folder / name)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 4])
def test_what_one_process_saved_two_go_on_with(devices, pair, whole):
    name = f"grown-{devices}"
    assert [code for code, _ in pair.run(1, devices, name, "stop=0,6")] == [143]
    outcomes = pair.run(2, 2, name)
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    assert_same(whole / "one", pair.folder / name)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_within_a_minute(killed, pair):
    started = pair.start(2, 2, f"killed-{killed}", f"kill={killed},6")
    dead, other = started[killed], started[1 - killed]
    dead.communicate(timeout=300)
    began = time.monotonic()
    assert dead.returncode == -signal.SIGKILL
    said = other.communicate(timeout=120)[0]
    assert time.monotonic() - began < 60
    assert other.returncode == 1
    assert "error: another process of this run is gone" in said
    assert "with --resume the run goes on from what was saved last" in said


@pytest.mark.slow
def test_wide_matrices_are_cut_over_devices_of_several_processes(pair):
    """Over the two of each process, and over all four; the optimizer's with them. Stopped, and gone on with."""
    assert [code for code, _ in pair.run(1, 1, "wide", "wide=2")] == [0]
    for across, halves in ((2, "[(144, 256), (512, 512), (1024, 3)]"), (4, "[(144, 128), (512, 256), (1024, 3)]")):
        name, more = f"wide-{across}", f"wide={across}"
        outcomes = pair.run(2, 2, name, more, "stop=1,6")
        assert [code for code, _ in outcomes] == [143, 143], outcomes
        assert all(f"matrices of {halves}" in text for _, text in outcomes), outcomes
        outcomes = pair.run(2, 2, name, more)
        assert [code for code, _ in outcomes] == [0, 0], outcomes
        assert_same_numbers(pair.folder / "wide", pair.folder / name)


@pytest.mark.slow
def test_a_fault_of_one_ends_the_other_with_it(pair):
    outcomes = pair.run(2, 2, "failed", "fail=1,6")
    assert [code for code, _ in outcomes] == [1, 2], outcomes
    assert (
        "error: process 1 of this run has failed, and this one ends with it. DataError: a picture has" in outcomes[0][1]
    )


@pytest.mark.slow
def test_another_run_in_one_process_is_refused_before_training(pair):
    for code, said in pair.run(2, 2, "other", "seed=1,5"):
        assert code == 2, said
        assert "run: process 1 was given another run than process 0" in said
        assert "Received: seed (0 and 5)" in said
    assert not (pair.folder / "other").exists()
