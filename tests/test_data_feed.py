"""Feeds: the order, the tail, starting inside an epoch, and resident against streamed."""

import itertools
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest
from batches import assert_same

from jaxvision.data import ArrayPart, epoch_order, open_feed
from jaxvision.data.order import choose
from jaxvision.data.prefetch import prefetch


def numbered(count=23, dtype=np.uint8):
    """Pictures that hold their own number."""
    inputs = np.arange(count, dtype=dtype)[:, None, None, None] * np.ones((1, 4, 3, 1), dtype)
    return ArrayPart(inputs, np.arange(count, dtype=np.int32) % 5)


def feed(part, residence, *, batch_size=5, seed=7, resident_mb=64, shuffle=True):
    return open_feed(
        part, batch_size=batch_size, seed=seed, residence=residence, resident_mb=resident_mb, shuffle=shuffle
    )


def drain(batches):
    return [tuple(np.asarray(leaf) for leaf in batch) for batch in batches]


def test_epoch_order_is_a_pure_function_of_seed_and_epoch():
    first = epoch_order(3, 1, 1000)
    np.random.seed(0)
    np.testing.assert_array_equal(first, epoch_order(3, 1, 1000))
    np.testing.assert_array_equal(np.sort(first), np.arange(1000))
    for other in (epoch_order(3, 2, 1000), epoch_order(4, 1, 1000), epoch_order(-3, 1, 1000)):
        assert np.mean(first == other) < 0.01
    # Fixed for ever: a run that is repeated years later sees the same batches.
    assert epoch_order(0, 0, 8).tolist() == [0, 3, 7, 5, 1, 2, 6, 4]


def test_choices_are_rising_distinct_and_differ_by_purpose():
    chosen = choose(1337, "limit train", 500, 100)
    assert len(np.unique(chosen)) == 100
    assert (np.diff(chosen) > 0).all()
    assert set(chosen) != set(choose(1337, "validation", 500, 100))
    assert set(chosen) != set(choose(1338, "limit train", 500, 100))


@pytest.mark.parametrize("residence", ["device", "stream"])
def test_training_sees_each_example_once_an_epoch_in_a_new_order(residence):
    opened = feed(numbered(), residence)
    assert (opened.num_examples, opened.steps_per_epoch, opened.resident) == (23, 5, residence == "device")
    seen = []
    for epoch in range(2):
        batches = list(opened.batches(epoch))
        assert [len(batch.target) for batch in batches] == [5, 5, 5, 5, 3]
        assert all(isinstance(batch.inputs, jax.Array) and batch.valid.all() for batch in batches)
        assert batches[0].inputs.dtype == np.uint8
        assert batches[0].target.dtype == np.int32
        order = np.concatenate([batch.inputs[:, 0, 0, 0] for batch in batches])
        np.testing.assert_array_equal(order, epoch_order(7, epoch, 23))
        np.testing.assert_array_equal(np.concatenate([batch.target for batch in batches]), order % 5)
        seen.append(order.tolist())
    assert seen[0] != seen[1]


@pytest.mark.parametrize("residence", ["device", "stream"])
@pytest.mark.parametrize(("count", "batch_size"), [(23, 5), (20, 5), (3, 8)])
def test_evaluation_keeps_the_tail_and_marks_the_padding(residence, count, batch_size):
    batches = drain(feed(numbered(count), residence, batch_size=batch_size, seed=None).batches(4))
    assert all(len(target) == batch_size for _, target, _ in batches)
    inputs, target, valid = (np.concatenate(leaves) for leaves in zip(*batches, strict=True))
    assert valid.dtype == bool
    assert valid.sum() == count
    np.testing.assert_array_equal(inputs[valid, 0, 0, 0], np.arange(count))
    np.testing.assert_array_equal(target[valid], np.arange(count) % 5)
    assert (inputs[~valid] == count - 1).all()  # real pictures, so that no layer meets values it never saw


@pytest.mark.parametrize("residence", ["device", "stream"])
@pytest.mark.parametrize("seed", [None, 7])
def test_starting_at_a_step_gives_the_rest_of_the_epoch(residence, seed):
    opened = feed(numbered(), residence, seed=seed)
    whole = drain(opened.batches(3))
    for start in range(6):
        assert_same(drain(opened.batches(3, start)), whole[start:])
    with pytest.raises(ValueError, match="start must be 0 to 5"):
        next(opened.batches(3, 6))


@pytest.mark.parametrize("seed", [None, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resident_and_streamed_batches_are_bit_identical(seed, dtype, tmp_path):
    part = numbered(dtype=dtype)
    resident = drain(feed(part, "device", seed=seed).batches(1))
    assert_same(drain(feed(part, "stream", seed=seed).batches(1)), resident)
    np.save(tmp_path / "inputs.npy", part.inputs)
    mapped = ArrayPart(np.load(tmp_path / "inputs.npy", mmap_mode="r"), part.target)
    assert_same(drain(feed(mapped, "stream", seed=seed).batches(1)), resident)


def test_without_shuffle_training_goes_in_order_unpadded():
    batches = drain(feed(numbered(), "device", shuffle=False).batches(1))
    np.testing.assert_array_equal(np.concatenate([inputs[:, 0, 0, 0] for inputs, _, _ in batches]), np.arange(23))


def test_auto_keeps_on_the_device_what_fits():
    part = ArrayPart(np.zeros((2048, 32, 32, 1), np.uint8), np.zeros(2048, np.int32))  # 2 MB
    assert feed(part, "auto", resident_mb=2).resident
    assert not feed(part, "auto", resident_mb=1).resident
    assert feed(part, "device", resident_mb=1).resident
    assert not feed(part, "stream", resident_mb=99).resident


def prefetching_threads():
    return [thread for thread in threading.enumerate() if thread.name == "jaxvision-prefetch"]


def test_prefetch_prepares_two_ahead_and_ends_when_closed():
    taken = []

    def items():
        for number in itertools.count():
            taken.append(number)
            yield number

    ahead = prefetch(items(), depth=2)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    assert prefetching_threads()
    ahead.close()
    assert not prefetching_threads()
    assert len(taken) <= 3 + 2 + 1  # taken, waiting in the queue, in the hand of the thread


def test_prefetch_raises_the_error_of_the_thread_after_the_items_before_it():
    def items():
        yield 1
        raise OSError("disk gone")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(ahead)
    assert not prefetching_threads()


def test_arrays_digits_shapes_and_npz_need_no_tensorflow(tmp_path):
    program = f"""
import sys, numpy as np
from jaxvision import config
from jaxvision.data import open_dataset, open_feed
images, labels = np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2
np.savez({str(tmp_path / "a.npz")!r}, x_train=images, y_train=labels)
for data, given in (
    (config.Data(), None),
    (config.Data(source="shapes"), None),
    (config.Data(source="npz", path={str(tmp_path / "a.npz")!r}), None),
    (config.Data(image_size=(5, 5)), {{"train": (images, labels)}}),
):
    dataset = open_dataset(data, given=given)
    for residence in ("device", "stream"):
        feed = open_feed(dataset.train, batch_size=32, seed=0, residence=residence, resident_mb=1)
        next(feed.batches(0))
heavy = [name for name in sys.modules if name.partition(".")[0] in ("tensorflow", "tensorflow_datasets", "keras")]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
