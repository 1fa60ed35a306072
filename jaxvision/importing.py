"""Objects of the user's own, named as 'package.module:Name' in a run."""

import importlib
from typing import Any

from jaxvision.errors import ConfigError


def import_attribute(name: str, *, field: str) -> Any:
    """The object that `name`, 'package.module:Name', stands for.

    Args:
      field: the field of the run that holds the name; errors begin with it.

    Raises:
      ConfigError: not of that form, no such module or name, or the module fails when it is imported.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigError(f"{field}: must be package.module:Name. Received: {name!r}")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # the module is the user's: at import it can raise anything
        raise ConfigError(
            f"{field}: cannot be imported: {type(error).__name__}: {error}. Received: {name!r}"
        ) from error
