"""What benchmarks tell: who computes the same, ratios, tables and bars."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jaxvision.bench.cases import CASES, as_dict
from jaxvision.bench.compare import PeerResult, as_dicts, compared, ratio
from jaxvision.bench.tables import peers_markdown, print_peers
from jaxvision.figures.bars import draw_bars, plot_bars

MNIST, AUGMENTED, FEATURES = (CASES[name] for name in ("mnist", "dogs-vs-cats-augmented", "vgg16-features"))


def result(peer, turns=(), **fields):
    return PeerResult(peer, turns=turns, **{"device": "cpu", "parameters": 5} | fields)


def test_ratio_is_of_medians():
    ours, other, gone = result("jaxvision", (10.0, 40.0, 30.0)), result("a", (60.0, 15.0)), PeerResult("b", "failed")
    assert ratio(ours, other) == pytest.approx(30 / 37.5)
    assert ratio(ours, gone) is None
    rows = as_dicts([other, ours, gone])
    assert [row["ratio"] for row in rows] == [pytest.approx(0.8), 1.0, None]
    assert rows[1]["images_per_second"] == {"min": 10.0, "median": 30.0, "max": 40.0}
    assert rows[2]["images_per_second"] is None


def test_losses_are_compared_with_ours_where_they_can_be():
    found = {"jaxvision": [1.0, 2.0, 3.0], "near": [1.0, 2.001, 3.0], "far": [1.0, 2.0, 3.1], "nan": [1.0, np.nan, 3.0]}
    found = {name: np.array(losses, np.float32) for name, losses in found.items()}
    ours, near, far, nan = map(result, found)

    def statuses(case, *results):
        return [r.status for r in compared(results, case, "float32", found)]

    assert statuses(MNIST, near, far, nan, ours) == ["ok", "differs", "differs", "ok"]
    compared_far = compared([far, ours], MNIST, "float32", found)[0]
    assert compared_far.reason == "loss of step 3 is 3.10000 where jaxvision has 3.00000"
    assert compared_far.losses == pytest.approx((1.0, 2.0, 3.1))
    assert statuses(MNIST, near, far) == ["ok", "differs"]  # the first is the measure
    assert compared([near, far], MNIST, "float32", found)[1].reason.endswith("where near has 3.00000")
    assert statuses(AUGMENTED, far, replace(near, parameters=6), ours) == ["random", "differs", "random"]
    assert statuses(MNIST, PeerResult("x", "failed", "no")) == ["failed"]


def test_features_are_compared_with_ours():
    features = np.random.default_rng(0).uniform(size=(3, 2, 4, 4, 8))
    features[0, 0, 0, 0, 0] = 2.0
    one_off = features.copy()
    one_off[1, 0, 3, 3, 5] += 0.02
    near = features + 2e-4 * np.random.default_rng(1).uniform(size=features.shape)
    found = {"jaxvision": features, "near": near, "one": one_off, "turned": features.transpose(0, 1, 4, 2, 3)}
    ours, *others = compared(list(map(result, found)), FEATURES, "float32", found)
    assert (ours.status, ours.difference, ours.losses) == ("ok", 0.0, ())
    assert [other.status for other in others] == ["ok", "differs", "differs"]
    assert 0.5e-4 < others[0].difference < 1.01e-4
    assert others[1].reason == "features differ from jaxvision's by up to 0.01 of the largest"
    assert others[2].reason == "features of shape (8, 4, 4) where jaxvision has (4, 4, 8)"


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

    print_peers(console, FEATURES, [result("jaxvision", (8.0,), seconds_to_first_step=2.0)])
    text = console.export_text()
    assert "vgg16-features: inference, 32 x 180x180x3, img/s" in text
    assert "first step features" in " ".join(text.split())


def test_markdown_has_a_table_of_training_and_one_of_inference():
    timed = [result("jaxvision", (8.0, 20.0, 9.0), versions={"jax": "0.1"}), result("torch-eager", (6.0,))]
    document = {"precision": "float32", "repeats": 3, "threads": 2, "command": "jaxvision bench peers"}
    document |= {"machine": "a machine", "date": "2026-11-22"}
    document["cases"] = [
        {"case": as_dict(CASES["vgg16-finetune"]), "peers": as_dicts(timed)},
        {"case": as_dict(FEATURES), "peers": as_dicts([timed[0], PeerResult("torch-eager", "failed", "no")])},
    ]
    lines = peers_markdown(json.loads(json.dumps(document))).splitlines()
    assert lines[0] == "| training step, float32 | jaxvision | torch-eager |"
    assert lines[2:5] == [
        "| vgg16-finetune, batches of 32 | 9 img/s | 6 img/s (1.50 x) |",
        "",
        "| inference, float32 | jaxvision | torch-eager |",
    ]
    assert lines[6:8] == ["| vgg16-features, batches of 32 | 9 img/s | failed |", ""]
    assert lines[9] == "`jaxvision bench peers`, a machine, 2 threads, 2026-11-22; jax 0.1."


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
    five = plot_bars(dict.fromkeys("abcde", panels["other"]), "title", unit="img/s", highlight="jaxvision")
    assert [axes.axison for axes in five.axes] == [True] * 5 + [False]
