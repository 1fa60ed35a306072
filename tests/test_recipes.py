"""Shipped experiments on real data, at full length or far enough to tell that they learn."""

from dataclasses import replace

import pytest

from jaxvision.experiments import load_run
from jaxvision.train.fit import fit


@pytest.mark.slow
def test_the_books_mnist_recipe_reaches_its_accuracy(shared_data, tmp_path):
    run = load_run("mnist")
    result = fit(replace(run, data=replace(run.data, path=str(shared_data / "tfds"))), run_dir=tmp_path / "run")
    # Keras: .9882 to .9914 over seeds.
    assert 0.985 <= result.test["accuracy"] <= 0.995
    assert result.steps == 5 * 938


def test_digits_learns(tmp_path):
    run = load_run("digits")
    result = fit(replace(run, phases=(replace(run.phases[0], epochs=4),)), run_dir=tmp_path / "run", progress=False)
    assert result.test["accuracy"] > 0.9
