"""What a few repeats of an experiment can tell: means with intervals, paired contrasts, Holm's correction.

A repeat is known by its seed, and repeats with the same seed are pairs. Everything that compares runs is a contrast:
a weighted sum, taken seed by seed, of the values of several arms (or cells of a design), and then a t interval and
test over the seeds. That is the paired t test for two arms, and for a factor or a pair of factors the test of a
contrast within subjects (Maxwell, Delaney and Kelley, *Designing Experiments and Analyzing Data*, 3rd edition, ch. 11):
arms may spread differently and no variance is pooled. Both assume seeds that are independent draws, and means over them
that are about normal.
"""

import itertools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

CONFIDENCE = 0.95
# Spread that is only rounding, as a share of the values: equal differences of floats do not come out quite equal.
ROUNDING = 1e-12

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Interval:
    """A mean over n seeds, and the interval that holds the true one with a confidence of 95 %; None where the seeds
    give none, being one, or all with the same value."""

    mean: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Contrast(Interval):
    """A difference. p: of the two-sided t test that the true one is 0; None where there is no interval. seeds: that all
    arms concerned have. values: of each of these seeds."""

    p: float | None
    seeds: tuple[int, ...]
    values: tuple[float, ...]


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """The mean of values (n,) and Student's t interval, mean +- t(n - 1) s / sqrt(n), s the sample standard deviation.

    Raises: ValueError: no values, or one that is not finite.
    """
    error = _standard_error(values, max(map(abs, values), default=0.0))
    low, high = _bounds(mean := float(np.mean(values)), error, len(values), confidence)
    return Interval(mean, low, high, len(values))


def contrast(
    values: Mapping[Key, Mapping[int, float]], weights: Mapping[Key, float], *, confidence: float = CONFIDENCE
) -> Contrast | None:
    """The weighted sum of arms, for each seed that all of them have; its mean over these seeds, interval and test.

    Args:
      values: {arm: {seed: value}}.
      weights: {arm: weight}, with a sum of 0; {a: 1, b: -1} is the paired difference a - b.

    Returns: None where no seed is in all the arms.
    """
    seeds = sorted(set.intersection(*(set(values.get(key, ())) for key in weights)))
    if not seeds:
        return None
    sums = [math.fsum(weight * values[key][seed] for key, weight in weights.items()) for seed in seeds]
    error = _standard_error(sums, max(abs(values[key][seed]) for key in weights for seed in seeds))
    low, high = _bounds(mean := float(np.mean(sums)), error, len(seeds), confidence)
    return Contrast(mean, low, high, len(seeds), _p_value(mean, error, len(seeds)), tuple(seeds), tuple(sums))


def effect_weights(levels: Sequence[Sequence[str]], chosen: Mapping[int, str]) -> dict[tuple[str, ...], float]:
    """Weights of the effect of levels that factors take instead of their first, in a design of all combinations.

    One factor: the mean at that level less the mean at the first, over all combinations of the others' levels. Two:
    their interaction, how much the one's effect changes when the other changes, a difference of differences; 0 where
    effects add up.

    Args:
      levels: of each factor; the first is what is compared with.
      chosen: {number of a factor: its level}.

    Returns: {a level of each factor: weight}, of the cells that count.
    """
    others = math.prod(len(names) for number, names in enumerate(levels) if number not in chosen)
    weights = {}
    for cell in itertools.product(
        *((chosen[number], names[0]) if number in chosen else names for number, names in enumerate(levels))
    ):
        signs = (1 if cell[number] == level else -1 for number, level in chosen.items())
        weights[cell] = math.prod(signs) / others
    return weights


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: p values to be held to the level as they are, however many there are.

    The i-th smallest of m becomes min(1, (m - i + 1) p), and no less than the one before. Among all tests whose null
    hypothesis is true, the chance that any falls below the level is at most the level, however the tests depend on each
    other (Holm 1979, *A simple sequentially rejective multiple test procedure*, Scand. J. Statist. 6).
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def _standard_error(values: Sequence[float], scale: float) -> float | None:
    """s / sqrt(n); None for one value, or where all are the same but for rounding of numbers of this scale."""
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"there must be values, and finite ones. Received: {list(values)}")
    if len(values) == 1:
        return None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return error if error > ROUNDING * scale else None


def _bounds(mean: float, error: float | None, n: int, confidence: float) -> tuple[float, float] | tuple[None, None]:
    if error is None:
        return None, None
    from scipy.special import stdtrit  # scipy.stats, which has the same under clearer names, takes a second to import

    half = float(stdtrit(n - 1, (1 + confidence) / 2)) * error
    return mean - half, mean + half


def _p_value(mean: float, error: float | None, n: int) -> float | None:
    if error is None:
        return None
    from scipy.special import stdtr

    return 2 * float(stdtr(n - 1, -abs(mean) / error))
