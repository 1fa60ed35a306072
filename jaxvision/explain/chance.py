"""Chance level: what a network gets that says the same of every picture."""

from typing import Any

import numpy as np

from jaxvision.types import IGNORE


def chance_level(target: Any, num_classes: int) -> float:
    """The most that one answer for all examples gets of the task's headline metric.

    Args:
      target: as of `jaxvision.data.Part`, which also tells the task. Class numbers (N,): accuracy, the share of the
        most frequent class. 0 and 1 (N, K): mean average precision, the mean share of positives over the classes that
        have any. Masks (N, H, W): mean IoU, the share of the most frequent class's pixels over the number of classes.
    """
    if target.ndim == 1:
        counts = np.bincount(np.asarray(target), minlength=num_classes)
        return float(counts.max() / counts.sum())
    if target.ndim == 2:
        shares = np.mean(np.asarray(target) > 0.5, axis=0)
        return float(shares[shares > 0].mean()) if shares.any() else 0.0
    counts = np.zeros(256, np.int64)
    for start in range(0, len(target), 64):  # masks are read as they are asked for
        counts += np.bincount(target[start : start + 64].reshape(-1), minlength=256)
    counts[IGNORE] = 0
    return float(counts.max() / counts.sum() / np.count_nonzero(counts))
