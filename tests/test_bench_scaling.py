"""The simulation of many chips: closed forms, what binds, its page and its command."""

import json
import re
from dataclasses import replace

import pytest
from PIL import Image

from jaxvision.bench.scaling import (
    CHIPS,
    Assumptions,
    Chip,
    Ring,
    Workload,
    all_reduce_seconds,
    estimate,
    lost_share,
    scales_to,
)
from jaxvision.bench.scaling_table import again, duration, scaling_markdown, two_processes_markdown
from jaxvision.bench.two_processes import fitted_ring, predicted
from jaxvision.bench.workloads import PLANS, count
from jaxvision.cli import main
from jaxvision.experiments import FOLDER
from jaxvision.figures.scaling import plot_scaling

NO_WIRE = (Ring(0, float("inf"), 0.0),)
CHIP = Chip("ideal", 1e12, NO_WIRE, 8, 80, 0.5, "")
# A step of 64 pictures takes 0.064 s; data of a few bytes are resident.
WORK = Workload("w", 5e8, 4e8, 10, 1, 1_000_000, 0, 10, 64, 64 * 1024)
EVEN = Assumptions(overhead=0.0, jitter=0.0, overlap=0.0, chip_hours_between_failures=float("inf"))


def test_without_communication_it_is_linear():
    for chips in (1, 2, 8, 1024):
        found = estimate(WORK, CHIP, chips, EVEN)
        assert found.step == pytest.approx(0.064)
        assert found.rate == pytest.approx(1000 * chips)
        assert (found.efficiency, found.bound, found.batch) == (pytest.approx(1), "compute", 64 * chips)
        assert found.hours == pytest.approx(10 * 1e6 / (1000 * chips) / 3600)
    assert estimate(WORK, CHIP, 2048, EVEN).batch == 64 * 1024
    measured = replace(EVEN, step_seconds=0.032, utilization=0.01)
    assert estimate(WORK, CHIP, 8, measured).rate == pytest.approx(16_000)


def test_all_reduce_is_rings_in_rings():
    fast, slow = Ring(4, 100.0, 0.5), Ring(0, 10.0, 2.0)
    assert all_reduce_seconds(1000, 1, (fast, slow)) == 0
    assert all_reduce_seconds(1000, 4, (fast, slow)) == pytest.approx(2 * 3 / 4 * 1000 / 100 + 2 * 3 * 0.5)
    inner, outer = 2 * 3 / 4 * 10 + 3, 2 * 1 / 2 * 250 / 10 + 2 * 2
    assert all_reduce_seconds(1000, 8, (fast, slow)) == pytest.approx(inner + outer)
    assert all_reduce_seconds(1000, 6, (slow,)) == pytest.approx(2 * 5 / 6 * 100 + 2 * 5 * 2)
    assert all_reduce_seconds(0, 6, (slow,)) == pytest.approx(2 * 3 * 2)  # few bytes: a tree
    times = [all_reduce_seconds(1e6, chips, CHIPS["tpu-v5e"].rings) for chips in (1, 2, 4, 8, 16, 32, 256, 512, 4096)]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("bound", "chip", "work", "given"),
    [
        ("gradients", {"rings": (Ring(0, 1e9, 0.0),)}, {}, {}),
        ("statistics", {"rings": (Ring(0, 1e15, 1e-3),)}, {}, {}),
        ("stragglers", {}, {}, {"jitter": 1.0}),
        ("overhead", {}, {}, {"overhead": 0.1}),
        ("input", {}, {"decoded_bytes": 10**6}, {"input_rate": 50.0}),
        ("batch", {}, {"largest_batch": 64}, {}),
    ],
)
def test_what_binds_is_named(bound, chip, work, given):
    found = estimate(replace(WORK, **work), replace(CHIP, **chip), 16, replace(EVEN, **given))
    assert found.bound == bound
    if bound != "batch":
        assert found.rate < 16_000
    if bound == "input":  # 10 cores a chip
        assert found.rate == pytest.approx(16 * 10 * 50)


def test_gradients_hide_behind_the_backward_pass():
    chip = replace(CHIP, rings=(Ring(0, 4e9, 0.0),))
    gradients = 2 * 15 / 16 * 4e8 / 4e9
    for overlap in (0.0, 0.5, 1.0):
        found = estimate(WORK, chip, 16, replace(EVEN, overlap=overlap))
        assert found.parts["gradients"] == pytest.approx(max(0, gradients - overlap * 0.064 * 2 / 3))


def test_more_chips_never_hurt_a_run_whose_batch_may_grow_and_stop_at_one_picture_each():
    rates = [estimate(WORK, CHIPS["h100"], 2**n, Assumptions()).rate for n in range(1, 11)]  # one needs none
    assert rates == sorted(rates)
    small = replace(WORK, largest_batch=32)
    assert scales_to(small, CHIP, replace(EVEN, overhead=0.001)) <= 32
    assert scales_to(small, CHIP, EVEN) == 32
    idle, busy = (estimate(small, CHIP, chips, EVEN) for chips in (1024, 32))
    assert (idle.rate, idle.batch, idle.efficiency) == (busy.rate, 32, pytest.approx(1 / 32))
    assert scales_to(small, CHIP, replace(EVEN, overhead=0.1)) == 1


def test_failures_cost_what_young_says():
    given = Assumptions(chip_hours_between_failures=1000.0, restart=100.0, checkpoint_rate=4e8)
    between = 1000 * 3600 / 64
    assert lost_share(WORK, 64, given) == pytest.approx((2 * 2 / between) ** 0.5 + 100 / between)
    assert estimate(WORK, CHIP, 64, given).lost == lost_share(WORK, 64, given)


def test_models_are_counted():
    work = count("mini-xception", PLANS["mini-xception"])
    assert work.parameter_bytes == 4 * (721_857 - 3_008)
    assert work.norms == 10
    assert work.flops_per_picture == pytest.approx(2.27e9, rel=0.1)


def test_two_processes_are_predicted_by_the_same_formulas():
    ring = fitted_ring({"4": 2e-4, "64": 1.0, "4000004": 1e-2 + 2e-4, "5000000": 9.0})
    assert ring.latency == pytest.approx(1e-4)
    step = {"case": "c", "parameter_bytes": 8e6, "norms": 3, "batch": 32, "alone": 0.05}
    assert predicted(step, ring) == pytest.approx(0.05 + 8e6 / ring.bandwidth + 2e-4 + 3 * 4 * 2e-4)


def test_the_page_is_what_the_simulation_says():
    page = (FOLDER / "results" / "scaling.md").read_text()
    files = sorted((FOLDER / "results" / "bench").glob("scaling-*.json"))
    assert files
    for file in files:
        document = json.loads(file.read_text())
        renewed = json.loads(json.dumps(again(document)))
        assert {name: document[name] for name in renewed} == renewed
        name = document["chip"]["name"]
        assert f"<!-- {name} -->\n{scaling_markdown(document)}<!-- /{name} -->" in page
        for run in document["runs"]:
            plan, counted = PLANS[run["workload"]["name"]], run["workload"]
            assert (plan.examples, plan.largest_batch) == (counted["examples"], counted["largest_batch"])
    checked = json.loads((FOLDER / "results" / "bench" / "two-processes-cpu.json").read_text())
    assert f"<!-- check -->\n{two_processes_markdown(checked)}<!-- /check -->" in page
    decoded = json.loads((FOLDER / "results" / "bench" / "input-cpu.json").read_text())
    per_core = decoded["readers"]["jaxvision"]["pictures_per_second"]["median"] / decoded["threads"]
    assert Assumptions().input_rate == pytest.approx(per_core, rel=0.05)
    for link in re.findall(r"\]\(([^)#:]+)\)", page):
        assert (FOLDER / "results" / link).is_file(), link


def test_command_prints_and_draws(tmp_path, capsys):
    out = tmp_path / "s.json"
    argv = ["bench", "scaling", "mini-xception", "--step-seconds", "0.01", "--chips", "1", "8", "--out", str(out)]
    assert main(argv) == 0
    document = json.loads(out.read_text())
    (run,) = document["runs"]
    assert run["estimates"][0]["parts"]["compute"] == 0.01
    said = capsys.readouterr().out
    assert "0.01 s a step: not measured, simulated" in said
    assert f"pictures a second: mini-xception {run['scales_to']:,}." in said
    assert Image.open(tmp_path / "s.png").size[0] > 800
    axes = plot_scaling(document).axes[0]
    assert [list(line.get_ydata()) for line in axes.get_lines()][1] == [found["rate"] for found in run["estimates"]]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["resnet5"], ["Did you mean 'resnet50'", "Received: 'resnet5'"]),
        (["--chip", "h10"], ["Did you mean 'h100'", "--step-seconds"]),
        (["--chips", "0", "8"], ["--chips", "Received: 0 8"]),
        (["--utilization", "1.5"], ["--utilization", "Received: 1.5"]),
        (["--overlap", "-1"], ["--overlap", "Received: -1"]),
        (["--input-rate", "0"], ["--input-rate: must be above 0", "Received: 0"]),
        (["--step-seconds", "0.1"], ["name it", "Received: none"]),
        (["--out", "no/where.json"], ["--out", "no/where.json"]),
    ],
)
def test_wrong_arguments_give_one_message(argv, said, capsys):
    assert main(["bench", "scaling", *argv]) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in said), error


def test_durations():
    assert [duration(hours) for hours in (0.003, 0.05, 3.1, 72)] == ["10.8 s", "3.0 min", "3.1 h", "3.0 days"]
