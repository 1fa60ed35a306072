"""Peers of a benchmark: they take turns, work on the same thing, and what cannot take part says why."""

import json
import pathlib
import statistics
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jaxvision.bench import turns
from jaxvision.bench.cases import CASES, Case, initial_weights, pictures
from jaxvision.bench.compare import run_case, tolerance
from jaxvision.bench.peers import PEERS, Script, ours
from jaxvision.bench.peers.serve import Work
from jaxvision.bench.turns import PeerProcess, interleaved, steps_for
from jaxvision.cli import main
from jaxvision.config import Augment

TRAINING = (
    replace(CASES["mnist"], batch_size=4),
    replace(CASES["dogs-vs-cats"], image_shape=(92, 92, 3), batch_size=2),
    replace(CASES["vgg16-finetune"], image_shape=(32, 32, 3), batch_size=2),
    replace(CASES["residual-convnet"], image_shape=(16, 20, 3), batch_size=4),
    replace(CASES["mini-xception"], image_shape=(64, 60, 3), batch_size=4),
    replace(CASES["segmenter"], image_shape=(16, 24, 3), batch_size=2),
)
FEATURES = replace(CASES["vgg16-features"], image_shape=(64, 32, 3), batch_size=2)

FAKE = """
import os, sys, time
from jaxvision.bench.peers.serve import serve
{early}
class Fake:
    device, setup, versions, parameters, seconds_choosing = "cpu", "as a fake", {{}}, {parameters}, 0.0
    def __init__(self, work):
        print("a library greets")
    def check(self, index):
        return 9.0
    def restart(self):
        pass
    def run(self, steps):
        time.sleep(0.001 * steps)
        {train}
serve(Fake)
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Makes a peer of a script of its own."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(name, *, early="", train="pass", parameters=104202):
        (tmp_path / f"{name}.py").write_text(FAKE.format(early=early, train=train, parameters=parameters))
        return Script(name)

    return make


def test_peers_take_turns_and_who_cannot_says_why(fake, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(PEERS, "other-loss", fake("other_loss"))
    monkeypatch.setitem(PEERS, "other-model", fake("other_model", parameters=7))
    monkeypatch.setitem(PEERS, "absent", fake("absent", early="import no_such_framework"))
    monkeypatch.setitem(
        PEERS, "dead", fake("dead", early="sys.stderr.write('out of luck'); sys.stderr.flush(); os._exit(3)")
    )
    monkeypatch.setitem(PEERS, "raising", fake("raising", early="serve(lambda work: 1 / 0); sys.exit()"))
    tired = "sys.setrecursionlimit(steps > 1 and 1 or 1000)"
    monkeypatch.setitem(PEERS, "tired", fake("tired", train=tired))
    names = ["jaxvision", "other-loss", "other-model", "absent", "dead", "raising", "tired"]
    out = tmp_path / "r.json"
    arguments = ["mnist", "--repeats", "2", "--seconds", "0.1", "--threads", "1", "--out", str(out)]
    assert main(["bench", "peers", *arguments, "--peers", *names]) == 0

    document = json.loads(out.read_text())
    assert {"machine", "versions", "command", "date"} <= set(document)
    assert document["command"].startswith("jaxvision bench peers mnist --repeats 2")
    (entry,) = document["cases"]
    assert entry["case"]["batch_size"] == 64
    results = {result["peer"]: result for result in entry["peers"]}
    assert list(results) == names
    ours, other = results["jaxvision"], results["other-loss"]
    assert ours["status"] == "ok"
    assert ours["parameters"] == 104202
    assert len(ours["losses"]) == 3
    assert 0.5 < ours["seconds_to_first_step"] < 300
    assert len(ours["turns"]) == len(other["turns"]) == 2
    # A step of the fake sleeps a millisecond.
    assert 30 <= other["steps_per_turn"] <= 110
    assert 64 * 200 < other["images_per_second"]["median"] < 64 * 1000
    assert other["ratio"] == pytest.approx(statistics.median(ours["turns"]) / statistics.median(other["turns"]))
    assert {name: results[name]["status"] for name in names[1:]} == {
        "other-loss": "differs", "other-model": "differs", "absent": "failed", "dead": "failed", "raising": "failed",
        "tired": "failed",
    }  # fmt: skip
    assert f"loss of step 1 is 9.00000 where jaxvision has {ours['losses'][0]:.5f}" in other["reason"]
    assert results["other-model"]["reason"] == "7 parameters where jaxvision has 104,202"
    assert results["dead"]["reason"] == "ended with exit code 3: out of luck"
    assert "no_such_framework" in results["absent"]["reason"]
    assert results["raising"]["reason"] == "ZeroDivisionError: division by zero"
    assert "RecursionError" in results["tired"]["reason"]
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)
    assert Image.open(out.with_suffix(".png")).size > (400, 200)


def test_a_competitor_is_stopped_between_turns_and_ends_with_us(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "echo.py").write_text(
        "import os; from jaxvision.bench.peers.serve import converse\n"
        "def begin(task): return {'pid': os.getpid(), 'threads': os.environ['OMP_NUM_THREADS']}, lambda m: m\n"
        "converse(begin)\n"
    )
    with PeerProcess("echo", threads=1) as process:
        introduction = process.ask({})
        assert introduction["threads"] == "1"
        folder = pathlib.Path(f"/proc/{introduction['pid']}")
        if not folder.exists():
            pytest.skip("needs /proc")
        assert _settles(folder, "T")
        assert process.ask({"a": [1]}) == {"a": [1]}
        assert _settles(folder, "T")
    assert not folder.exists()


def _settles(folder: pathlib.Path, state: str) -> bool:
    end = time.monotonic() + 5
    while (folder / "stat").read_text().rpartition(")")[2].split()[0] != state:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_turns_alternate_and_take_the_time_asked_for():
    assert list(interleaved(["a", "b", "c"], 2)) == [(1, "a"), (1, "b"), (1, "c"), (2, "b"), (2, "c"), (2, "a")]
    asked = []

    def turn(steps):
        asked.append(steps)
        return 5.0 if len(asked) == 1 else 0.004 * steps  # the first compiles

    assert steps_for(2.0, turn) == 500
    assert sum(asked) * 0.004 < 2.0
    assert steps_for(2.0, lambda steps: 9.0 * steps) == 1


def work(case: Case) -> Work:
    inputs, target = pictures(case)
    begins = range(0, len(target), case.batch_size)
    batches = [(inputs[i : i + case.batch_size], target[i : i + case.batch_size]) for i in begins]
    return Work(case, "float32", 1, batches, *initial_weights(case))


@pytest.mark.parametrize("case", TRAINING, ids=lambda case: case.name)
def test_torch_trains_what_we_train(case):
    torch_peer = pytest.importorskip("jaxvision.bench.peers.torch_peer", reason="needs the extra `bench`")
    given = work(case)
    here, there = ours.make(given), torch_peer.make(given, "eager")
    assert here.parameters == there.parameters
    expected = [here.check(index) for index in range(3)]
    found = [there.check(index) for index in range(3)]
    assert found[0] == pytest.approx(expected[0], rel=1e-4)
    # BatchNorm over few pixels makes more of a rounding in each step: the limit is the benchmark's own.
    np.testing.assert_allclose(found, expected, rtol=tolerance("float32", "cpu"))
    # A turn starts from the given weights.
    for peer in (here, there):
        peer.run(2)
        peer.restart()
        assert peer.check(0) == pytest.approx(expected[0], rel=1e-5)
    # What is frozen is as it was, what is trained is not.
    trained = {torch_peer._torch_name(name) for name in given.trained}
    for name, tensor in there.start.items():
        same = np.array_equal(there.model.state_dict()[name], tensor)
        assert same == (name not in trained and "running" not in name), name


def test_fine_tuning_trains_block_and_head():
    weights, trained = initial_weights(TRAINING[2])
    assert len(weights) == 26 + 4
    layers = ("base.block5_conv1", "base.block5_conv2", "base.block5_conv3", "head.hidden1", "head.logits")
    assert trained == {f"{layer}.{tensor}" for layer in layers for tensor in ("kernel", "bias")}
    assert ours.make(work(TRAINING[2])).parameters == sum(weights[name].size for name in trained)


def test_torch_computes_our_features():
    torch_peer = pytest.importorskip("jaxvision.bench.peers.torch_peer", reason="needs the extra `bench`")
    here, there = ours.make(work(FEATURES)), torch_peer.make(work(FEATURES), "eager")
    assert here.parameters == there.parameters == 14_714_688
    first = here.check(0)
    assert first.shape == (2, 2, 1, 512)
    assert first.dtype == np.float32
    for index, expected in enumerate([first, here.check(1)]):
        np.testing.assert_allclose(there.check(index), expected, atol=1e-5 * expected.max())
    here.run(3)
    here.restart()
    np.testing.assert_array_equal(here.check(0), first)


def test_torch_augmentation_mirrors_and_reflects():
    torch = pytest.importorskip("torch", reason="needs the extra `bench`")
    from jaxvision.bench.peers.torch_peer import Augmentation

    torch.manual_seed(0)
    x = torch.rand(8, 3, 6, 6) * 255
    changed = Augmentation(Augment(flip="horizontal"))(x)
    mirrored = [torch.allclose(a, b.flip(-1), atol=1e-3) for a, b in zip(changed, x, strict=True)]
    same = [torch.allclose(a, b, atol=1e-3) for a, b in zip(changed, x, strict=True)]
    assert [a != b for a, b in zip(mirrored, same, strict=True)] == [True] * 8
    assert 0 < sum(mirrored) < 8
    # Turned and zoomed pictures of one colour stay so: beyond the border lies its reflection.
    turned = Augmentation(Augment(rotation=0.1, zoom=0.2))(torch.full((8, 3, 6, 6), 200.0))
    assert torch.allclose(turned, torch.full_like(turned, 200.0), atol=1e-3)
    moved = Augmentation(Augment(rotation=0.1, zoom=0.2))(x)
    assert all(not torch.allclose(a, b, atol=1) for a, b in zip(moved, x, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["keras-jax", "keras-tensorflow", "torch-compile"])
def test_peers_agree(peer, monkeypatch):
    if peer.startswith("torch"):
        pytest.importorskip("torch", reason="needs the extra `bench`")
    augmented = replace(TRAINING[1], augment=CASES["dogs-vs-cats-augmented"].augment, options={"dropout": 0.5})
    usual = turns._environment
    for case in (*TRAINING, augmented, FEATURES):
        # The oneDNN of TensorFlow 2.21 corrupts memory in the weight gradient of a 1x1 convolution with a stride on a
        # processor that has AVX2 but no AVX-512.
        without = {"TF_ENABLE_ONEDNN_OPTS": "0"} if case.name == "residual-convnet" else {}
        monkeypatch.setattr(turns, "_environment", lambda threads, without=without: usual(threads) | without)
        peers = {name: PEERS[name] for name in ("jaxvision", peer)}
        results = run_case(case, peers, repeats=1, seconds=0.02, precision="float32", threads=1)
        assert [result.status for result in results] == ["random" if case.is_random else "ok"] * 2, results
        assert all(result.turns for result in results)
