"""The embedded source `digits`: 1,797 real handwritten digits (see embedded/README.md for origin and licence)."""

from importlib import resources

import numpy as np

from jaxvision import config
from jaxvision.data.parts import ArrayPart, Dataset, fingerprint
from jaxvision.data.picture import resize_bilinear

HELD_OUT = 25
"""Pictures of each digit in the validation part, and as many in the test part."""


def digits(data: config.Data) -> Dataset:
    """1,297 / 250 / 250 digits to train, validate and test, uint8 (N, 28, 28, 1) in 0..255, target int32 (N,).

    `data.image_size` and `data.channels` change the size (from the stored 8x8) and repeat the one channel.
    """
    with resources.files("jaxvision.data").joinpath("embedded/digits.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        images, labels = stored["images"], stored["labels"]
    pictures = images[..., None].astype(np.float32) * (255 / 16)
    pictures = resize_bilinear(pictures, data.image_size or (28, 28), data.resize)
    pictures = np.repeat(np.rint(pictures).astype(np.uint8), data.channels or 1, axis=-1)
    target = labels.astype(np.int32)

    parts = {name: ArrayPart(pictures[chosen], target[chosen]) for name, chosen in split(labels).items()}
    return Dataset(
        parts["train"],
        parts["validation"],
        parts["test"],
        class_names=tuple("0123456789"),
        image_shape=pictures.shape[1:],
        fingerprint=fingerprint(parts),
    )


def split(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Indices of each part, in stored order: the same for ever, and the same share of each digit held out."""
    # Philox' raw bits never change between numpy versions; Generator.permutation may.
    rank = np.random.Philox(key=1797).random_raw(len(labels)).argsort(kind="stable").argsort(kind="stable")
    place = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        (members,) = np.nonzero(labels == label)
        place[members] = rank[members].argsort(kind="stable").argsort(kind="stable")
    return {
        "test": np.flatnonzero(place < HELD_OUT),
        "validation": np.flatnonzero((place >= HELD_OUT) & (place < 2 * HELD_OUT)),
        "train": np.flatnonzero(place >= 2 * HELD_OUT),
    }
