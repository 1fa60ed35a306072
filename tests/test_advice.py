"""What messages name exists: flags, fields of a run, commands, extras. That advice works is tested with its error."""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import jaxvision
from jaxvision.cli import COMMANDS
from jaxvision.config import Run

PACKAGE = Path(jaxvision.__file__).parent
NOT_OF_A_CLASS = {"help", "version", "html", "field"}
OTHERS = {"no-deps", "data_dir", "porcelain", "untracked-files", "process"}
"""Flags of other programs (pip, tfds, git) and of a benchmark's own process."""

WITH_CSS = ("report/style.py", "report/ablation/interactive.py", "explain/page/")
"""Its variables begin with dashes too."""

NO_FIELDS = {"model.safetensors", "model.onnx", "model.save_weights"}


@cache
def messages() -> tuple[tuple[str, str], ...]:
    """(place, text) of every text in the package that is no docstring; what is formatted into one is {}."""
    return tuple(
        (str(path.relative_to(PACKAGE)), text) for path in sorted(PACKAGE.rglob("*.py")) for text in texts(path)
    )


def texts(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node)}
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def run_fields(kind: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of the fields of a run, those of a phase as phases.N.FIELD."""
    hints = get_type_hints(kind)
    for field in fields(kind):
        name = f"{prefix}{field.name}"
        yield name
        for each in (hints[field.name], *get_args(hints[field.name])):
            if is_dataclass(each):
                yield from run_fields(each, f"{name}.N." if name == "phases" else f"{name}.")


def flags() -> set[str]:
    """Of all commands, without the dashes: the fields of every class of arguments, and those of a run."""
    found = {name.replace("_", "-") for name in run_fields(Run)}
    for path in (PACKAGE / "cli").glob("*.py"):
        module = import_module(f"jaxvision.cli.{path.stem}" if path.stem != "__init__" else "jaxvision.cli")
        for value in vars(module).values():
            if isinstance(value, type) and is_dataclass(value):
                found |= {field.name.rstrip("_").replace("_", "-") for field in fields(value)}
    return found


def without_numbers(name: str) -> str:
    return re.sub(r"\.(\d+|\{\})\.", ".N.", name)


def test_flags_in_messages_exist():
    known = flags() | {f"no-{flag}" for flag in flags()} | NOT_OF_A_CLASS | OTHERS
    found = [
        (place, without_numbers(flag))
        for place, text in messages()
        for flag in re.findall(r"(?<![\w-])--([a-z][\w.-]*\w)", text)
        if not place.startswith(WITH_CSS)
    ]
    assert len(found) > 50
    assert not [each for each in found if each[1] not in known and not each[1].startswith("model.options")]


def test_fields_in_messages_exist():
    known = set(run_fields(Run)) | NO_FIELDS
    groups = "|".join(field.name for field in fields(Run) if any(name.startswith(f"{field.name}.") for name in known))
    found = [
        (place, without_numbers(name))
        for place, text in messages()
        for name in re.findall(rf"(?<![\w./-])((?:{groups})\.[a-z_0-9N{{}}.]*[a-z])(?![\w(/])", text)
        if " " in text
    ]
    assert len(found) > 100
    assert not [each for each in found if each[1] not in known and not each[1].startswith("model.options.")]


def test_commands_and_extras_in_messages_exist():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    for place, text in messages():
        for extra in re.findall(r"jaxvision\[(\w+)\]", text):
            assert extra in project["optional-dependencies"], place
        for command in re.findall(r"`?\bjaxvision ([a-z-]+) ?[A-Z`\-{]", text):
            assert command in COMMANDS, f"{place}: jaxvision {command}"
