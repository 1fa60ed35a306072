"""Which example comes when: pure functions of seeds, so any step of any epoch can be found at once."""

import numpy as np

_EPOCH, _CHOICE = 0, 1


def epoch_order(seed: int, epoch: int, num_examples: int) -> np.ndarray:
    """Order of the examples in one epoch of training: int64 (num_examples,), a permutation."""
    return _permutation(num_examples, _EPOCH, seed, epoch)


def choose(seed: int, purpose: str, num_examples: int, count: int) -> np.ndarray:
    """`count` of `num_examples` indices drawn without replacement, rising. Another purpose draws independently."""
    return np.sort(_permutation(num_examples, _CHOICE, seed, *purpose.encode())[:count])


def _permutation(length: int, *words: int) -> np.ndarray:
    # Raw Philox bits are the same in every NumPy version; Generator.permutation may change (NEP 19).
    bits = np.random.Philox(np.random.SeedSequence([word % 2**64 for word in words]))
    return np.argsort(bits.random_raw(length), kind="stable")
