"""The net holds: equal code gives equal bits, and one changed constant is found in metrics and parameters."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from same_bits import HERE, code_of, differences, train

CASES = ("seeds", "stopped")


@pytest.fixture
def sides(tmp_path: Path) -> list[Path]:
    """Two folders, each with the same run."""
    for side in ("base", "head"):
        run = tmp_path / side / "runs" / "one"
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text('{"step": 1, "train/loss": 0.5}\n{"step": 2, "train/loss": 0.25}\n')
        (tmp_path / side / "weights").mkdir()
        save_file({"kernel": np.ones((2, 3), np.float32)}, tmp_path / side / "weights" / "one.safetensors")
    return [tmp_path / "base", tmp_path / "head"]


def test_the_same_runs_have_no_differences(sides):
    assert differences(*sides) == []


def test_one_digit_of_a_metric_is_found(sides):
    (sides[1] / "runs/one/metrics.jsonl").write_text(
        '{"step": 1, "train/loss": 0.5}\n{"step": 2, "train/loss": 0.26}\n'
    )
    (found,) = differences(*sides)
    assert "one: metrics.jsonl differs first in line 2" in found


def test_a_missing_line_is_found(sides):
    (sides[1] / "runs/one/metrics.jsonl").write_text('{"step": 1, "train/loss": 0.5}\n')
    assert len(differences(*sides)) == 1


def test_one_bit_of_a_parameter_is_found(sides):
    kernel = np.ones((2, 3), np.float32)
    kernel[1, 2] = np.nextafter(np.float32(1), np.float32(2))
    save_file({"kernel": kernel}, sides[1] / "weights/one.safetensors")
    (found,) = differences(*sides)
    assert "1 of 1 tensors differ, such as kernel" in found


def test_a_run_of_one_side_is_found(sides):
    (sides[0] / "runs/two").mkdir()
    (sides[0] / "runs/two/metrics.jsonl").write_text("")
    (found,) = differences(*sides)
    assert found == "runs/two: only one side has it"


def test_nothing_to_compare_is_a_difference(tmp_path):
    assert differences(tmp_path, tmp_path)


@pytest.mark.slow
def test_equal_code_gives_equal_bits_and_a_changed_constant_does_not(tmp_path):
    changed = code_of("HEAD", tmp_path / "changed")
    config = changed / "jaxvision" / "config.py"
    constant, other = "epsilon: Positive = 1e-7", "epsilon: Positive = 1.1e-7"
    assert constant in config.read_text()
    config.write_text(config.read_text().replace(constant, other))
    sides = {name: tmp_path / f"runs-{name}" for name in ("one", "other", "changed")}
    for name, folder in sides.items():
        folder.mkdir()
        train(changed if name == "changed" else HERE, folder, CASES)
    assert differences(sides["one"], sides["other"]) == []
    found = " ".join(differences(sides["one"], sides["changed"]))
    assert all(f"{case}: metrics.jsonl differs" in found and f"{case}: " in found for case in ("stopped", "seed-1"))
