"""A run's data opened again: which examples its parts held, and what has become of them."""

import os
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from etils import epath

from jaxvision.bucket import expanded
from jaxvision.config import PARTS, Data, Run
from jaxvision.data import Dataset, Part, open_dataset
from jaxvision.data.examples import (
    Comparison,
    Examples,
    Record,
    are_unchanged,
    compare,
    examples_of,
    first_of,
    record_of,
)
from jaxvision.data.open import drawn, undrawn
from jaxvision.data.order import choose
from jaxvision.data.parts import FilePart, select
from jaxvision.errors import ConfigError, DataError, RunFolderError
from jaxvision.outputs import write_whole
from jaxvision.train.folder import read_environment

NAME = "examples.json.gz"


def write_examples(folder: epath.PathLike, packed: bytes) -> None:
    """Writes examples.json.gz: which examples are in which part (`Record.packed`). RunFolderError: it cannot be
    written."""
    path = epath.Path(folder) / NAME
    try:
        write_whole(path, packed)
    except OSError as error:
        raise RunFolderError(f"{path}: cannot be written. Received: {error.strerror or error}") from error


def read_examples(folder: epath.PathLike) -> Record | None:
    """The record in examples.json.gz; None where there is no such file, as in folders written before it was kept.

    Raises: RunFolderError: it cannot be read, or is damaged.
    """
    path = epath.Path(folder) / NAME
    if not path.exists():
        return None
    try:
        return Record.unpacked(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"{path}: cannot be read, or is damaged. Received: {error}. Bring it back from a copy; or remove it, and"
            " only the fingerprint of the data is compared."
        ) from error


def warn_of_training(record: Record, folder: epath.PathLike, examples: Examples, name: str) -> None:
    """Warns where examples that a run is to be measured on are examples that the run in `folder` was trained on. A
    training part may consist of them."""
    both = record.trained_on(examples)
    if both and (name != "train" or len(both) < len(examples.names)):
        warnings.warn(
            f"{len(both)} of the {len(examples.names)} examples of the {name} part are examples that {folder} was"
            f" trained on ({first_of(both)}). What is measured on them says nothing about unseen images.",
            stacklevel=5,
        )


class RunData:
    """The data of a run, or other data named in its place, opened to take a part from.

    whole: the dataset as its source has it, of which nothing is drawn.
    """

    def __init__(self, run_dir: str | os.PathLike[str], run: Run, settings: Data) -> None:
        """settings: the data to open. With the run's source and path, it is the run's own."""
        self._folder, self._run, self._settings = epath.Path(expanded(run_dir)), run, settings
        own, named = ((data.source, data.path and expanded(data.path)) for data in (run.data, settings))
        self._is_other = own != named
        self._record = read_examples(self._folder)
        self.whole = open_dataset(undrawn(settings))

    def part(self, name: str | None) -> tuple[str, Part]:
        """The name and the examples of a part; name None: the validation part, or else the test part, or else the
        training part.

        Of the run's own data, and of a copy of it elsewhere, these are the examples that the part held in the run: all
        that are there unchanged. A warning says what has changed. Of other data they are those that it has; a warning
        says how many of them the run was trained on.

        Raises: ConfigError: no such part, or a field that would draw it anew. DataError: no example of it is left.
        """
        before, record = self._fingerprint(), self._record
        settings = _drawn_as(self._settings, self._run.data) if self._is_other else self._settings
        if before == self.whole.fingerprint or (before is None and not self._is_other):
            chosen, part = self._drawn(name, settings)
            if self._is_unchanged(chosen, part):
                return chosen, part
        if self._is_other:
            return self._other(name)
        if record is not None:
            name = self._chosen(name, {*record.parts, *_parts(self.whole)})
            if name not in record.parts:  # the data had no such part when the run was trained
                return self._other(name)
            if (wanted := record.parts[name]).is_known:
                self._require_same_draw(name, record.parts.get("validation", wanted).source == "train", settings)
                return name, self._kept(name, record)
        name, part = self._drawn(name, settings)
        self._warn_unknown(name)
        return name, part

    def _fingerprint(self) -> str | None:
        """Of the data that the run was trained on; None where that is not known."""
        if self._record is not None:
            return self._record.fingerprint
        known = (self._folder / "environment.json").exists()
        return read_environment(self._folder)["data_fingerprint"] if known else None

    def _chosen(self, name: str | None, there: Iterable[str]) -> str:
        found = [part for part in PARTS if part in there]
        name = name or next(part for part in ("validation", "test", "train") if part in found)
        if name not in found:
            raise ConfigError(f"part: this data has no part {name!r} to evaluate on. It has: {', '.join(found)}.")
        return name

    def _drawn(self, name: str | None, settings: Data) -> tuple[str, Part]:
        """The part as the settings draw it."""
        dataset = drawn(self.whole, settings)
        name = self._chosen(name, _parts(dataset))
        self._require_same_draw(name, dataset.validation_drawn, settings)
        return name, getattr(dataset, name)

    def _is_unchanged(self, name: str, part: Part) -> bool:
        """Whether files that have the names and sizes of the run's have their contents and targets too. Those of arrays
        belong to the fingerprint."""
        if self._record is None or not isinstance(part, FilePart):
            return True
        changes: dict[str, Any] = {name: part}
        examples = examples_of(replace(self.whole, **changes), name)
        return are_unchanged(examples, self._record, self.whole.class_names)

    def _kept(self, name: str, record: Record) -> Part:
        """The examples of a part in the record, found in data that has changed."""
        wanted = record.parts[name]
        found, comparison = self._compared(name, record)
        rows = [found[comparison.same[example]] for example in wanted.names if example in comparison.same]
        if comparison.differences:
            self._report(name, str(comparison.differences), len(rows), len(wanted.names))
        limit = getattr(self._settings, f"limit_{name}")
        if limit is not None and limit != getattr(self._run.data, f"limit_{name}"):
            if limit > len(rows):
                raise DataError(
                    f"data.limit_{name} is larger than the {name} part. Received: {limit} with {len(rows)} examples."
                )
            rows = [rows[row] for row in choose(self._settings.split_seed, f"limit {name}", len(rows), limit)]
        return select(self.whole, rows)

    def _compared(self, name: str, record: Record) -> tuple[dict[str, tuple[str, int]], Comparison]:
        """Where each example is now, by its name now, and how the data differs from the record. Of files, the content
        is read of those of the part and of those with new names."""
        others = record.names - set(record.parts[name].names)
        now = record_of(self.whole, hashed=_Without(others))
        found = {
            example: (part, row) for part, examples in now.parts.items() for row, example in enumerate(examples.names)
        }
        return found, compare(record, now)

    def _other(self, name: str | None) -> tuple[str, Part]:
        """A part of other data than the run's."""
        dataset, record = drawn(self.whole, self._settings), self._record
        if name is not None and name not in _parts(dataset) and record is not None and name in record.parts:
            # The run drew this part from its data. Where these are partly the same, it is found in them.
            same = self._compared(name, record)[1].same
            if any(example in same for example in record.parts[name].names):
                return name, self._kept(name, record)
        name = self._chosen(name, _parts(dataset))
        if record is not None:
            warn_of_training(record, self._folder, examples_of(dataset, name), name)
        return name, getattr(dataset, name)

    def _require_same_draw(self, name: str, validation_drawn: bool, settings: Data) -> None:
        """ConfigError where training and held-out examples would be told apart otherwise than in training."""
        run = self._run.data
        is_drawn = validation_drawn and name != "test"
        if not is_drawn and not (name == "train" and run.limit_train):
            return
        for field in ("split_seed", "validation_fraction"):
            if (received := getattr(settings, field)) != getattr(run, field):
                raise ConfigError(
                    f"data.{field}: the run drew its {name} part with {getattr(run, field)}. Drawn otherwise, the part"
                    f" mixes examples that the run was trained on with others. Leave data.{field} out."
                    f" Received: {received}."
                )

    def _report(self, name: str, differences: str, left: int, total: int) -> None:
        """Warns of what has changed. DataError: nothing is left of the part."""
        where = self._settings.path or self._settings.source
        changed = f"{where}: the data has changed since {self._folder} was trained: {differences}."
        if left == total:
            warnings.warn(f"{changed} The {total} examples of the run's {name} part are unchanged, and are used.",
                          stacklevel=5)  # fmt: skip
            return
        now = ""
        if getattr(self.whole, name) is not None and not self._is_other:
            now = f" To use the {name} part as it is now, name the data by another path (a link will do): --data.path."
        if not left:
            raise DataError(
                f"{changed} None of the {total} examples of the run's {name} part is unchanged. Bring them back.{now}"
            )
        warnings.warn(
            f"{changed} Only {left} of the {total} examples of the run's {name} part are unchanged, and these are"
            f" used.{now}",
            stacklevel=5,
        )

    def _warn_unknown(self, name: str) -> None:
        data, before = self._run.data, self._fingerprint() or ""
        is_drawn = getattr(data, f"limit_{name}") or (data.validation_fraction and name != "test")
        drawn_anew = " The part is drawn anew, so it may mix examples that the run was trained on with others."
        warnings.warn(
            f"{data.path or data.source}: the data has changed since {self._folder} was trained (its fingerprint was"
            f" {before[:12]}, now {self.whole.fingerprint[:12]}). The run folder does not say by what, so whether this"
            f" {name} part is the run's is unknown.{drawn_anew if is_drawn else ''}",
            stacklevel=5,
        )


class _Without:
    """All names but these."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return name not in self._names


def _parts(dataset: Dataset) -> list[str]:
    return [name for name in PARTS if getattr(dataset, name) is not None]


def _drawn_as(settings: Data, run: Data) -> Data:
    """The settings with the run's draws, where they have none of their own."""
    changes: dict[str, Any] = {
        field: getattr(settings, field) or getattr(run, field)
        for field in ("validation_fraction", *(f"limit_{name}" for name in PARTS))
    }
    if settings == undrawn(settings):
        changes["split_seed"] = run.split_seed
    return replace(settings, **changes)
