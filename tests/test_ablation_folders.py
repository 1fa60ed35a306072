"""What a report makes of the folders it is given: damaged, strange, twice; and where it writes."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
from planted_sweep import BASE, finished_trial, planted_sweep

from jaxvision import cli
from jaxvision.config import Checkpoint, Log, Model
from jaxvision.errors import RunFolderError
from jaxvision.figures.forest import dodged
from jaxvision.report.ablation import analyse, read_sweep
from jaxvision.report.ablation.markdown import as_markdown
from jaxvision.report.ablation.page import as_page
from jaxvision.train.result import read_result, write_result


@pytest.fixture(autouse=True)
def _without_counting(monkeypatch):
    """Operations take a second to count, and have a test of their own."""
    monkeypatch.setattr("jaxvision.report.ablation.cost.prediction_flops", lambda trial: 1e6)


def trial(folder: Path, seed: int = 0, accuracy: float = 0.8, *, run=BASE, **environment) -> Path:
    """A finished run folder."""
    random = np.random.default_rng(0)
    return finished_trial(folder, dataclasses.replace(run, seed=seed), accuracy, random, **environment)


def dropout(rate: float, **fields):
    return dataclasses.replace(BASE, model=Model(BASE.model.name, {"dropout": rate}), **fields)


def command(*arguments) -> int:
    return cli.main(["report", *map(str, arguments)])


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("metrics.jsonl", b"5\n", "metrics.jsonl, line 1: "),
        ("metrics.jsonl", b"{}\n", "line 1: damaged: no record of an epoch. Received: {}"),
        ("metrics.jsonl", b'{"phase": 0, "epoch": 1, "validation/accuracy": "high"}\n', "metrics.jsonl, line 1"),
        ("metrics.jsonl", b'{"phase": 0, "epoch": [1]}\n', "line 1: damaged"),
        ("environment.json", b'{"data_fingerprint": "f8", "git": "abc"}', "environment.json: damaged: git: "),
        ("result.json", {"seconds": 1e999}, "result.json: damaged: seconds: must be finite. Received: inf"),
        ("result.json", b"\xff\xfe", "result.json: damaged"),
        ("config.json", b"{}}", "config.json, line 1: not JSON"),
        ("config.json", None, "has no config.json"),
    ],
)
def test_a_damaged_folder_is_a_failed_trial_with_a_message(tmp_path, file, content, said):
    folder = planted_sweep(tmp_path / "sweep", seeds=(0, 1), whole=True)
    broken = folder / "with-0.25" / "seed-1" / file
    if isinstance(content, dict):
        content = json.dumps({**json.loads(broken.read_text()), **content}).encode()
    broken.unlink() if content is None else broken.write_bytes(content)
    assert command(folder) == 0
    report = json.loads((folder / "report.json").read_text())
    failed = [each for each in report["trials"] if each["status"] != "finished"]
    assert [(each["arm"], each["seed"], each["status"]) for each in failed] == [("with-0.25", 1, "failed")]
    assert said in failed[0]["message"]
    assert list(report["arms"][1]["values"]) == ["0"]


def test_a_curve_may_leave_what_is_finite(tmp_path):
    folder = trial(tmp_path / "run")
    records = [{"phase": 0, "epoch": 1, "validation/accuracy": 1e999}, {"phase": 0, "epoch": 2, "train/accuracy": None}]
    records.append({"phase": 0, "epoch": 3, "validation/accuracy": 0.7})
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert command(folder, "--out", tmp_path / "r.html") == 0
    curves = json.loads((tmp_path / "r.json").read_text())["arms"][0]["curves"]
    assert [(point["epoch"], point["mean"]) for point in curves["validation"]] == [(3, 0.7)]


@pytest.mark.parametrize(
    "line", [b'{"phase": 0, "epo{"phase": 0}', b"5", b"{}", b'{"images_per_second": "fast"}', b"\xff"]
)
def test_timing_costs_no_trial(tmp_path, line):
    timing = trial(tmp_path / "run") / "timing.jsonl"
    lines = timing.read_bytes().splitlines()
    timing.write_bytes(b"\n".join([lines[0], line, *lines[1:]]))
    arm = analyse(read_sweep([tmp_path])).arms[0]
    assert arm.values == {0: 0.8}
    assert arm.cost.images_per_second == pytest.approx(100, rel=0.1)
    timing.unlink()
    assert analyse(read_sweep([tmp_path])).arms[0].cost.images_per_second is None


def test_why_none_is_finished_is_said(tmp_path):
    folder = trial(tmp_path / "run")
    (folder / "result.json").write_text("{}")
    with pytest.raises(
        RunFolderError, match=r"none of the 1 trials of run is finished: 1 failed\.\n.*result.json: damaged"
    ):
        analyse(read_sweep([folder]))


@pytest.mark.parametrize("content", [b'{"name": "\xff"}', None])
def test_a_plan_that_cannot_be_read_is_refused(tmp_path, content, capsys):
    plan = planted_sweep(tmp_path / "sweep", seeds=(0,)) / "ablation.json"
    plan.unlink()
    plan.write_bytes(content) if content else plan.mkdir()
    assert command(plan.parent) == 2
    assert f"{plan}: " in capsys.readouterr().err


def test_a_planned_trial_of_no_arm_is_refused(tmp_path):
    plan = planted_sweep(tmp_path / "sweep", seeds=(0,)) / "ablation.json"
    document = json.loads(plan.read_text())
    document["trials"][1]["arm"] = "with-0.3"
    plan.write_text(json.dumps(document))
    with pytest.raises(
        RunFolderError, match=r"arm of a trial: must be one of the arms, with-0.5, .*Received: 'with-0.3'"
    ):
        read_sweep([plan.parent])


def test_a_message_need_not_be_text(tmp_path):
    folder = planted_sweep(tmp_path / "sweep")
    (folder / "failed" / "without-none" / "seed-1.txt").write_bytes(b"killed \xff at step 3")
    messages = [each.message for each in analyse(read_sweep([folder])).trials if each.status == "failed"]
    assert messages == ["killed \ufffd at step 3"]


def test_a_broken_config_costs_its_run_alone(tmp_path):
    for seed in range(2):
        trial(tmp_path / "runs" / f"a{seed}", seed, 0.8 + 0.01 * seed)
    trial(tmp_path / "runs" / "a2", 2)
    (tmp_path / "runs" / "a2" / "config.json").write_text("{")
    report = analyse(read_sweep([tmp_path / "runs"]))
    assert report.arms[0].values == {0: 0.8, 1: 0.81}
    assert report.counts() == {"finished": 2, "failed": 1}
    assert "config.json, line 1: not JSON" in report.trials[2].message
    assert "config.json, line 1: not JSON" in as_page(report, {})
    assert f"{tmp_path.name}/runs/a2 | failed | its folder" in as_markdown(report, picture="r.png").replace("\\_", "_")
    with pytest.raises(RunFolderError, match="there is no run that can be read"):
        read_sweep([tmp_path / "runs" / "a2"])


def test_what_does_not_touch_the_numbers_makes_no_arm(tmp_path):
    other = dataclasses.replace(
        BASE, devices=2, checkpoint=Checkpoint(every_minutes=3.0), log=Log(tensorboard=not BASE.log.tensorboard),
        data=dataclasses.replace(BASE.data, path="moved", cache="disk"),
    )  # fmt: skip
    trial(tmp_path / "0", 0)
    trial(tmp_path / "1", 1, run=other)
    report = analyse(read_sweep([tmp_path]))
    assert [list(arm.values) for arm in report.arms] == [[0, 1]]
    for field in ("devices", "checkpoint.every_minutes", "log.tensorboard", "data.path", "data.cache"):
        assert any(note.startswith(f"Not all trials have the same {field}, which is no arm") for note in report.notes)
    weights = dataclasses.replace(BASE, model=dataclasses.replace(BASE.model, weights="imagenet.npz"))
    trial(tmp_path / "2", 2, run=weights)
    assert [arm.name for arm in analyse(read_sweep([tmp_path])).arms] == [
        "model.weights None", "model.weights imagenet.npz",
    ]  # fmt: skip


def test_other_data_in_another_place_is_another_arm(tmp_path):
    trial(tmp_path / "0")
    (tmp_path / "1").mkdir()
    other = trial(
        tmp_path / "1" / "r", run=dataclasses.replace(BASE, data=dataclasses.replace(BASE.data, path="more")),
        data_fingerprint="0123456789abcdef",
    )  # fmt: skip
    report = analyse(read_sweep([tmp_path / "0", other]))
    assert [arm.name for arm in report.arms] == ["data.path pictures", "data.path more"]
    assert report.arms[1].changes == {"data.path": ("pictures", "more")}


def test_the_base_says_what_it_is(tmp_path):
    for number, run in enumerate([dropout(0.0), dropout(0.5), dropout(0.0, accumulate=2)]):
        trial(tmp_path / str(number), run=run)
    assert [arm.name for arm in analyse(read_sweep([tmp_path])).arms] == [
        "model.options.dropout 0.0, accumulate 1", "model.options.dropout 0.5", "accumulate 2",
    ]  # fmt: skip


def test_names_of_folders_need_not_be_text(tmp_path):
    folder = tmp_path / os.fsdecode(b"runs \xff")
    for seed in range(2):
        trial(folder / f"a{seed}", seed)
    (folder / "a1" / "result.json").write_text("{}")
    assert command(folder, "--out", tmp_path / "r.html") == 0
    assert "runs ?/a1/result.json: damaged" in (tmp_path / "r.html").read_text()


def test_folders_given_twice_count_once_and_loops_end(tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    for seed in (1, 0):
        trial(runs / "deep" / f"a{seed}", seed)
    (runs / "loop").symlink_to(".")
    (runs / "deep" / "up").symlink_to("..")
    (runs / "again").symlink_to("deep/a0")
    monkeypatch.chdir(runs)
    found = read_sweep([runs / "deep" / "a1", runs, "deep", "deep/../deep/a1"])
    assert [trial.seed for trial in found.trials] == [0, 1]
    sweep = planted_sweep(tmp_path / "sweep", seeds=(0,))
    assert read_sweep([sweep, f"{sweep}/../sweep"]).name == "augmentation-x-dropout"


def test_a_folder_that_gives_nothing_is_named(tmp_path):
    folder = trial(tmp_path / "a")
    (tmp_path / "notes").mkdir()
    with pytest.raises(RunFolderError, match=r"no such folder\. Received: '.*/nope'"):
        read_sweep([folder, tmp_path / "nope"])
    with pytest.raises(RunFolderError, match=r"no run folder .*Received: '.*/notes'"):
        read_sweep([folder, tmp_path / "notes"])


def test_two_runs_of_a_seed_are_both_named(tmp_path):
    for name, seed in (("a", 1), ("a-rerun", 1), ("b", 2), ("b-rerun", 2), ("c", 3)):
        trial(tmp_path / name, seed)
    with pytest.raises(RunFolderError, match="Leave out one of each pair") as caught:
        read_sweep([tmp_path])
    assert [f"/{name}-rerun: seed " in str(caught.value) for name in "abc"] == [True, True, False]
    assert f"as {tmp_path}/a\n" in str(caught.value)


@pytest.mark.parametrize("name", ["x.md", "x.json", "x", "there", "full.html"])
def test_out_is_an_html_file(tmp_path, name, capsys):
    sweep = planted_sweep(tmp_path / "sweep", seeds=(0,))
    (tmp_path / "there").mkdir()
    (tmp_path / "full.html").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert command(sweep, "--out", tmp_path / name) == 2
    assert str(tmp_path / name) in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_one_arm_is_compared_with_nothing(tmp_path):
    for seed in range(2):
        trial(tmp_path / f"a{seed}", seed, 0.8 + 0.01 * seed)
    report = analyse(read_sweep([tmp_path]))
    page, text = as_page(report, {}), as_markdown(report, picture="r.png")
    for words in ("base", "difference", "comparison", "orrected", "What each arm changes", ">p<"):
        assert words not in page.partition("<body>")[2].partition("<script>")[0], words
        assert words not in text
    assert "95\xa0% interval" in page
    one = as_page(analyse(read_sweep([tmp_path / "a0"])), {})
    assert "95\xa0% interval</li>" not in one, "the key tells of what is drawn"
    assert "95\xa0% interval</li>" in page


def test_equal_seeds_do_not_hide_each_other(tmp_path):
    assert dodged([0.9, 0.8, 0.9, 0.9001], 0.001) == [(0.8, 0), (0.9, -1), (0.9, 0), (0.9001, 1)]
    for seed, accuracy in enumerate((0.8, 0.8, 0.9)):
        trial(tmp_path / f"a{seed}", seed, accuracy)
    marks = as_page(analyse(read_sweep([tmp_path])), {}).split('class="seed" ')[1:4]
    assert len({mark.partition(">")[0] for mark in marks}) == 3


def test_markdown_has_a_row_for_the_missing_seeds_of_an_arm(tmp_path):
    folder = planted_sweep(tmp_path / "sweep", whole=True)
    for seed in (0, 2):
        for file in ("result.json", "config.json"):
            (folder / "with-none" / f"seed-{seed}" / file).unlink()
    text = as_markdown(analyse(read_sweep([folder])), picture="r.png")
    assert "| with-none, seeds 0, 2 | missing |  |" in text


def test_the_source_is_its_hash_and_what_was_left_out_is_told(tmp_path):
    for seed, source in enumerate(("a" * 64, "a" * 64, "b" * 64)):
        git = {"commit": str(seed) * 40, "dirty": True}
        folder = trial(tmp_path / f"a{seed}", seed, source=source, git=git)
        if seed == 2:
            write_result(folder, dataclasses.replace(read_result(folder), left_out={"train": 3, "test": 0}))
    report = analyse(read_sweep([tmp_path]))
    assert {value: len(of) for value, of in report.provenance["source"].items()} == {"a" * 12: 2, "b" * 12: 1}
    assert {value: len(of) for value, of in report.provenance["pictures left out"].items()} == {"none": 2, "train 3": 1}
    notes = " ".join(report.notes)
    assert f"the same source: {'a' * 12} (2 trials); {'b' * 12} (1 trial)" in notes
    assert "the same pictures left out" in notes
    assert "the same revision" not in notes
    assert "pictures left out" not in analyse(read_sweep([tmp_path / "a0"])).provenance
