"""Several processes that train one run: who writes, and what they tell each other.

They talk over the key-value store of `jax.distributed`, not over the devices: nothing waits for a step in progress.
With one process all of this does nothing, and does not start JAX's devices.
"""

import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeVar

from etils import epath
from jax._src import distributed  # the only way to the store, and to these numbers before the devices are started

from jaxvision import errors
from jaxvision.errors import UserError

Value = TypeVar("Value")

PATIENCE = 24 * 3600 * 1000
"""Milliseconds to wait for another process: it may decode a whole dataset meanwhile. One that is gone is found by
`jax.distributed` and ends this one."""

_calls = itertools.count()


def process_count() -> int:
    """How many processes train together."""
    return distributed.global_state.num_processes


def process_index() -> int:
    """Which of them this is, from 0."""
    return distributed.global_state.process_id


def is_writer() -> bool:
    """Whether this is process 0, which writes all but the arrays of checkpoints."""
    return process_index() == 0


def store() -> Any:
    """The key-value store; process 0 holds it."""
    return distributed.global_state.client


def tell(key: str, value: Any) -> None:
    """Puts JSON into the store, once."""
    store().key_value_set(f"jaxvision/{key}", json.dumps(value))


def hear(key: str) -> Any:
    """What was or will be told under a key."""
    return json.loads(store().blocking_key_value_get(f"jaxvision/{key}", PATIENCE))


def forget(key: str) -> None:
    """Takes what was told, if it was, out of the store."""
    store().key_value_delete(f"jaxvision/{key}")


def told(folder: str) -> dict[str, Any]:
    """What was told so far under the keys FOLDER/..., by the last part of the key."""
    found = store().key_value_dir_get(f"jaxvision/{folder}/")
    return {key.rpartition("/")[2]: json.loads(value) for key, value in found}


def on_writer(action: Callable[[], Value]) -> Value:
    """What `action` gives (JSON), or the UserError it raises, in all processes; it is done in process 0 alone.

    To be called by all processes in the same order. The others wait.
    """
    if process_count() == 1:
        return action()
    key = f"done/{next(_calls)}"
    if not is_writer():
        answer = hear(key)
        if "error" in answer:
            raise getattr(errors, answer["error"], UserError)(answer["message"])
        return answer["value"]
    try:
        value = action()
    except UserError as error:
        tell(key, {"error": type(error).__name__, "message": str(error)})
        raise
    tell(key, {"value": value})
    return value


def gathered(value: str) -> list[str]:
    """What each process gives, in their order, on process 0; nothing on the others. Called as `on_writer`."""
    if process_count() == 1:
        return [value]
    key = f"given/{next(_calls)}"
    tell(f"{key}/{process_index()}", value)
    return [hear(f"{key}/{number}") for number in range(process_count())] if is_writer() else []


def after_writer() -> None:
    """Lets no process go on before process 0 is here."""
    on_writer(bool)


def folder_on_writer(find: Callable[[], epath.Path | None]) -> epath.Path | None:
    """As `on_writer`, for a folder that all see."""

    def text() -> str | None:
        folder = find()
        return None if folder is None else os.fspath(folder)

    found = on_writer(text)
    return None if found is None else epath.Path(found)


@contextmanager
def entered_on_writer(context: AbstractContextManager[Any]) -> Iterator[None]:
    """Within it process 0 has entered the context; all raise the UserError that came of it."""
    with ExitStack() as stack:

        def enter() -> bool:
            stack.enter_context(context)
            return True

        on_writer(enter)
        yield


@contextmanager
def writer_first() -> Iterator[None]:
    """Around what leaves something in a cache: process 0 does it first, so that the others find it there, where the
    cache is one they share, and otherwise do it themselves, all at once."""
    if not is_writer():
        after_writer()
    yield
    if is_writer():
        after_writer()


@contextmanager
def notes_folder(folder: epath.Path) -> Iterator[epath.Path]:
    """Where this process keeps the log of a run: process 0 in the run's folder, the others where nobody looks."""
    if is_writer():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="jaxvision-") as temporary:
        yield epath.Path(temporary)
