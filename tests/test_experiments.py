"""Experiments by name, and the ones that are shipped."""

import re

import pytest

from jaxvision import experiments
from jaxvision.config import Data, Run
from jaxvision.errors import ConfigError
from jaxvision.experiments import FOLDER, list_experiments, load_run
from jaxvision.report.results import measured_line, read_results
from jaxvision.serialize import from_json, to_json

FILE = '''"""Both of these.

More.
"""

from jaxvision.config import Data, Run

ONE = Run(name="one")
TWO = Run(name="group/two", data=Data(batch_size=7))
"""The second one."""
other = 3
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "both.py").write_text(FILE)
    monkeypatch.setattr(experiments, "FOLDER", tmp_path)
    monkeypatch.setattr(experiments.list_experiments, "__defaults__", (tmp_path,))
    return tmp_path


def test_runs_are_known_by_their_names_and_described(folder):
    found = list_experiments()
    assert list(found) == ["group/two", "one"]
    assert found["group/two"].run == Run(name="group/two", data=Data(batch_size=7))
    assert found["group/two"].summary == "The second one."
    assert found["one"].summary == "Both of these."
    assert found["one"].file == folder / "both.py"


def test_load_run_takes_names_files_folders_and_json(folder, tmp_path):
    two = Run(name="group/two", data=Data(batch_size=7))
    assert load_run("group/two") == two
    assert load_run(f"{folder}/both.py:TWO") == two
    (tmp_path / "runs" / "r").mkdir(parents=True)
    (tmp_path / "runs" / "r" / "config.json").write_text(to_json(two))
    assert load_run(str(tmp_path / "runs" / "r")) == two
    assert load_run(str(tmp_path / "runs" / "r" / "config.json")) == two
    (folder / "single.py").write_text("from jaxvision.config import Run\nX = Run(name='single')\n")
    assert load_run(f"{folder}/single.py") == Run(name="single")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("group/tow", "Did you mean 'group/two'"),
        ("both.py:ONE", "both.py: no such file"),
        ("{folder}/both.py:TOW", "Did you mean 'TWO'"),
        ("{folder}/both.py", "say which run.*ONE, TWO"),
        ("{folder}", "no experiment, run folder or file"),
    ],
)
def test_unknown_names_are_refused_with_what_is_there(folder, name, said):
    with pytest.raises(ConfigError, match=said):
        load_run(name.format(folder=folder))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from jaxvision.config import Run\nA = Run(name='one')", "two experiments are named 'one'.*both.py.*new.py"),
        ("x = 1 / 0", "new.py: cannot be loaded: ZeroDivisionError"),
        ("from jaxvision.config import Run\nA = Run(name='a', seed=-1)", "new.py:A: seed"),
    ],
)
def test_faulty_files_are_named(folder, text, said):
    (folder / "new.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        list_experiments()


def test_shipped_experiments_are_sound_and_say_how_to_run_them():
    found = list_experiments()
    expected = {"digits", "mnist", "mnist-no-pooling", "mnist-best", "dogs-vs-cats/scratch", "dogs-vs-cats/augmented"}
    assert expected <= set(found)
    for name, experiment in found.items():
        assert from_json(to_json(experiment.run), where=name) == experiment.run
        written = experiment.file.read_text()
        assert re.search(rf"jaxvision train {re.escape(name)}(\s|$)", written), (
            f"{experiment.file}: no command for {name}"
        )


@pytest.mark.parametrize("name", sorted(read_results(FOLDER / "results")))
def test_what_is_written_was_measured(name):
    """The line that `measured_line` makes of the result file stands word for word in the experiment's file."""
    words = " ".join(list_experiments()[name].file.read_text().replace("#", " ").split())
    assert measured_line(read_results(FOLDER / "results")[name]) in words
