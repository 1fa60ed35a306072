"""Errors a user can mend. The command line prints them as one message and exits with code 2."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Something given to jaxvision is wrong; the message says what, where, what was received, what to do."""


class ConfigError(UserError):
    """A field of a run description is wrong."""


class DataError(UserError):
    """A picture, label, folder or dataset is wrong."""


class RunFolderError(UserError):
    """A run folder is missing, taken or damaged."""


class NonFiniteLossError(UserError):
    """Training produced a loss that is not a finite number."""


class OutOfMemoryError(UserError):
    """The device has too little memory for what a run asks of it."""


class ShortRunWarning(UserWarning):
    """A run is too short for its averages. Not shown of a smoke run, which is short on purpose."""


class HostGoneError(Exception):
    """Another process of the run is gone or has not come, and this one cannot do without it; the message says more."""


class StoppedError(KeyboardInterrupt):
    """A signal stopped a run between two steps, and what it takes to go on is saved; the message says how."""

    def __init__(self, signal: int, message: str):
        super().__init__(message)
        self.signal = signal


def nearest(name: str, known: Iterable[str]) -> str:
    """' Did you mean ...?' for the nearest of `known`, or '' where nothing is near."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""
