"""The command line: what it prints, what it leaves, its exit codes. In this process, but for imports."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import broken_pictures
import numpy as np
import pytest
from PIL import Image

from jaxvision import cli
from jaxvision.cli import main
from jaxvision.cli.runs import parse_run
from jaxvision.cli.train import TrainArguments, smoke, with_epochs
from jaxvision.cli.use import _data_to_evaluate
from jaxvision.config import Data, Phase, Run, Schedule
from jaxvision.data import open_dataset
from jaxvision.errors import ConfigError
from jaxvision.serialize import check
from jaxvision.train.folder import read_config
from jaxvision.train.result import read_result

TINY = ["--data.batch-size", "16", "--model.options.features", "2", "3"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A finished smoke run of `digits` with a tiny model, made by the command."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["train", "digits", "--smoke", "--run-dir", str(folder), "--seed", "3", *TINY]) == 0
    return folder


def test_smoke_run_trains_two_steps_and_leaves_a_whole_run_folder(run_dir):
    result, run = read_result(run_dir), read_config(run_dir)
    assert result.steps == 2
    assert result.seed == 3
    assert result.test is not None
    assert run.name == "digits-smoke"
    assert run.data.limit_train == 32
    assert run.model.options["features"] == (2, 3)
    assert run.model.options["downsample"] == "max"  # defaults are written down too
    files = {file.name for file in run_dir.iterdir()}
    assert files >= {"config.json", "environment.json", "metrics.jsonl", "timing.jsonl", "result.json", "curves.png"}


def test_evaluate_agrees_with_the_result(run_dir, capsys):
    assert main(["evaluate", str(run_dir), "--part", "test", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    expected = read_result(run_dir).test
    assert {name: printed[name] for name in expected} == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data.limit-test", "0"], ["data.limit_test", "Received: 0"]),
        (["--data.batch-size", "-5"], ["data.batch_size", "Received: -5"]),
        (["--data.path", "no/where", "--data.source", "npz"], ["no/where"]),
    ],
)
def test_evaluate_checks_its_data(flags, said, run_dir, capsys):
    assert main(["evaluate", str(run_dir), *flags]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said), error


def test_evaluate_takes_other_data_without_the_limits_of_the_runs_own(run_dir, tmp_path, capsys):
    """The run is limited to 16 test pictures; other data may have fewer, and no validation part."""
    digits = open_dataset(Data())
    parts = {name: getattr(digits, name) for name in ("train", "test")}
    arrays = {f"{name}_inputs": part.inputs[:9] for name, part in parts.items()}
    arrays |= {f"{name}_target": part.target[:9] for name, part in parts.items()}
    np.savez(tmp_path / "few.npz", **arrays, class_names=np.array(digits.class_names))
    other = ["--data.source", "npz", f"--data.path={tmp_path / 'few.npz'}"]
    assert main(["evaluate", str(run_dir), *other, "--json"]) == 0
    assert (json.loads(capsys.readouterr().out)["accuracy"] * 9) % 1 == pytest.approx(0, abs=1e-5)
    assert main(["evaluate", str(run_dir), *other, "--data.limit-test", "10"]) == 2
    assert "10 with 9 examples" in capsys.readouterr().err


def test_evaluate_resizes_other_data_as_the_run_did():
    data = Data(source="folder", image_size=(8, 9), resize="crop", limit_test=3, validation_fraction=0.5)
    other = _data_to_evaluate(data, ["--data.path", "x"])
    assert other == Data(source="folder", image_size=(8, 9), resize="crop")
    assert _data_to_evaluate(data, []) == data


def test_results_gathers_runs(run_dir, tmp_path, capsys):
    assert main(["results", str(run_dir), "--out", str(tmp_path / "r.json")]) == 0
    document = json.loads((tmp_path / "r.json").read_text())
    assert document["runs"][0]["test"] == read_result(run_dir).test
    assert "digits-smoke: measured: test accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["trian", "digits"], ["no such command", "Did you mean 'train'"]),
        (["train"], ["the name comes first"]),
        (["train", "digts"], ["Did you mean 'digits'", "Received: 'digts'"]),
        (["train", "digits", "--data.batch-sise", "3"], ["--data.batch-sise", "--data.batch-size"]),
        (["train", "digits", "--data.batch-size", "0"], ["digits: data.batch_size", "Received: 0"]),
        (["train", "digits", "--data.batch-size", "x"], ["--data.batch-size", "'x'"]),
        (["train", "digits", "--data.batch-size", "99999"], ["batch_size", "99999"]),
        (["train", "digits", "--data.source", "digts"], ["data.source", "Did you mean 'digits'"]),
        (["train", "digits", "--data.source", "folder", "--data.path", "no/where"], ["no/where"]),
        (["train", "digits", "--model.name", "convnet-mnst"], ["Did you mean 'convnet-mnist'"]),
        (["train", "digits", "--model.options.dropot", "1"], ["--model.options.dropout"]),
        (["train", "digits", "--checkpoint.monitor", "test/accuracy"], ["checkpoint.monitor", "never selects"]),
        (["evaluate", "runs/none"], ["runs/none", "config.json"]),
        (["evaluate"], ["the run folder comes first"]),
        (["predict", "runs/none", "x.png"], ["runs/none"]),
        (["predict", "runs/none"], ["at least one picture"]),
        (["results", "runs/none", "--out", "x.json"], ["runs/none"]),
        (["check", "no/where"], ["no/where"]),
        (["prepare"], ["say what to make"]),
        (["prepare", "dogs-vs-cats", "no/where"], ["no/where", "kaggle"]),
        (["summary", "nothing"], ["Received: 'nothing'"]),
        (["preview", "digits", "--index", "99999"], ["--index", "Received: 99999"]),
        (["preview", "digits", "--out", __file__ + "/where.png"], ["test_cli.py/where.png", "cannot be written"]),
        (["train", "digits", "--smoke", "--run-dir", "/proc/x", *TINY], ["/proc/x", "cannot be made", "--run-dir"]),
        (["train", "digits", "--smoke", "--run-dir", __file__ + "/x", *TINY], ["test_cli.py/x", "cannot be made"]),
        (["train", "digits", "--data.source", "os:getcwd"], ["data.source", "function of one argument"]),
        (["summary", "convnet-mnist", "--num-classes", "0"], ["--num-classes", "at least two", "Received: 0"]),
        (["summary", "convnet-mnist", "--input-shape", "0", "28", "1"], ["--input-shape", "at least 1"]),
    ],
)
def test_what_a_user_can_mend_gives_one_message_and_nothing_written(argv, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said), error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_an_existing_run_folder_is_refused_and_left_alone(run_dir, capsys):
    before = (run_dir / "config.json").read_bytes()
    assert main(["train", "digits", "--smoke", "--run-dir", str(run_dir), *TINY]) == 2
    assert str(run_dir) in capsys.readouterr().err
    assert (run_dir / "config.json").read_bytes() == before


def test_other_errors_keep_their_traceback_and_ctrl_c_is_quiet(monkeypatch, capsys):
    def failing(argv):
        raise (KeyboardInterrupt if argv == ["interrupt"] else ZeroDivisionError)

    monkeypatch.setattr(cli, "_command", lambda name: failing)
    with pytest.raises(ZeroDivisionError):
        main(["train", "x"])
    assert main(["train", "interrupt"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_output_that_nobody_reads_ends_the_command_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "jaxvision", "--help"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_source_in_the_current_directory_is_found(tmp_path, monkeypatch, capsys):
    (tmp_path / "source_of_mine.py").write_text("def faulty(data):\n    return 'nothing'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert main(["train", "digits", "--data.source", "source_of_mine:faulty"]) == 2
    assert "must return a Dataset. Received: str" in capsys.readouterr().err


def test_a_truncated_picture_gives_our_message_alone(tmp_path):
    pytest.importorskip("tensorflow")
    for number in range(6):
        broken_pictures.good(tmp_path / "ab"[number % 2] / f"{number}.jpg", seed=number)
    bad = broken_pictures.truncated_jpeg(tmp_path / "b" / "bad.jpg")
    command = ["train", "digits", "--data.source", "folder", "--data.path", str(tmp_path), "--data.batch-size", "4"]
    command += ["--data.image-size", "28", "28", "--checkpoint.monitor", "None", "--run-dir", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-m", "jaxvision", *command], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {bad}: the picture cannot be used")
    assert done.stderr.count("\n") == 1


def test_help_names_every_command_and_each_has_help(capsys):
    assert main(["--help"]) == 0
    assert main([]) == 0
    text = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        if not command.help:  # for other commands to call
            continue
        assert f"  {name} " in text
        assert main([name, "--help"]) == 0
        assert "usage" in capsys.readouterr().out


def test_train_help_explains_every_field(capsys):
    assert main(["train", "mnist-best", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for expected in (
        "--data.batch-size", "--phases.0.optimizer.weight-decay", "Peak learning rate", "(default: 0.003)",
        "--model.options.dropout FLOAT", "Share of the features dropped",
        "--model.options.downsample {max,average,stride,none}", "--task {classification,multilabel,segmentation}",
    ):  # fmt: skip
        assert expected in text
    assert "--schema-version" not in text


def test_flags_change_the_named_run():
    flags = ["--data.shuffle", "False", "--data.image-size", "8", "9", "--phases.0.epochs", "2", "--ema-decay", "None"]
    run = parse_run("train", TrainArguments, ["mnist-best", *flags]).run
    assert (run.data.shuffle, run.data.image_size, run.phases[0].epochs, run.ema_decay) == (False, (8, 9), 2, None)
    assert run.phases[0].schedule.name == "cosine"  # what no flag names stays


def test_model_options_come_from_the_model_that_is_named():
    options = parse_run("train", TrainArguments, ["mnist-best"]).run.model.options
    assert options["dropout"] == 0.3
    assert "downsample" in options
    for flags in (["--model.name", "dense-mnist"], ["--model.name=dense-mnist"]):
        run = parse_run("train", TrainArguments, ["mnist-best", *flags, "--model.options.features", "7"]).run
        assert run.model.name == "dense-mnist"
        assert run.model.options == {"features": (7,)}


def test_epochs_is_short_for_the_one_phase():
    assert with_epochs(Run(), 9).phases == (Phase(epochs=9),)
    with pytest.raises(ConfigError, match=r"2 phases.*Received: 9"):
        with_epochs(Run(phases=(Phase(), Phase())), 9)


def test_smoke_keeps_everything_but_the_amount():
    run = Run(
        data=Data(batch_size=16),
        phases=(
            Phase(10, schedule=Schedule("cosine", warmup_epochs=5)),
            Phase(4, schedule=Schedule("step", step_epochs=(2.0,))),
        ),
    )
    dataset = open_dataset(run.data)
    cut = check(smoke(run, dataset))
    assert [phase.epochs for phase in cut.phases] == [1, 1]
    assert cut.phases[0].schedule.warmup_epochs == 0.5
    assert cut.phases[1].schedule.step_epochs == (0.5,)
    assert cut.data == replace(run.data, cache="off", limit_train=32, limit_validation=16, limit_test=16)
    few = replace(dataset, validation=None)
    assert smoke(replace(run, data=Data(batch_size=1000)), few).data.limit_train == len(dataset.train.target)
    assert smoke(run, few).data.limit_validation is None


@pytest.mark.parametrize(
    ("argv", "total"),
    [
        (["mnist"], "104,202"),  # read from the experiment; its data is neither here nor fetched
        (["convnet-mnist-no-pooling"], "712,202"),
        (["convnet-dogs-vs-cats"], "991,041"),
        (["digits"], "104,202"),
        (["convnet-mnist", "--input-shape", "28", "28", "1", "--num-classes", "5"], f"{104_202 - 5 * 1153:,}"),
        (["convnet-mnist", "--model.options.features", "32", "64"], f"{320 + 18496 + 10 * (11 * 11 * 64 + 1):,}"),
    ],
)
def test_summary_counts_parameters(argv, total, capsys):
    assert main(["summary", *argv]) == 0
    assert f"Total parameters: {total} " in capsys.readouterr().out


def test_check_lists_bad_pictures(tmp_path, capsys):
    for gray, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((4, 4, 3), gray, np.uint8)).save(tmp_path / name / "good.png")
    assert main(["check", str(tmp_path)]) == 0
    (tmp_path / "cat" / "empty.jpg").touch()
    assert main(["check", str(tmp_path), "--json"]) == 2
    report = capsys.readouterr().out
    document = json.loads(report[report.index("{") :])
    assert [file for file, _ in document["bad"]] == [str(tmp_path / "cat" / "empty.jpg")]


def test_prepare_makes_the_books_folders_and_arrays(tmp_path, capsys):
    source = tmp_path / "kaggle"
    source.mkdir()
    for number in range(6):
        for name in ("cat", "dog"):
            Image.fromarray(np.full((5, 4, 3), number, np.uint8)).save(source / f"{name}.{number}.jpg")
    to = tmp_path / "small"
    counts = ["--train", "3", "--validation", "2", "--test", "1"]
    assert main(["prepare", "dogs-vs-cats", str(source), "--to", str(to), *counts]) == 0
    assert sorted(file.name for file in (to / "validation" / "dog").iterdir()) == ["dog.3.jpg", "dog.4.jpg"]
    assert "validation: 2 cat, 2 dog" in capsys.readouterr().out
    npz = tmp_path / "x.npz"
    assert main(["prepare", "arrays", "digits", "--to", str(npz), "--data.limit-train", "20"]) == 0
    assert np.load(npz)["train_inputs"].shape == (20, 28, 28, 1)


def test_list_is_quick_and_the_package_light():
    """Neither `import jaxvision` nor `jaxvision list` waits for JAX, TensorFlow or Matplotlib."""
    script = """
import sys
import jaxvision
from jaxvision.cli import main
assert main(["list"]) == 0 and main(["--help"]) == 0
print(sorted({"jax", "flax", "tensorflow", "matplotlib"} & set(sys.modules)))
"""
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "[]"
    assert "dogs-vs-cats/scratch" in out


def test_list_all_names_models_and_sources(capsys):
    assert main(["list", "--all"]) == 0
    out = capsys.readouterr().out
    assert {"digits", "mnist-best", "convnet-dogs-vs-cats", "folder", "tfds:NAME"} <= set(out.split())


def test_public_names_resolve():
    import jaxvision

    for name in jaxvision.__all__:
        assert getattr(jaxvision, name) is not None
    assert set(jaxvision.__all__) <= set(dir(jaxvision))
    with pytest.raises(AttributeError, match="no attribute 'fti'"):
        _ = jaxvision.fti
