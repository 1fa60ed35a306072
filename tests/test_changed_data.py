"""Data that changed since a run was trained: the run keeps which examples were in which part, and uses those."""

import csv
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image

import jaxvision as jv
from jaxvision.cli import main
from jaxvision.data import open_dataset
from jaxvision.data.examples import record_of
from jaxvision.errors import ConfigError, DataError, RunFolderError
from jaxvision.nn import Dense
from jaxvision.report.plan import write_plan
from jaxvision.sweep.prepare import prepare, require_same
from jaxvision.train.folder import write_config, write_environment
from jaxvision.train.run_data import NAME, RunData, write_examples

pytestmark = pytest.mark.usefixtures("kept_programs")


class Tiny(nnx.Module):
    """One dense layer on the mean of each channel."""

    def __init__(self, input_shape, num_classes, *, dtype, rngs):
        self.head = Dense(input_shape[-1], num_classes, rngs=rngs)

    def __call__(self, images, *, train=False, rngs=None):
        return self.head(images.mean(axis=(1, 2), dtype=np.float32) / 255)


def image(path: Path, seed: int) -> Path:
    """A BMP is of 246 bytes whatever it shows: a change is seen by the content alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(path)
    return path


def classes(folder: Path, seed: int = 0, numbers: range = range(0, 20)) -> Path:
    for number in numbers:
        image(folder / "ab"[number % 2] / f"{'ab'[number % 2]}{number:02}.bmp", seed + number)
    return folder


class Kept:
    """A run folder with what a run keeps of its data. No run is trained for it."""

    def __init__(self, folder: Path, **settings) -> None:
        self.folder, self.run = folder, jv.Run(data=jv.Data(**{"cache": "off", "batch_size": 4} | settings))
        folder.mkdir()
        dataset = open_dataset(self.run.data)
        write_environment(folder, self.run, fingerprint=dataset.fingerprint)
        write_examples(folder, record_of(dataset).packed())

    def part(self, name: str | None = None, **changes):
        return RunData(self.folder, self.run, replace(self.run.data, **changes)).part(name)[1]

    def names(self, name: str, **changes) -> list[str]:
        return [Path(path).name for path in self.part(name, **changes).paths]

    def warned(self, name: str, match: str, **changes) -> list[str]:
        with pytest.warns(UserWarning, match=match):
            return self.names(name, **changes)


@pytest.fixture
def drawn(tmp_path) -> Kept:
    """Of 20 images in class folders, of which 5 were drawn to validate."""
    classes(tmp_path / "data")
    return Kept(tmp_path / "run", source="folder", path=str(tmp_path / "data"), validation_fraction=0.25)


@pytest.fixture
def parted(tmp_path) -> Kept:
    """Of a folder for each part, 6 images each; 4 of the test part were drawn to test."""
    for number, part in enumerate(("train", "validation", "test")):
        classes(tmp_path / "data" / part, 100 * number, range(6))
    return Kept(tmp_path / "run", source="folder", path=str(tmp_path / "data"), limit_test=4)


def files(tmp_path, name: str) -> list[Path]:
    return list((tmp_path / "data").rglob(name))


def test_a_run_measures_its_own_validation_part_and_says_what_changed(tmp_path, monkeypatch, capsys, recwarn):
    monkeypatch.chdir(tmp_path)
    classes(Path("data"))
    data = jv.Data("folder", "data", validation_fraction=0.25, cache="off", batch_size=5)
    run = jv.Run(data=data, model=jv.Model(f"{__name__}:Tiny"), phases=(jv.Phase(epochs=1),))
    result = jv.fit(replace(run, log=jv.Log(tensorboard=False)), run_dir="run", progress=False)
    assert not [each for each in recwarn if "trained" in str(each.message)]
    other = replace(run, data=replace(data, split_seed=2), model=replace(run.model, init_from="run"))
    with pytest.warns(UserWarning, match=r"\d of the 5 examples of the validation part are examples that run was"):
        jv.fit(other, run_dir="from-it", progress=False)
    classes(Path("data"), numbers=range(20, 50))
    with pytest.warns(UserWarning, match=r"data: the data has changed since run was trained: 30 added \(a/a20\.bmp, "):
        assert main(["evaluate", "run", "--part", "validation", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {name: measured[name] for name in result.validation} == result.validation
    shutil.copytree("run", "stopped")
    os.remove("stopped/result.json")
    assert main(["train", "run/config.json", "--run-dir", "stopped", "--resume"]) == 2
    assert "a run on both would be neither" in " ".join(capsys.readouterr().err.split())
    assert main(["rerun", "run", "--run-dir", "again"]) == 1
    assert "changed since: the data: 30 added (a/a20.bmp, a/a22.bmp, a/a24.bmp, ...)" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["drawn", "parted"])
def test_the_same_data_elsewhere_has_the_same_parts(kind, request, tmp_path):
    run = request.getfixturevalue(kind)
    before = {name: run.names(name) for name in ("train", "validation")}
    shutil.copytree(tmp_path / "data", tmp_path / "copy")  # with other times
    for file in (tmp_path / "copy").rglob("*.bmp"):
        os.utime(file, (1, 1))
    elsewhere = {"path": str(tmp_path / "copy"), "validation_fraction": 0.0, "limit_test": None}
    assert before == {name: run.names(name, **elsewhere) for name in before}
    if kind == "parted":
        assert run.names("test", **elsewhere) == run.names("test")
        assert len(run.names("test", limit_test=None)) == 6


def test_images_added_removed_renamed_or_changed_leave_the_others_of_a_part(drawn, tmp_path):
    names = drawn.names("validation")
    classes(tmp_path / "data", numbers=range(20, 40))
    assert drawn.warned("validation", r"20 added .* The 5 examples of the run's validation part are unch") == names
    (first,), (second,), (third,) = (files(tmp_path, name) for name in names[:3])
    first.unlink()
    image(second, 999)
    third.rename(third.with_name("other.bmp"))
    match = r"1 missing \(./%s\), 20 added .*1 with other content \(./%s\), 1 under another name .* Only 3 of the 5 ex"
    left = drawn.warned("validation", match % (names[0], names[1]))
    assert left == ["other.bmp", *names[3:]]


def test_an_image_that_changed_under_its_name_and_size_is_left_out(parted, tmp_path):
    names = parted.names("test")
    (changed,) = files(tmp_path / "data" / "..", f"test/*/{names[0]}")
    image(changed, 999)
    assert parted.warned("test", r"1 with other content \(test/./.*Only 3 of the 4 .*a link will do") == names[1:]
    for file in files(tmp_path, "test/*/*"):
        image(file, hash(file.name) % 1000 + 5000)
    with pytest.raises(DataError, match=r"None of the 4 examples of the run's test part is unchanged.*--data\.path"):
        parted.names("test")
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert len(parted.names("test", path=str(tmp_path / "link"), limit_test=None)) == 6


def test_an_image_in_another_class_is_another_example(drawn, tmp_path):
    names = drawn.names("validation")
    (file,) = files(tmp_path, names[0])
    file.rename(tmp_path / "data" / "ba".replace(file.parent.name, "") / "moved.bmp")
    match = rf"1 with another label or mask \(./{names[0]}, now ./moved\.bmp\)\. Only 4 of the 5"
    assert drawn.warned("validation", match) == names[1:]


def test_a_part_drawn_otherwise_is_refused(drawn):
    with pytest.raises(ConfigError, match=r"data\.split_seed: the run drew its validation part with 1337\. .*ed: 7\."):
        drawn.names("validation", split_seed=7)
    with pytest.raises(ConfigError):
        drawn.names("train", validation_fraction=0.5)
    assert set(drawn.names("validation", limit_validation=3)) < set(drawn.names("validation"))


def test_training_images_in_a_held_out_part_are_counted(parted, tmp_path):
    for file in files(tmp_path, "train/a/*"):
        shutil.copy(file, tmp_path / "data/test/a" / f"copy-{file.name}")
    names = parted.names
    assert len(parted.warned("test", "3 added .* The 4 examples of the run's test part are unchanged")) == 4
    named = {"path": f"{tmp_path}/data/", "limit_test": None}
    match = r"3 of the 9 examples of the test part are examples that .*run was trained on \(test/a/copy-a00\.bmp, "
    assert len(parted.warned("test", match, **named)) == 9
    assert len(names("train", path=str(tmp_path / "data/train"), limit_test=None)) == 6  # all were: no mistake
    classes(tmp_path / "other", 700, range(4))
    assert len(names("train", path=str(tmp_path / "other"), limit_test=None)) == 4


def test_a_part_that_came_later_is_used(drawn, tmp_path):
    """All images moved into data/train, and data/test is new."""
    (tmp_path / "data").rename(tmp_path / "train")
    (tmp_path / "data").mkdir()
    (tmp_path / "train").rename(tmp_path / "data" / "train")
    classes(tmp_path / "data/test", 300, range(4))
    assert len(drawn.names("test")) == 4
    assert len(drawn.warned("validation", "4 added .* The 5 examples of the run's validation part are unch")) == 5


def test_rows_of_arrays_are_found_by_content(tmp_path):
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (20, 8, 8, 1)).astype(np.uint8), np.arange(20) % 2

    def save(images, labels):
        np.savez(tmp_path / "data.npz", train_inputs=images, train_target=labels)

    save(images, labels)
    run = Kept(tmp_path / "run", source="npz", path=str(tmp_path / "data.npz"), validation_fraction=0.25)
    before = np.asarray(run.part("validation").inputs)
    more = rng.integers(0, 256, (20, 8, 8, 1)).astype(np.uint8)
    save(np.concatenate([more, images[::-1]]), np.concatenate([labels, labels[::-1]]))
    with pytest.warns(UserWarning, match="20 added"):
        np.testing.assert_array_equal(run.part("validation").inputs, before)


def test_rows_of_a_table_may_come_in_another_order_and_not_with_other_labels(tmp_path):
    table = [[f"{number:02}.bmp", *("10" if number % 2 else "01")] for number in range(12)]

    def write(rows):
        with (tmp_path / "data.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["file", "a", "b"], *rows])

    for name, *_ in table:
        image(tmp_path / name, int(name[:2]))
    write(table)
    run = Kept(tmp_path / "run", source="csv", path=str(tmp_path / "data.csv"), validation_fraction=0.25)
    names = run.names("validation")
    write(table[::-1])
    assert run.names("validation") == names
    write([[name, *("11" if name == names[1] else values)] for name, *values in table])
    match = rf"1 with another label or mask \({names[1]}\). Only 2 of the 3"
    assert run.warned("validation", match) == [names[0], names[2]]


def test_an_ablation_names_what_has_changed_under_its_trials(drawn, tmp_path):
    run = replace(drawn.run, name="small", model=jv.Model(f"{__name__}:Tiny"), phases=(jv.Phase(epochs=1),))
    ablation = jv.Ablation(run, {"flip": {"augment.flip": "horizontal"}}, "factorial", seeds=1)
    folder = tmp_path / "ablation"
    sweep = prepare(ablation, folder)
    folder.mkdir()
    write_plan(folder, sweep.plan)
    for name, wanted in sweep.wanted.items():
        shutil.copytree(drawn.folder, folder / name)
        write_config(folder / name, wanted.run)
    assert not prepare(ablation, folder).differing
    classes(tmp_path / "data", numbers=range(20, 22))
    with pytest.raises(RunFolderError, match=r"data: 2 added \(a/a20\.bmp, b/b21\.bmp\)"):
        require_same(prepare(ablation, folder), rerun=False)


@pytest.mark.parametrize("source", ["masks", "pets"])
def test_masks_belong_to_their_images(tmp_path, source):
    images, masks = ("images", "masks") if source == "masks" else ("images", "annotations/trimaps")

    def pair(number: int, seed: int = 0) -> None:
        image(tmp_path / "data" / images / f"{number:02}.jpg", number)
        path = tmp_path / "data" / masks / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = np.random.default_rng(number + seed).integers(1, 4, (8, 8)).astype(np.uint8)
        Image.fromarray(values).save(path)

    for number in range(14):
        pair(number)
    settings = {"validation_fraction": 0.25, "label_offset": 1, "class_names": ("a", "b", "c")}
    run = Kept(tmp_path / "run", source=source, path=str(tmp_path / "data"), **(settings if source == "masks" else {}))
    names = run.names("validation")
    for number in range(14, 50):  # pets draws its validation part by itself
        pair(number)
    assert run.warned("validation", "36 added") == names
    pair(int(names[0][:2]), seed=50)
    assert run.warned("validation", rf"1 with another label or mask \(images/{names[0]}\)") == names[1:]


def test_a_folder_of_before_says_what_is_not_known(drawn, tmp_path):
    (drawn.folder / NAME).unlink()
    assert len(drawn.names("validation")) == 5
    classes(tmp_path / "data", numbers=range(20, 40))
    match = r"has changed .*fingerprint was \w{12}, now \w{12}.*unknown\. The part is drawn anew, so it may mix"
    assert len(drawn.warned("validation", match)) == 10


def test_a_damaged_list_is_named(drawn):
    content = bytearray((drawn.folder / NAME).read_bytes())
    content[40] ^= 1
    (drawn.folder / NAME).write_bytes(content)
    with pytest.raises(RunFolderError, match=rf"{NAME}: .*damaged.*remove it"):
        drawn.names("validation")
