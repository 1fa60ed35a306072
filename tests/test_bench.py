"""Benchmarks: peers take turns and train the same thing, what cannot take part says why, and the arithmetic."""

import io
import json
import pathlib
import statistics
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jaxvision.bench import ceiling, convolutions, decoding
from jaxvision.bench.cases import CASES, Case, initial_weights, pictures
from jaxvision.bench.compare import PeerResult, as_dicts, compared, ratio, run_case
from jaxvision.bench.convolutions import Shape
from jaxvision.bench.peers import PEERS, Script
from jaxvision.bench.peers.ours import Ours
from jaxvision.bench.peers.serve import Work
from jaxvision.bench.tables import print_peers
from jaxvision.bench.turns import PeerProcess, interleaved, steps_for
from jaxvision.cli import main
from jaxvision.config import Augment
from jaxvision.figures.bars import draw_bars, plot_bars

MNIST = CASES["mnist"]
SMALL = (
    replace(MNIST, batch_size=4),
    replace(CASES["dogs-vs-cats"], image_shape=(92, 92, 3), batch_size=2),
)
TURNS = {"repeats": 2, "seconds": 0.02, "precision": "float32", "threads": 1}

FAKE = """
import os, sys, time
from jaxvision.bench.peers.serve import serve
{early}
class Fake:
    device, setup, versions, parameters, seconds_choosing = "cpu", "as a fake", {{}}, {parameters}, 0.0
    def __init__(self, work):
        print("a library greets")
    def checked_step(self, index):
        return 9.0
    def restart(self):
        pass
    def train(self, steps):
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


def work(case: Case) -> Work:
    inputs, target = pictures(case)
    begins = range(0, len(target), case.batch_size)
    batches = [(inputs[i : i + case.batch_size], target[i : i + case.batch_size]) for i in begins]
    return Work(case, "float32", 1, batches, initial_weights(case))


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_torch_trains_what_we_train(case):
    pytest.importorskip("torch", reason="needs the extra `bench`")
    from jaxvision.bench.peers.torch_peer import Torch

    ours, theirs = Ours(work(case)), Torch(work(case), "eager")
    assert ours.parameters == theirs.parameters
    expected = [ours.checked_step(index) for index in range(3)]
    np.testing.assert_allclose([theirs.checked_step(index) for index in range(3)], expected, rtol=1e-4)
    # A turn starts from the given weights.
    for peer in (ours, theirs):
        peer.train(2)
        peer.restart()
        assert peer.checked_step(0) == pytest.approx(expected[0], rel=1e-5)


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
def test_peers_agree(peer):
    if peer.startswith("torch"):
        pytest.importorskip("torch", reason="needs the extra `bench`")
    for case in (*SMALL, replace(SMALL[1], augment=CASES["dogs-vs-cats-augmented"].augment, options={"dropout": 0.5})):
        peers = {name: PEERS[name] for name in ("jaxvision", peer)}
        results = run_case(case, peers, repeats=1, seconds=0.02, precision="float32", threads=1)
        assert [result.status for result in results] == ["random" if case.is_random else "ok"] * 2, results
        assert all(result.turns for result in results)


def result(peer, turns, **fields):
    return PeerResult(peer, turns=turns, **{"device": "cpu", "parameters": 5, "losses": (1.0, 2.0, 3.0)} | fields)


def test_ratio_is_of_medians():
    ours, other, gone = result("jaxvision", (10.0, 40.0, 30.0)), result("a", (60.0, 15.0)), PeerResult("b", "failed")
    assert ratio(ours, other) == pytest.approx(30 / 37.5)
    assert ratio(ours, gone) is None
    rows = as_dicts([other, ours, gone])
    assert [row["ratio"] for row in rows] == [pytest.approx(0.8), 1.0, None]
    assert rows[1]["images_per_second"] == {"min": 10.0, "median": 30.0, "max": 40.0}
    assert rows[2]["images_per_second"] is None


def test_losses_are_compared_with_ours_where_they_can_be():
    ours = result("jaxvision", ())
    near, far = result("a", (), losses=(1.0, 2.001, 3.0)), result("b", (), losses=(1.0, 2.0, 3.1))
    assert [r.status for r in compared([near, far, ours], MNIST, "float32")] == ["ok", "differs", "ok"]
    assert "loss of step 3 is 3.10000 where jaxvision has 3.00000" in compared([far, ours], MNIST, "float32")[0].reason
    assert [r.status for r in compared([near, far], MNIST, "float32")] == ["ok", "differs"]  # the first is the measure
    assert compared([near, far], MNIST, "float32")[1].reason.endswith("where a has 3.00000")
    random = [far, result("c", (), parameters=6), ours]
    statuses = [r.status for r in compared(random, CASES["dogs-vs-cats-augmented"], "float32")]
    assert statuses == ["random", "differs", "random"]
    assert [r.status for r in compared([PeerResult("x", "failed", "no")], MNIST, "float32")] == ["failed"]


def test_the_table_says_all():
    console = Console(width=110, record=True, file=io.StringIO())
    rows = [
        result("jaxvision", (1000.0, 2000.0, 3000.0), seconds_to_first_step=4.21, setup="resident feed"),
        result(
            "torch-eager", (500.0,), seconds_to_first_step=1.0, status="differs", reason="loss of step 1", setup="x"
        ),
        PeerResult("torch-compile", "failed", "no [compiler]"),
    ]
    print_peers(console, MNIST, rows, {"jaxvision": 0.125, "torch-eager": 0.03})
    text = console.export_text()
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    assert "mnist: training step, 64 x 28x28x1, img/s" in text
    assert ["jaxvision", "1,000", "2,000", "3,000", "12.5%", "4.2", "s", "agree"] in [
        row.split() for row in text.splitlines()
    ]
    assert "torch-eager 500 500 500 4.00 x 3.0% 1.0 s differs" in " ".join(text.split())
    assert lines["torch-compile:"][1:] == ["failed:", "no", "[compiler]"]
    assert "torch-eager: differs: loss of step 1; x" in text


def test_turns_alternate_and_take_the_time_asked_for():
    assert list(interleaved(["a", "b", "c"], 2)) == [(1, "a"), (1, "b"), (1, "c"), (2, "b"), (2, "c"), (2, "a")]
    asked = []

    def turn(steps):
        asked.append(steps)
        return 5.0 if len(asked) == 1 else 0.004 * steps  # the first compiles

    assert steps_for(2.0, turn) == 500
    assert sum(asked) * 0.004 < 2.0
    assert steps_for(2.0, lambda steps: 9.0 * steps) == 1


def test_bars_are_medians_with_their_spread(tmp_path):
    panels = {
        "mnist": {"jaxvision": (1.0, 3.0, 2.0), "a long name of a peer": (4.0,), "gone": ()},
        "other": {"a": (5.0,)},
    }
    figure = plot_bars(panels, "title", unit="img/s", highlight="jaxvision")
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2.0, 4.0]
    assert [text.get_text().strip() for text in axes.texts] == ["2", "4", "not measured"]
    assert [list(line.get_xdata()) for line in axes.get_lines()] == [[1.0, 3.0], [4.0, 4.0]]
    assert len({bar.get_facecolor() for bar in axes.patches}) == 2
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in (*axes.texts, *axes.get_yticklabels(), axes.title, axes.xaxis.label)]
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.p0, box.p1))
    draw_bars(panels, tmp_path / "b.png", "title", unit="img/s", highlight="jaxvision")
    assert Image.open(tmp_path / "b.png").size[0] > 900


def test_operations_are_those_of_the_model():
    # Multiplications of the three convolutions and the dense layer; the first needs no gradient of its input.
    forward = [26 * 26 * 32 * 9, 11 * 11 * 64 * 9 * 32, 3 * 3 * 128 * 9 * 64, 1152 * 10]
    expected = 2 * (3 * sum(forward) - forward[0])
    assert ceiling.flops_per_picture(MNIST) == pytest.approx(expected, rel=0.05)
    augmented, plain = (replace(case, image_shape=(92, 92, 3), batch_size=2) for case in
                        (CASES["dogs-vs-cats-augmented"], CASES["dogs-vs-cats"]))  # fmt: skip
    assert ceiling.flops_per_picture(augmented) == pytest.approx(ceiling.flops_per_picture(plain), rel=0.01)


def test_ceiling_relates_steps_to_a_matrix_product(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ceiling, "SECONDS", 0.01)
    out = tmp_path / "c.json"
    assert main(["bench", "ceiling", "mnist", "--repeats", "2", "--seconds", "0.05", "--out", str(out)]) == 0
    document = json.loads(out.read_text())
    (step,) = document["steps"]
    assert step["images_per_second"] == statistics.median(step["turns"])
    achieved = step["flops_per_picture"] * step["images_per_second"]
    assert step["share"] == pytest.approx(achieved / document["matmul"]["float32"]["flops_per_second"])
    assert document["copy_bytes_per_second"] > 1e8
    assert f"{step['share']:.1%}" in capsys.readouterr().out


def test_input_decodes_beside_tf_data(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(5):
            picture = rng.integers(0, 256, (12, 10, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / "set" / name / f"{number}.png")
    out = tmp_path / "i.json"
    options = ["--image-size", "8", "6", "--batch-size", "4", "--repeats", "2", "--seconds", "0.05"]
    assert main(["bench", "input", str(tmp_path / "set"), *options, "--out", str(out)]) == 0
    document = json.loads(out.read_text())
    assert document["pictures"] == 10
    assert list(document["readers"]) == list(decoding.READERS)
    for reader in document["readers"].values():
        assert len(reader["turns"]) == 2
        assert reader["pictures_per_second"]["min"] > 10
    ours, bare = (document["readers"][name]["pictures_per_second"]["median"] for name in ("jaxvision", "tf.data"))
    assert document["readers"]["tf.data"]["ratio"] == pytest.approx(ours / bare)
    assert f"{ours / bare:.2f} x" in capsys.readouterr().out
    assert main(["bench", "input", str(tmp_path / "gone")]) == 2
    assert "gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], ["say what to measure"]),
        (["pears"], ["Did you mean 'peers'", "Received: 'pears'"]),
        (["peers", "mnits"], ["Did you mean 'mnist'", "Received: 'mnits'"]),
        (["ceiling", "mnits"], ["Did you mean 'mnist'"]),
        (["peers", "mnist", "--peers", "torch-eagre"], ["Did you mean 'torch-eager'"]),
        (["peers", "--repeats", "0"], ["--repeats", "Received: 0"]),
        (["peers", "--threads", "100000"], ["--threads", "Received: 100000"]),
        (["peers", "--out", "no/where.json"], ["--out", "no/where.json"]),
        (["peers", "--out", "table.csv"], ["--out", ".json"]),
        (["input"], ["name a folder"]),
    ],
)
def test_wrong_arguments_give_one_message(argv, said, capsys):
    assert main(["bench", *argv]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said), error


def test_conv_times_every_candidate_and_marks_the_one_in_use(monkeypatch, capsys, tmp_path):
    shapes = (Shape("plain", 2, 9, 8, 4), Shape("depthwise", 2, 9, 8, 8, padded=True, stride=2, groups=8))
    monkeypatch.setattr(convolutions, "SHAPES", shapes)
    out = tmp_path / "conv.json"
    assert main(["bench", "conv", "--repeats", "1", "--out", str(out)]) == 0
    plain, depthwise = json.loads(out.read_text())["shapes"]
    assert plain["flops"] == 2 * 2 * 7 * 7 * 9 * 8 * 4
    assert depthwise["flops"] == 2 * 2 * 5 * 5 * 9 * 8
    for entry in (plain, depthwise):
        for timing in entry["timings"]:
            assert "compiler" in timing["seconds"]
            assert timing["seconds"][timing["used"]] > 0
    assert "rows" in plain["timings"][2]["seconds"]
    assert "rows" not in depthwise["timings"][2]["seconds"]
    assert capsys.readouterr().out.count("*") == 3 + 6  # in the titles, and at what is used
