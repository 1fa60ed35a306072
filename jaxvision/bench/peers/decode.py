"""Decoding a folder of pictures: `decode jaxvision`, `decode cached` (jaxvision's second run) or `decode tf.data`."""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from jaxvision.bench.peers.serve import Message, Turn, converse
from jaxvision.config import Data
from jaxvision.data import Dataset, FilePart, open_dataset, open_feed

Passes = Iterator[int]
"""Pictures in each batch, pass after pass without end."""


def ours(dataset: Dataset, task: Message) -> Passes:
    """The streamed feed of `jaxvision train`, to the device."""
    feed = open_feed(dataset.train, batch_size=task["batch_size"], seed=0, residence="stream", resident_mb=1)
    for epoch in itertools.count():
        for batch in feed.batches(epoch):
            yield len(batch.target)


def bare_tf_data(dataset: Dataset, task: Message) -> Passes:
    """The plainest fast pipeline a TensorFlow user writes."""
    from jaxvision.data.tf_picture import tensorflow

    tf = tensorflow()
    part = dataset.train
    assert isinstance(part, FilePart)

    def decode(path: Any, label: Any) -> Any:
        picture = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        return tf.cast(tf.image.resize(picture, task["image_size"]), tf.uint8), label

    files = tf.data.Dataset.from_tensor_slices((list(part.paths), part.target)).map(decode, tf.data.AUTOTUNE)
    for pictures, _ in files.batch(task["batch_size"]).prefetch(tf.data.AUTOTUNE).repeat().as_numpy_iterator():
        yield len(pictures)


READERS: dict[str, Callable[[Dataset, Message], Passes]] = {
    "jaxvision": ours,
    "cached": ours,
    "tf.data": bare_tf_data,
}


def begin(task: Message) -> tuple[Message, Turn]:
    """Opens the folder, and reads one pass of it if that fills the cache."""
    reader = sys.argv[1]
    cache = task["cache"] if reader == "cached" else "off"
    size = tuple(task["image_size"])
    dataset = open_dataset(Data(source="folder", path=task["folder"], image_size=size, channels=3, cache=cache))

    def turn(message: Message) -> Message:
        counts = READERS[reader](dataset, task)
        next(counts)  # building the pipeline is not timed
        start, pictures = time.perf_counter(), 0
        while (seconds := time.perf_counter() - start) < message["seconds"]:
            pictures += next(counts)
        counts.close()  # type: ignore[attr-defined]
        return {"pictures": pictures, "seconds": seconds}

    if reader == "cached":
        turn({"seconds": 0.0})
    return {"pictures": len(dataset.train.target)}, turn


if __name__ == "__main__":
    converse(begin)
