"""Named experiments: the `Run` and `Ablation` values in the files of the repository's folder `experiments/`.

A file there assigns them to module-level names; each is known by its own name (an ablation by its base's). A string
right after the assignment describes it; without one the file's docstring does. Names that begin with _ are the file's
own.
"""

import ast
import importlib.util
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from etils import epath

from jaxvision.ablation import Ablation
from jaxvision.bucket import expanded, in_bucket, require_reachable
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
    def name(self) -> str:
        return self.run.name

    @property
    def summary(self) -> str:
        """The first sentence of the description."""
        return _first_sentence(self.text)


class NamedAblation(NamedTuple):
    """An ablation, where it is written, and what is written about it."""

    ablation: Ablation
    file: Path
    variable: str
    text: str

    @property
    def name(self) -> str:
        return self.ablation.name

    @property
    def summary(self) -> str:
        """Its own, or the first sentence of the description."""
        return self.ablation.summary or _first_sentence(self.text)


Entry = TypeVar("Entry", Experiment, NamedAblation)


def load_run(name: str) -> Run:
    """The run of that name.

    Args:
      name: an experiment (`mnist`), `path/to/file.py:VARIABLE` (`:VARIABLE` may be left out where the file has one
        run), or a run folder or its config.json.

    Raises:
      ConfigError: nothing of that name; the message names the nearest.
    """
    name = expanded(name)
    if (place := _python_file(name)) is not None:
        return _pick(place, read_file(place[0]), "run").run
    experiments = list_experiments()
    if name in experiments:
        return experiments[name].run
    if in_bucket(name):
        require_reachable(name)
    path = epath.Path(name) if in_bucket(name) else Path(name)
    config = path / "config.json" if path.is_dir() else path
    if config.suffix == ".json" and config.is_file():
        return from_json(config.read_text(), where=str(config))
    raise ConfigError(
        f"no experiment, run folder or file of this name.{nearest(name, experiments)} "
        f"`jaxvision list` shows what there is. Received: {name!r}"
    )


def load_ablation(name: str) -> Ablation:
    """The ablation of that name, or in `path/to/file.py:VARIABLE`, with a summary. ConfigError: there is none."""
    name = expanded(name)
    if (place := _python_file(name)) is not None:
        entry = _pick(place, read_ablations(place[0]), "ablation")
    else:
        ablations = list_ablations()
        if name not in ablations:
            raise ConfigError(
                f"no ablation or file of this name.{nearest(name, ablations)} `jaxvision list` shows what there is."
                f" Received: {name!r}"
            )
        entry = ablations[name]
    return replace(entry.ablation, summary=entry.summary)


def list_experiments(folder: Path = FOLDER) -> dict[str, Experiment]:
    """Every run below `folder`, by name, in the order of names.

    Raises:
      ConfigError: a file that cannot be loaded, a faulty run, or two runs of one name.
    """
    return _by_name([experiment for file in sorted(folder.rglob("*.py")) for experiment in read_file(file)])


def list_ablations(folder: Path = FOLDER) -> dict[str, NamedAblation]:
    """Every ablation below `folder`, as `list_experiments`. Their arms are not looked at."""
    return _by_name([ablation for file in sorted(folder.rglob("*.py")) for ablation in read_ablations(file)])


def read_file(file: Path) -> list[Experiment]:
    """The runs assigned in a Python file, checked, in the order they are written."""
    return [
        Experiment(check(value, where=f"{file}:{variable}"), file, variable, text)
        for variable, value, text in _values(file, Run)
    ]


def read_ablations(file: Path) -> list[NamedAblation]:
    """The ablations assigned in a Python file, their bases checked, in the order they are written."""
    return [
        NamedAblation(replace(value, base=check(value.base, where=f"{file}:{variable}")), file, variable, text)
        for variable, value, text in _values(file, Ablation)
    ]


def _values(file: Path, kind: type) -> list[tuple[str, Any, str]]:
    """(variable, value, description) of what a Python file assigns of this kind."""
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
        (name, value, texts.get(name) or module.__doc__ or "")
        for name, value in vars(module).items()
        if isinstance(value, kind) and not name.startswith("_")
    ]


def _by_name(entries: list[Entry]) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.name in found:
            what = "experiments" if isinstance(entry, Experiment) else "ablations"
            raise ConfigError(f"two {what} are named {entry.name!r}: in {found[entry.name].file} and in {entry.file}.")
        found[entry.name] = entry
    return dict(sorted(found.items()))


def _python_file(name: str) -> tuple[Path, str] | None:
    """(file, variable or "") where `name` is path/to/file.py or path/to/file.py:VARIABLE."""
    file, _, variable = name.partition(".py")
    if (variable == "" and name.endswith(".py")) or variable.startswith(":"):
        return Path(f"{file}.py"), variable.removeprefix(":")
    return None


def _pick(place: tuple[Path, str], entries: list[Entry], what: str) -> Entry:
    file, variable = place
    there = {entry.variable: entry for entry in entries}
    if variable in there:
        return there[variable]
    if not variable and len(there) == 1:
        return next(iter(there.values()))
    raise ConfigError(
        f"{file}: say which {what}, {file}:NAME.{nearest(variable, there)} {what.capitalize()}s there:"
        f" {', '.join(there) or 'none'}. Received: {variable!r}"
    )


def _first_sentence(text: str) -> str:
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    return re.match(r".*?[.:](?=\s|$)|.*", paragraph)[0]  # type: ignore[index]


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
