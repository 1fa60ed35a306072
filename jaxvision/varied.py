"""Numbers of a run that may be another one in each of several runs trained together.

One compiled program trains them all: where a run's description has such a number, the program has an argument.
"""

import dataclasses
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import jax

from jaxvision.config import Run

Number = float | jax.Array
"""A number of a run; an array where it stands for the numbers of several runs."""

VARIED = (
    "ema_decay",
    "loss.label_smoothing",
    "phases.*.groups.*.learning_rate_scale",
    "phases.*.optimizer.beta_1",
    "phases.*.optimizer.beta_2",
    "phases.*.optimizer.clip_norm",
    "phases.*.optimizer.epsilon",
    "phases.*.optimizer.learning_rate",
    "phases.*.optimizer.momentum",
    "phases.*.optimizer.rho",
    "phases.*.optimizer.weight_decay",
    "phases.*.schedule.final_scale",
)
"""Fields of such numbers. Rates of dropout are the model's, see `jaxvision.train.vectorize`."""

STRUCTURAL = ("ema_decay", "phases.*.optimizer.clip_norm", "phases.*.optimizer.momentum")
"""Those that switch something on: runs with and without it are not trained together."""


def may_vary(field: str, values: list[Any]) -> bool:
    """Whether runs with these values of a dotted field can be trained together."""
    if not any(fnmatchcase(field, pattern) for pattern in VARIED):
        return False
    if not all(isinstance(value, int | float) for value in values):
        return False
    structural = any(fnmatchcase(field, pattern) for pattern in STRUCTURAL)
    return not structural or all(values)


def with_numbers(run: Run, numbers: Mapping[str, Number]) -> Run:
    """The run with arrays, of one number or traced, in place of its own {dotted field: number}. Nothing is checked."""
    for field, number in numbers.items():
        run = _replaced(run, field.split("."), number)
    return run


def is_zero(number: Number) -> bool:
    """Whether a number is known to be 0; one that stands for those of several runs is not."""
    return not isinstance(number, jax.Array) and number == 0


def _replaced(node: Any, path: list[str], number: Number) -> Any:
    if not path:
        return number
    head, *rest = path
    if isinstance(node, tuple):
        place = int(head)
        return (*node[:place], _replaced(node[place], rest, number), *node[place + 1 :])
    return dataclasses.replace(node, **{head: _replaced(getattr(node, head), rest, number)})
