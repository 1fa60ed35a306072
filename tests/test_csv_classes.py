"""A CSV of one class an image, as Kaggle gives it: names without ending, names of classes with spaces."""

import unicodedata

import broken_pictures as broken
import numpy as np
import pytest
from faults import fault

from jaxvision import config
from jaxvision.cli import main
from jaxvision.data import open_dataset
from jaxvision.data.check import check_data
from jaxvision.data.every import every_example
from jaxvision.errors import ConfigError, DataError

BREEDS = "id,breed\n0,golden retriever\n1,boston bull\n2,golden retriever\n3,boston bull\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """DIR/0.jpg ... 3.jpg, two.jpg, two.png, a name with an accent, and other images in DIR/train."""
    root = tmp_path_factory.mktemp("csv")
    names = [*(f"{number}.jpg" for number in range(4)), "two.jpg", "two.png", "caf\u00e9.JPG"]
    for seed, name in enumerate([*names, "train/a0.jpg", "train/a1.jpeg"]):
        broken.good(root / name, seed, (9, 9))
    return root


def written(root, text):
    path = root / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def opened(root, text, **settings):
    return open_dataset(config.Data(source="csv", path=str(written(root, text)), cache="off", **settings))


@pytest.mark.parametrize(
    "text",
    [
        BREEDS,
        "\ufeff" + BREEDS,
        BREEDS.replace(",", ";"),
        BREEDS.replace(",", "\t").replace("\n", "\r\n"),
        BREEDS.replace("golden retriever", '"golden  retriever "'),
        "breed,id\ngolden retriever,0\nboston bull,1.jpg\ngolden retriever,2.JPG\nboston bull,./3.jpeg\n",
    ],
)
def test_one_class_a_row(text, root):
    dataset = opened(root, text)
    assert dataset.class_names == ("boston bull", "golden retriever")
    assert dataset.train.target.dtype == np.int32
    assert dataset.train.target.tolist() == [1, 0, 1, 0]
    assert [path.rsplit("/", 1)[1] for path in dataset.train.paths] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    report = check_data(root / "labels.csv")
    assert report.ok
    assert report.counts == {"train": {"boston bull": 2, "golden retriever": 2}}


def test_part_of_the_rows_may_validate(root):
    aside = opened(root, BREEDS, validation_fraction=0.25)
    assert (len(aside.train.target), len(aside.validation.target)) == (3, 1)
    text = "id,breed,split\n0,a,train\n1,b,train\n2,a,validation\n3,b,test\n"
    parts = opened(root, text)
    assert [part.target.tolist() for part in (parts.train, parts.validation, parts.test)] == [[0, 1], [0], [1]]
    assert opened(root, text.replace("split", "fold"), target="breed", part_column="fold").test.target.tolist() == [1]
    with pytest.raises(DataError, match=r"line 4: the part must be one of .* Did you mean 'validation'"):
        opened(root, text.replace("validation", "val"))


def test_columns_and_folder_by_name(root):
    text = "breed,uuid,size\npug,a0,3\nbeagle,a1,4\n"
    settings = {"target": "breed", "file_column": "uuid", "image_folder": "train"}
    dataset = opened(root, text, **settings)
    assert dataset.class_names == ("beagle", "pug")
    assert [path.rsplit("/", 1)[1] for path in dataset.train.paths] == ["a0.jpg", "a1.jpeg"]
    assert check_data(root / "labels.csv", **settings).ok
    with pytest.raises(DataError, match=r"There is train/a0.jpg: set data.image_folder to train"):
        opened(root, text, **settings | {"image_folder": None})
    with pytest.raises(DataError, match=r"data.target: there is no such column. Did you mean 'breed'"):
        opened(root, text, **settings | {"target": "bread"})
    with pytest.raises(DataError, match=r"set data.target to it"):
        opened(root, text, file_column="uuid")
    with pytest.raises(DataError, match=r"data.image_folder: there is no such folder"):
        opened(root, BREEDS, image_folder="nowhere")
    with pytest.raises(ConfigError, match=r"data.file_column is for data.source=csv"):
        open_dataset(config.Data(file_column="id"))


@pytest.mark.parametrize(
    ("values", "names", "target"),
    [
        ("10 9 1", ("1", "9", "10"), [2, 1, 0]),
        ("10.0 9.0 1.0", ("1", "9", "10"), [2, 1, 0]),
        ("0 1 0", ("0", "1"), [0, 1, 0]),
        ("b10 b9 b1", ("b1", "b10", "b9"), [1, 2, 0]),
    ],
)
def test_numbers_are_names_in_the_order_of_their_values(values, names, target, root):
    rows = "".join(f"{number},{value}\n" for number, value in enumerate(values.split()))
    dataset = opened(root, "id,label\n" + rows)
    assert (dataset.class_names, dataset.train.target.tolist()) == (names, target)


def test_columns_of_one_hot_classes(root):
    text = "id,cat,dog\n0,1,0\n1,0,1\n2,1,0\n"
    assert opened(root, text).train.target.tolist() == [[1, 0], [0, 1], [1, 0]]
    assert opened(root, text, labels_per_image="one").train.target.tolist() == [0, 1, 0]
    for values, received in (("1,1", r"2 \(cat, dog\)"), ("0,0", r"0 \(none\)")):
        with pytest.raises(DataError, match=f"line 2: .*exactly one column must be 1. Received: {received}"):
            opened(root, text.replace("0,1,0", f"0,{values}", 1), labels_per_image="one")


@fault("CSV where one class or several may be meant", happens="refused: names the line and the field that decides")
def test_one_class_or_several_is_never_guessed(root):
    for text in ("id,breed\n0,cat;dog\n1,cat\n", "id,tags\n0,clear primary\n1,haze\n"):
        with pytest.raises(DataError, match=r"one class or several.* Set data.labels_per_image to"):
            opened(root, text)
        assert "one class or several" in check_data(root / "labels.csv").problems[0]
        assert opened(root, text, labels_per_image="one").train.target.shape == (2,)
        assert opened(root, text, labels_per_image="any").train.target.ndim == 2
    assert opened(root, "id,labels\n0,golden retriever\n1,pug\n").class_names == ("golden", "pug", "retriever")
    spaced = opened(root, "id,labels\n0,golden retriever\n1,pug\n", labels_per_image="one")
    assert spaced.class_names == ("golden retriever", "pug")


def test_names_are_looked_up_however_they_are_written(root):
    decomposed = unicodedata.normalize("NFD", "caf\u00e9")
    dataset = opened(root, f"id,breed\n{decomposed},a\n{decomposed}.jpg,b\n".replace(f"{decomposed}.jpg", "train\\a0"))
    assert [path.rsplit("/", 1)[1] for path in dataset.train.paths] == ["caf\u00e9.JPG", "a0.jpg"]
    assert opened(root, f"id,breed\n{decomposed}.jpg,a\n0,b\n").class_names == ("a", "b")
    assert every_example(root / "labels.csv", (9, 9, 3)).class_names == ("a", "b")


@fault("CSV: no header, an image twice, no class, an ending that is not clear", happens="refused: names the line")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,golden retriever\n1,pug\n", r"line 1: the first line must be a header.*names an image.*Received: '0'"),
        ("id,breed\n0,a\n1,b\n0.jpg,b\n", r"line 4: .*0.jpg is in line 2 too, as 'a', not 'b'"),
        ("id,breed\n0,a\n1,\n", r"line 3: no class. Received: an empty column 'breed'"),
        ("id,breed\ntwo,a\n1,b\n", r"names fit several images.*\n.*line 2: .*two: two.jpg, two.png"),
        ("id,breed\n0,a\n99,b\n", r"1 images are not there. .* holds .*\n.*line 3"),
        ("id,breed\n0,cat\n1,c\u200bat\n", r"names of these classes look the same: 'cat' and 'c\\u200bat'"),
        (",id,breed\n0,0,a\n1,1,b\n", r"each column needs a name of its own. Received: ''.*index=False"),
        ("id,breed\n0,a\n1,a\n", r"at least two classes. Received: 1 \(a\)"),
    ],
)
def test_wrong_tables_are_refused(text, message, root):
    with pytest.raises(DataError, match=message):
        opened(root, text)
    assert not check_data(root / "labels.csv").ok


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,breed\n0,a\n1,nan\n", "1 rows are of a class 'nan', such as line 3"),
        ("id,breed\n0,Cat\n1,cat\n", "almost the same: 'Cat' and 'cat'"),
        ("file,breed\ntrain/a0,a\nval/0.jpg,b\n", "all rows are of the training part"),
    ],
)
def test_what_may_be_meant_otherwise_is_warned_of(text, message, root):
    broken.good(root / "val/0.jpg", 50, (9, 9))
    with pytest.warns(UserWarning, match=message):
        opened(root, text)
    assert any(message in note for note in check_data(root / "labels.csv").notes)


TRAIN = """
train digits --data.source csv --data.batch-size 2 --data.cache off --log.tensorboard False --model.name dense-mnist
--model.options.features 4 --phases.0.epochs 1 --checkpoint.monitor None
""".split()  # noqa: SIM905


@pytest.mark.usefixtures("kept_programs")
def test_from_the_command_line(root, tmp_path, capsys):
    pytest.importorskip("tensorflow")
    run = str(tmp_path / "run")
    table = str(written(root, BREEDS))
    assert main([*TRAIN, "--data.path", table, "--run-dir", run, "--data.labels-per-image", "any"]) == 2
    assert "or data.labels_per_image to one" in capsys.readouterr().err
    assert main([*TRAIN, "--data.path", table, "--run-dir", run]) == 0
    part = root / "part.csv"  # rows of one class alone are good enough to evaluate
    part.write_text("id,breed\n0,golden retriever\n2,golden retriever\n")
    assert main(["evaluate", run, "--data.path", str(part), "--part", "train"]) == 0
    assert main(["predict", run, str(root / "0.jpg")]) == 0
    assert "golden retriever" in capsys.readouterr().out
    assert main(["check", table, "--labels-per-image", "one", "--target", "breed"]) == 0
