"""The decoded cache: a second run decodes nothing and sees the same batches; whatever goes wrong, training goes on."""

import errno
import os
import shutil
import types
import weakref
from pathlib import Path

import numpy as np
import pytest
from batches import assert_same
from PIL import Image

from jaxvision import config
from jaxvision.cli import main
from jaxvision.data import ArrayPart, cache, open_dataset, open_feed, pipeline, store, take
from jaxvision.data.cache import cached, open_cache
from jaxvision.data.parts import Cache
from jaxvision.errors import DataError

pytest.importorskip("tensorflow")
COUNT = 12


def make_pictures(root, count=COUNT):
    """Pictures of two classes, of unlike sizes."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = root / ("cat", "dog")[number % 2] / f"{number:02}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (30 + number, 41, 3), dtype=np.uint8)).save(path)
    return root


@pytest.fixture
def settings(tmp_path):
    folder = str(make_pictures(tmp_path / "pictures"))
    return {"source": "folder", "path": folder, "image_size": (20, 24), "cache": str(tmp_path / "cache")}


@pytest.fixture
def decoded(monkeypatch):
    """Numbers of the examples that were decoded, as they are."""
    numbers = []

    def counting(*args):
        for batch in decoded_batches(*args):
            numbers.extend(batch[0].tolist())
            yield batch

    decoded_batches = pipeline.decoded_batches
    monkeypatch.setattr(pipeline, "decoded_batches", counting)
    return numbers


def opened(settings, **changes):
    return open_dataset(config.Data(**settings | changes))


def batches(part, residence="stream", seed=3):
    feed = open_feed(part, batch_size=5, seed=seed, residence=residence, resident_mb=64)
    return [tuple(np.asarray(leaf) for leaf in batch) for epoch in (0, 1) for batch in feed.batches(epoch)]


def entries(settings):
    """Names in the cache folder, those of unfinished entries too."""
    return sorted(os.listdir(settings["cache"])) if os.path.isdir(settings["cache"]) else []


@pytest.mark.parametrize("residence", ["device", "stream"])
@pytest.mark.parametrize("seed", [None, 3])
def test_a_second_run_decodes_nothing_and_sees_the_same_batches(residence, seed, settings, decoded, capsys):
    plain = batches(opened(settings, cache="off").train, residence, seed)
    assert not entries(settings)
    assert_same(batches(opened(settings).train, residence, seed), plain)
    (key,) = entries(settings)
    assert f"decoded pictures of 12 examples kept in {settings['cache']}/{key} (0 MB)" in capsys.readouterr().err
    decoded.clear()
    assert_same(batches(opened(settings).train, residence, seed), plain)
    assert not decoded
    assert not capsys.readouterr().err


def test_pictures_are_mapped_from_the_file(settings):
    part = cached(opened(settings).train)
    assert isinstance(part, ArrayPart)
    assert isinstance(part.inputs, np.memmap)
    assert part.names == opened(settings).train.paths
    resident = open_feed(part, batch_size=4, seed=None, residence="device", resident_mb=1)
    expected = np.array(part.inputs[:4])
    # A resident feed has read them: what happens to the file later is nothing to it.
    np.memmap(part.inputs.filename, mode="r+")[-part.inputs.nbytes :] = 7
    np.testing.assert_array_equal(next(resident.batches(0)).inputs, expected)


def test_parts_of_a_part_read_rows_of_its_one_entry(settings, decoded):
    few = {"validation_fraction": 0.25, "limit_train": 4}
    plain = opened(settings, cache="off", **few)
    train, validation = batches(plain.train), batches(plain.validation)

    decoded.clear()
    dataset = opened(settings, **few)
    assert_same(batches(dataset.train), train)
    assert_same(batches(dataset.validation), validation)
    assert len(decoded) == 2 * (4 + 3)  # of 12: decoded alone, in each epoch
    assert not entries(settings)

    batches(opened(settings, validation_fraction=0.25).train)  # 9 of 12
    assert len(entries(settings)) == 1
    decoded.clear()
    for residence in ("device", "stream"):
        assert_same(batches(dataset.train, residence), train)
        assert_same(batches(dataset.validation, residence), validation)
    assert_same(batches(take(take(plain.train, np.array([3, 1, 0])), np.array([2, 0])), seed=None), batches(
        take(take(dataset.train, np.array([3, 1, 0])), np.array([2, 0])), seed=None
    ))  # fmt: skip
    assert len(decoded) == 2 * 2  # those without the cache
    assert len(entries(settings)) == 1


def test_the_key_follows_the_files_not_their_place(settings, tmp_path, monkeypatch):
    def rebuilt(**changes):
        before = entries(settings)
        pixels = np.asarray(cached(opened(settings, **changes).train).inputs)
        np.testing.assert_array_equal(pixels, pipeline.decode(opened(settings, **changes).train).inputs)
        return entries(settings) != before

    assert rebuilt()
    assert not rebuilt()
    moved = shutil.move(settings["path"], tmp_path / "moved")
    settings["path"] = str(moved)
    assert not rebuilt()
    path = Path(moved, "cat", "00.jpg")

    assert rebuilt(image_size=(20, 25))
    assert rebuilt(channels=1)
    assert rebuilt(resize="crop")
    times = path.stat()
    path.write_bytes(Path(moved, "cat", "02.jpg").read_bytes())  # another size
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert rebuilt()
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert rebuilt()
    path.rename(path.with_name("99.jpg"))
    assert rebuilt()
    monkeypatch.setattr(cache, "DECODER_VERSION", 99)
    assert rebuilt()
    monkeypatch.setattr(cache, "_tensorflow_version", lambda: "2.99")
    assert rebuilt()
    assert not rebuilt()


@pytest.mark.filterwarnings("ignore:.*nearly uniform")
def test_files_without_compression_are_told_apart_by_their_bytes(settings, tmp_path):
    for value in (1, 2):
        path = tmp_path / str(value) / "a" / "0.bmp"
        path.parent.mkdir(parents=True)
        Image.fromarray(np.full((20, 24, 3), value, np.uint8)).save(path)
        (tmp_path / str(value) / "b").mkdir()
        shutil.copy(path, tmp_path / str(value) / "b")
        for file in (path, tmp_path / str(value) / "b" / "0.bmp"):
            os.utime(file, (0, 0))
        assert (np.asarray(cached(opened(settings, path=str(tmp_path / str(value))).train).inputs) == value).all()


def damage(entry, how):
    file = entry / "pictures.npy"
    content = file.read_bytes()
    match how:
        case "truncated":
            file.write_bytes(content[:-100])
        case "longer":
            file.write_bytes(content + b"x")
        case "zeroed":
            file.write_bytes(content[:-5000] + bytes(5000))
        case "header":
            file.write_bytes(content.replace(b"(12, 20, 24, 3)", b"(12, 24, 20, 3)"))
        case "no pictures":
            file.unlink()
        case "no list":
            (entry / "entry.json").unlink()
        case "half a list":
            (entry / "entry.json").write_text('{"checksum":')


@pytest.mark.parametrize(
    "how", ["truncated", "longer", "zeroed", "header", "no pictures", "no list", "half a list"]
)  # fmt: skip
def test_a_damaged_entry_is_made_anew(how, settings):
    part = opened(settings).train
    expected = batches(part)
    (key,) = entries(settings)
    damage(Path(settings["cache"], key), how)
    with pytest.warns(UserWarning, match=f"{key}: this cache entry is damaged .*made anew"):
        assert_same(batches(part), expected)
    assert entries(settings) == [key]
    assert_same(batches(part), expected)


def no_disk(path):
    return types.SimpleNamespace(free=1000)


def no_space(file):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("name", "replacement", "reason"),
    [("shutil.disk_usage", no_disk, "No space left"), ("_flush", no_space, "No space left"), (None, None, "exists")],
)
def test_a_full_disk_or_an_unwritable_folder_is_warned_of_and_training_goes_on(
    name, replacement, reason, settings, monkeypatch
):
    expected = batches(opened(settings, cache="off").train)
    if name is None:
        Path(settings["cache"]).write_text("a file")
    else:
        monkeypatch.setattr(f"jaxvision.data.store.{name}", replacement)
    with pytest.warns(UserWarning, match=f"cannot be kept there .*{reason}.*data.cache"):
        assert_same(batches(opened(settings).train), expected)
    assert not entries(settings)


def test_a_picture_that_is_no_good_is_named_and_leaves_no_entry(settings):
    bad = Path(settings["path"], "dog", "05.jpg")
    bad.write_bytes(bad.read_bytes()[:700])
    part = opened(settings).train
    with pytest.raises(DataError, match=f"^{bad}: the picture cannot be used"):
        batches(part)
    assert not entries(settings)
    # A part of the part without it can be used all the same.
    good = take(part, np.array([i for i, path in enumerate(part.paths) if path != str(bad)]))
    assert len(batches(good)) == 2 * 3
    bad.unlink()
    with pytest.raises(DataError, match=r"05\.jpg"):
        batches(part)


def test_the_last_to_finish_the_same_entry_takes_the_firsts(tmp_path):
    folder, key, shape = Cache(tmp_path, 2**20), "0" * 64, (4, 2, 2, 1)
    rows = np.arange(16, dtype=np.uint8).reshape(shape)

    def keep(batches):
        return store.keep(folder, key, batches, shape=shape, dtype=rows.dtype, target=None, source="here")

    def slow():
        yield rows[:2]
        first = keep([rows])  # another process begins later and is done sooner
        np.testing.assert_array_equal(first.pictures, rows)
        yield rows[2:]

    np.testing.assert_array_equal(keep(slow()).pictures, rows)
    assert [path.name for path in tmp_path.iterdir()] == [key]


def test_an_entry_is_written_batch_by_batch(tmp_path):
    alive = []

    def producing():
        for number in range(6):
            batch = np.full((2, 4, 4, 1), number, np.uint8)
            alive.append(weakref.ref(batch))
            yield batch
            del batch
            assert sum(reference() is not None for reference in alive) <= 1

    entry = store.keep(Cache(tmp_path, 2**20), "1" * 64, producing(), shape=(12, 4, 4, 1), dtype=np.dtype(np.uint8),
                       target=np.arange(12, dtype=np.int32), source="here")  # fmt: skip
    assert entry.pictures[:, 0, 0, 0].tolist() == [number // 2 for number in range(12)]
    assert entry.target.tolist() == list(range(12))


def test_what_was_not_used_for_longest_makes_room(tmp_path, capsys):
    def keep(digit, size=100_000, limit=490_000):
        rows = np.zeros((size, 1, 1, 1), np.uint8)
        return store.keep(Cache(tmp_path, limit), digit * 64, [rows], shape=rows.shape, dtype=rows.dtype, target=None,
                          source="here")  # fmt: skip

    def kept():
        return "".join(sorted(path.name[0] for path in tmp_path.iterdir() if store.ENTRY.fullmatch(path.name)))

    def age(digit, seconds):
        os.utime(tmp_path / (digit * 64) / "entry.json", (store.STARTED - seconds,) * 2)

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_bytes(bytes(900_000))
    (tmp_path / f".{'f' * 64}.00000000").mkdir()  # left by a process that was killed
    os.utime(tmp_path / f".{'f' * 64}.00000000", (0, 0))
    for digit in "abc":
        assert keep(digit) is not None
    age("a", 10), age("b", 30), age("c", 20)
    assert store.find(Cache(tmp_path, 490_000), "b" * 64) is not None  # so it is used
    assert keep("d", 200_000) is not None
    assert kept() == "abd"
    assert keep("e", 150_000) is not None
    assert kept() == "bde"
    assert keep("f", 200_000) is None  # all the others are in use
    assert "here: decoded pictures of 200,000 examples are not kept: 0 MB are more than data.cache_mb leaves" in (
        capsys.readouterr().err
    )
    age("b", 10), age("d", 10), age("e", 10)
    assert keep("f", 600_000) is None  # in vain, so nothing is removed
    assert kept() == "bde"
    assert (tmp_path / "mine" / "notes").exists()
    assert not list(tmp_path.glob(".*"))


def test_where_the_cache_is(tmp_path, monkeypatch):
    def folder(**settings):
        return open_cache(config.Data(**settings)).folder

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("JAXVISION_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert folder() == tmp_path / ".cache" / "jaxvision" / "decoded"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert folder() == tmp_path / "xdg" / "jaxvision" / "decoded"
    monkeypatch.setenv("JAXVISION_CACHE", "~/mine")
    assert folder() == tmp_path / "mine" / "decoded"
    assert folder(cache="~/other") == tmp_path / "other"
    assert open_cache(config.Data(cache="off")) is None
    assert open_cache(config.Data(cache_mb=3)).limit == 3 * 2**20


def test_a_smoke_run_decodes_its_few_pictures_only(tmp_path, monkeypatch, decoded):
    make_pictures(tmp_path / "pictures", 10)
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path / "cache"))
    flags = {
        "data.source": "folder", "data.path": str(tmp_path / "pictures"), "data.batch-size": 2,
        "data.validation-fraction": 0.5, "data.image-size": "28 28", "data.channels": 1,
    }  # fmt: skip
    words = [word for name, value in flags.items() for word in (f"--{name}", *str(value).split())]
    tiny = ["--model.options.features", "2", "3", "--run-dir", str(tmp_path / "run")]
    # 4 of 10 to train and 2 to validate: of so small a part, a run that is no smoke run would keep all.
    assert main(["train", "mnist", "--smoke", *words, *tiny]) == 0
    assert len(decoded) == 4 + 2
    assert not (tmp_path / "cache" / "decoded").exists()
