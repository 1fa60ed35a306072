"""What a benchmark leaves: one JSON document that says on which machine, with which versions, by which command."""

from typing import Any

from etils import epath

from jaxvision.config import Run
from jaxvision.report.results import machine_name
from jaxvision.train.folder import environment, write_json

Document = dict[str, Any]


def document(benchmark: str, *, command: str, **content: Any) -> Document:
    """{benchmark, command, date, machine, versions, ...content}.

    command: as typed, to be repeated by a reader. content: JSON values; dataclasses as dicts.
    """
    here = environment(Run(), fingerprint="")
    return {
        "benchmark": benchmark,
        "command": command,
        "date": here["started"][:10],
        "machine": machine_name(here),
        "git": here["git"],
        "versions": {"python": here["python"], **here["packages"]},
        **content,
    }


def write_document(path: epath.PathLike, content: Document) -> None:
    """Writes it as JSON in one move. RunFolderError: it cannot be written there."""
    write_json(path, content)
