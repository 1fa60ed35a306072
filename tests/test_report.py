"""Curves, previews and collected results."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jaxvision.cli.runs import parse_run
from jaxvision.cli.train import TrainArguments
from jaxvision.config import Data, Phase, Run
from jaxvision.errors import RunFolderError
from jaxvision.experiments import load_run
from jaxvision.figures.curves import draw_curves, plot_curves
from jaxvision.models import model_options
from jaxvision.report.results import collect_results, measured_line, read_results, results_table
from jaxvision.train.folder import write_config, write_json
from jaxvision.train.result import Result, write_result


def record(epoch, step, phase=0, **values):
    return {"phase": phase, "epoch": epoch, "step": step, **{k.replace("_", "/", 1): v for k, v in values.items()}}


def lines(axes):
    return {line.get_label(): [list(map(float, data)) for data in line.get_data()] for line in axes.get_lines()}


def test_curves_hold_the_metrics_over_epochs():
    metrics = [
        record(1, 5, validation_loss=0.9, validation_accuracy=0.4),
        record(1, 10, train_loss=0.8, train_accuracy=0.5, validation_loss=0.7, validation_accuracy=0.6),
        record(2, 15, validation_loss=0.6, validation_accuracy=0.6),
        record(2, 20, train_loss=None, train_accuracy=0.7, validation_loss=0.65, validation_accuracy=0.7),
        record(1, 40, phase=1, train_loss=0.3, train_accuracy=0.9, validation_loss=0.9, validation_accuracy=0.65),
    ]
    loss, accuracy = plot_curves(metrics, "x").axes
    assert (loss.get_title(), accuracy.get_title()) == ("loss", "accuracy")
    assert lines(accuracy)["training"] == [[1, 2, 3], [0.5, 0.7, 0.9]]
    assert lines(loss)["validation"] == [[0.5, 1, 1.5, 2, 3], [0.9, 0.7, 0.6, 0.65, 0.9]]
    assert np.isnan(lines(loss)["training"][1][1])
    assert lines(loss)["best epoch 1.5: 0.600"] == [[1.5], [0.6]]  # lowest validation loss
    assert lines(accuracy)["best epoch 1.5: 0.600"] == [[1.5], [0.6]]
    assert [text.get_text().strip() for text in loss.texts] == ["phases.1"]
    assert loss.texts[0].xy[0] == 2.5  # between the last epoch of one phase and the first of the next
    chosen = plot_curves(metrics, "x", best_step=20, best_of_phases=(20, 40)).axes[1]
    assert lines(chosen)["best epoch 2: 0.700"] == [[2], [0.7]]
    assert lines(chosen)["best of its phase"] == [[3], [0.65]]


@pytest.mark.parametrize("epochs", [1, 4])
def test_curves_without_validation(tmp_path, epochs):
    metrics = [record(e, 9 * e, train_loss=1 / e, train_accuracy=0.5) for e in range(1, epochs + 1)]
    axes = plot_curves(metrics, "x").axes[0]
    assert lines(axes)["training"][0] == list(range(1, epochs + 1))
    assert "validation" not in lines(axes)
    draw_curves(metrics, tmp_path / "c.png", "x", best_step=9 * epochs)
    assert Image.open(tmp_path / "c.png").size > (900, 400)


def test_curves_need_a_metric():
    with pytest.raises(ValueError, match="no metrics"):
        plot_curves([record(1, 2)], "x")


def finished(folder, seed, *, test=None, run=None, accuracies=(0.6, 0.8, 0.7), seconds=540.0):
    """A run folder as `fit` leaves it."""
    run = run or Run(name="m", seed=seed, phases=(Phase(epochs=3),))
    folder.mkdir()
    write_config(folder, run)
    write_json(
        folder / "environment.json",
        {
            "started": "2026-11-21T10:00:00+00:00",
            "command": ["/usr/bin/jaxvision", "train", "m", "--seed", str(seed)],
            "python": "3.11.7",
            "packages": {"jax": "0.10.2"},
            "backend": "cpu",
            "devices": ["cpu"],
            "cpu": "Intel(R) Xeon(R) Processor @ 2.1GHz",
            "cpu_count": 2,
        },
    )
    records = [
        record(e + 1, 10 * e + 10, train_loss=0.5, train_accuracy=0.9, validation_accuracy=a)
        for e, a in enumerate(accuracies)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in records))
    rates = [{"images_per_second": rate} for rate in (None, 100.0, 120.0, 500.0)]
    (folder / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rates))
    metrics = None if test is None else {"loss": 0.1, "accuracy": test}
    result = Result("m", seed, 30, 3, 2, 20, "completed", 9, {"loss": 0.5, "accuracy": 0.9},
                    {"loss": 0.3, "accuracy": 0.8}, metrics, seconds, ("a", "b"), (2, 2, 1), "f",
                    str(folder))  # fmt: skip
    write_result(folder, result)
    return folder


def test_results_are_collected_with_mean_and_deviation(tmp_path):
    folders = [finished(tmp_path / str(s), s, test=t) for s, t in ((2, 0.98), (0, 0.99), (1, 1.0))]
    document = collect_results(folders)
    assert [run["seed"] for run in document["runs"]] == [0, 1, 2]
    assert document["mean"]["test"]["accuracy"] == pytest.approx(0.99)
    assert document["std"]["test"]["accuracy"] == pytest.approx(0.01)  # n - 1
    assert document["runs"][0]["images_per_second"] == 120.0
    assert document["runs"][0]["peak"] == {"validation/accuracy": 0.8}
    assert document["runs"][0]["last"]["validation/accuracy"] == 0.7
    expected = "measured: test accuracy 0.9900 +- 0.0100 (3 seeds, 3 epochs, 9 min each, 2-core Intel Xeon)"
    assert measured_line(document) == expected
    write_json(tmp_path / "m.json", document)
    assert measured_line(read_results(tmp_path)["m"]) == expected
    table = results_table(read_results(tmp_path), {"m": {"book": "0.991"}}).splitlines()
    assert table[0].startswith("| experiment | book | ours here | seeds |")
    assert table[2] == "| `m` | 0.991 | test accuracy 0.9900 +- 0.0100 | 3 | 3 | 9 min | 2-core Intel Xeon |"


def test_one_run_without_test_part(tmp_path):
    document = collect_results([finished(tmp_path / "a", 0, seconds=40)])
    assert document["std"] is None
    expected = "measured: validation accuracy 0.8000, highest 0.8000 (1 seed, 3 epochs, 40 s, 2-core Intel Xeon)"
    assert measured_line(document) == expected
    noted = collect_results([tmp_path / "a"], note="beside other work")
    assert measured_line(noted) == expected.replace("Xeon)", "Xeon, beside other work)")


def test_the_command_repeats_the_run(tmp_path):
    run = load_run("mnist-best")
    changed = replace(
        run,
        seed=5,
        data=replace(run.data, path="/somewhere"),
        phases=(replace(run.phases[0], epochs=7),),
        model=replace(run.model, options={**model_options("convnet-mnist"), "dropout": 0.1, "features": (2, 3)}),
    )
    document = collect_results([finished(tmp_path / "a", 5, run=changed)])
    assert document["command"] == (
        "jaxvision train mnist-best --seed SEED "
        "--model.options.features 2 3 --model.options.dropout 0.1 --phases.0.epochs 7"
    )
    words = document["command"].replace("SEED", "5").split()
    assert parse_run("train", TrainArguments, words[2:]).run == replace(changed, data=run.data)
    own = collect_results([finished(tmp_path / "b", 5, run=replace(changed, name="mine"))])
    assert own["command"] == "jaxvision train CONFIG.json --seed SEED"


def test_runs_that_are_no_repeats_are_refused(tmp_path):
    first = finished(tmp_path / "a", 0)
    other = finished(tmp_path / "b", 1, run=Run(name="m", seed=1, phases=(Phase(epochs=3),), data=Data(batch_size=7)))
    with pytest.raises(RunFolderError, match=r"b: not a repeat of .*a: they differ in data"):
        collect_results([first, other])
    with pytest.raises(RunFolderError, match="seed 0 is there twice"):
        collect_results([first, finished(tmp_path / "c", 0)])
    (first / "result.json").unlink()
    with pytest.raises(RunFolderError, match="has not finished"):
        collect_results([first])
