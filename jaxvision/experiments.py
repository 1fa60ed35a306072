"""Named experiments: the `Run` values in the files of the repository's folder `experiments/`.

A file there assigns runs to module-level names; each is known by its own `Run.name`. A string right after the
assignment describes that run; without one the file's docstring does.
"""

import ast
import importlib.util
import itertools
import re
from pathlib import Path
from typing import NamedTuple

from jaxvision.config import Run
from jaxvision.errors import ConfigError, nearest
from jaxvision.serialize import check, from_json

FOLDER = Path(__file__).resolve().parent.parent / "experiments"


class Experiment(NamedTuple):
    """A run, where it is written, and what is written about it."""

    run: Run
    file: Path
    variable: str
    text: str

    @property
    def summary(self) -> str:
        """The first sentence of the description."""
        paragraph = " ".join(self.text.strip().partition("\n\n")[0].split())
        return re.match(r".*?[.:](?=\s|$)|.*", paragraph)[0]  # type: ignore[index]


def load_run(name: str) -> Run:
    """The run of that name.

    Args:
      name: an experiment (`mnist`), `path/to/file.py:VARIABLE` (`:VARIABLE` may be left out where the file has one
        run), or a run folder or its config.json.

    Raises:
      ConfigError: nothing of that name; the message names the nearest.
    """
    file, _, variable = name.partition(".py")
    if (variable == "" and name.endswith(".py")) or variable.startswith(":"):
        return _from_file(Path(f"{file}.py"), variable.removeprefix(":"))
    experiments = list_experiments()
    if name in experiments:
        return experiments[name].run
    config = Path(name) / "config.json" if Path(name).is_dir() else Path(name)
    if config.suffix == ".json" and config.is_file():
        return from_json(config.read_text(), where=str(config))
    raise ConfigError(
        f"no experiment, run folder or file of this name.{nearest(name, experiments)} "
        f"`jaxvision list` shows what there is. Received: {name!r}"
    )


def list_experiments(folder: Path = FOLDER) -> dict[str, Experiment]:
    """Every experiment below `folder`, by name, in the order of names.

    Raises:
      ConfigError: a file that cannot be loaded, a faulty run, or two runs of one name.
    """
    found: dict[str, Experiment] = {}
    for file in sorted(folder.rglob("*.py")):
        for experiment in read_file(file):
            name = experiment.run.name
            if name in found:
                raise ConfigError(f"two experiments are named {name!r}: in {found[name].file} and in {file}.")
            found[name] = experiment
    return dict(sorted(found.items()))


def read_file(file: Path) -> list[Experiment]:
    """The runs assigned in a Python file, checked, in the order they are written."""
    if not file.is_file():
        raise ConfigError(f"{file}: no such file.")
    specification = importlib.util.spec_from_file_location(f"jaxvision_experiment_{file.stem}", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{file}: cannot be loaded: {type(error).__name__}: {error}") from error
    texts = _descriptions(file)
    return [
        Experiment(check(value, where=f"{file}:{name}"), file, name, texts.get(name) or module.__doc__ or "")
        for name, value in vars(module).items()
        if isinstance(value, Run)
    ]


def _from_file(file: Path, variable: str) -> Run:
    runs = {experiment.variable: experiment.run for experiment in read_file(file)}
    if variable in runs:
        return runs[variable]
    if not variable and len(runs) == 1:
        return next(iter(runs.values()))
    there = f"Runs there: {', '.join(runs) or 'none'}."
    raise ConfigError(f"{file}: say which run, {file}:NAME.{nearest(variable, runs)} {there} Received: {variable!r}")


def _descriptions(file: Path) -> dict[str, str]:
    """Strings that directly follow `NAME = ...` in a file."""
    statements = ast.parse(file.read_text()).body
    texts = {}
    for assignment, after in itertools.pairwise(statements):
        if (
            isinstance(assignment, ast.Assign)
            and isinstance(assignment.targets[0], ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            texts[assignment.targets[0].id] = after.value.value
    return texts
