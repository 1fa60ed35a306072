"""What is evaluated and is not what was trained: averaged weights, and BatchNorm's moving statistics."""

import re
import warnings
from dataclasses import replace

import pytest
from flax import nnx
from test_monitor import PARTS, RUN
from test_step import NORMED as PIXELS

from jaxvision.cli import main
from jaxvision.config import Checkpoint, Data, Model, Phase, Run
from jaxvision.errors import ShortRunWarning
from jaxvision.models import create_model
from jaxvision.train.averages import warn_of_averaged_weights, warn_of_batch_norm
from jaxvision.train.fit import fit
from jaxvision.train.fit_many import fit_many

pytestmark = pytest.mark.usefixtures("kept_programs")

NORMED = Run(data=Data(batch_size=8), model=Model("mini-xception", {"features": (4, 4, 4)}))


def normed_model(**options) -> nnx.Module:
    return create_model("mini-xception", (16, 16, 3), 1, seed=0, features=(4, 4, 4), **options)


def said_of(function, *arguments) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function(*arguments)
    return [str(warning.message) for warning in caught]


def epochs(count: int, **options) -> tuple[Phase, ...]:
    return (Phase(epochs=count, **options),)


@pytest.mark.parametrize(("decay", "steps"), [(0.999, 4), (0.9999, 100), (0.99, 3)])
def test_weights_averaged_for_longer_than_the_run_are_told_and_the_advice_helps(decay, steps):
    run = replace(RUN, ema_decay=decay, phases=epochs(15))
    (said,) = said_of(warn_of_averaged_weights, run, steps)
    assert f"{decay ** (15 * steps):.0%} of the averaged weights" in said
    lower, longer = re.search(r"ema_decay to ([\d.]+) or less, or phases\.0\.epochs to (\d+)", said).groups()
    for better in (replace(run, ema_decay=float(lower)), replace(run, phases=epochs(int(longer)))):
        assert not said_of(warn_of_averaged_weights, better, steps)
        left = better.ema_decay ** (better.phases[0].epochs * steps)
        assert left <= 0.1


def test_each_phase_and_each_arm_has_an_average_of_its_own(tmp_path):
    run = replace(RUN, ema_decay=0.9, phases=(*epochs(20), *epochs(1)))
    (said,) = said_of(warn_of_averaged_weights, run, 4)
    assert "the 4 steps of phases.1, 66%" in said
    arms = {"short": {"ema_decay": 0.5}, "long": {"ema_decay": 0.999}}
    dense = replace(RUN, model=Model("dense-mnist", {"features": (4,)}), phases=epochs(1), ema_decay=0.5)
    with pytest.warns(ShortRunWarning, match=r"Received: 0\.999") as caught:
        fit_many(dense, [0], arms=arms, run_dir=tmp_path / "arms", data=PARTS, progress=False)
    assert len([one for one in caught if one.category is ShortRunWarning]) == 1


@pytest.mark.parametrize("run", [RUN, replace(RUN, ema_decay=0.0), replace(RUN, ema_decay=0.9), replace(RUN, seed=3)])
def test_averages_that_fit_are_not_told(run):
    assert not said_of(warn_of_averaged_weights, run, 4)


def test_statistics_that_move_too_few_times_are_told_and_the_advice_helps():
    model = normed_model()
    (said,) = said_of(warn_of_batch_norm, replace(NORMED, phases=epochs(2)), model, 30)
    assert "60 times the run moves the statistics" in said
    assert "55% of them" in said
    needed = int(re.search(r"Train (\d+) epochs or more", said)[1])
    assert needed == 16  # measured on the digits: at chance after 10 epochs of 30 steps, trained after 13
    assert not said_of(warn_of_batch_norm, replace(NORMED, phases=epochs(needed)), model, 30)
    assert not said_of(warn_of_batch_norm, replace(NORMED, phases=epochs(needed) + epochs(1)), model, 30)


def test_statistics_that_come_with_the_weights_or_do_not_move_are_not_told():
    frozen = replace(NORMED, phases=epochs(1, batch_norm="frozen"), accumulate=4)
    assert not said_of(warn_of_batch_norm, frozen, normed_model(), 2)
    published = normed_model()
    for _, layer in nnx.iter_modules(published):
        if hasattr(layer, "momentum"):
            layer.mean[...] = layer.mean[...] + 0.1
    assert not said_of(warn_of_batch_norm, replace(NORMED, phases=epochs(1)), published, 2)
    plain = create_model("convnet-mnist", (28, 28, 1), 10, seed=0, features=(4,))
    assert not said_of(warn_of_batch_norm, replace(NORMED, accumulate=4), plain, 2)


def test_batch_norm_of_pieces_is_told_once(tmp_path):
    images, labels = PARTS["train"]
    run = replace(PIXELS, log=RUN.log, phases=epochs(1), checkpoint=Checkpoint(monitor=None), accumulate=4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(run, run_dir=tmp_path / "run", data={"train": (images[:16], labels[:16])}, progress=False)
    said = [str(warning.message) for warning in caught if "BatchNorm" in str(warning.message)]
    assert len(said) == 2
    assert "each piece of 2 images, not of the batch of 8" in said[0]
    assert "8 times the run moves the statistics" in said[1]


def test_a_smoke_run_is_short_on_purpose(tmp_path, recwarn):
    flags = [
        "--ema-decay",
        "0.999",
        "--model.name",
        "dense-mnist",
        "--model.options.features",
        "4",
        "--log.tensorboard",
        "False",
        "--run-dir",
        str(tmp_path / "run"),
    ]
    assert main(["train", "digits", "--smoke", *flags]) == 0
    assert not [warning for warning in recwarn if warning.category is ShortRunWarning]
