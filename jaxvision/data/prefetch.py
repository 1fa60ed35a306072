"""Prepare the next batches in a background thread while the device works on this one."""

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class _Item(Generic[Item]):
    value: Item


@dataclass(frozen=True)
class _Error:
    error: BaseException


def prefetch(items: Iterator[Item], depth: int = 2) -> Iterator[Item]:
    """The same items, up to `depth` of them prepared ahead.

    An error while preparing surfaces here, in its turn; closing this iterator ends the thread.
    """
    ready: queue.Queue[_Item[Item] | _Error | None] = queue.Queue(depth)  # None ends it
    closed = threading.Event()

    def hand_over(message: _Item[Item] | _Error | None) -> bool:
        while not closed.is_set():
            try:
                ready.put(message, timeout=0.05)
                return True
            except queue.Full:
                pass
        return False

    def prepare() -> None:
        try:
            for item in items:
                if not hand_over(_Item(item)):
                    return
            hand_over(None)
        except BaseException as error:
            hand_over(_Error(error))
        finally:
            if hasattr(items, "close"):
                items.close()

    thread = threading.Thread(target=prepare, name="jaxvision-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            message = ready.get()
            if message is None:
                return
            if isinstance(message, _Error):
                raise message.error
            yield message.value
    finally:
        closed.set()
        thread.join()
