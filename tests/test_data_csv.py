"""Pictures with any number of labels each, named by a CSV."""

import numpy as np
import pytest
from broken_pictures import good, html_as_jpg, zero_byte

from jaxvision import config
from jaxvision.data import open_dataset, open_feed
from jaxvision.errors import DataError


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """DIR/pics/0.jpg ... 4.jpg."""
    root = tmp_path_factory.mktemp("csv")
    for number in range(5):
        good(root / f"pics/{number}.jpg", number, (20, 30))
    return root


def opened(root, text, **settings):
    path = root / "table.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return open_dataset(config.Data(source="csv", path=str(path), batch_size=4, cache="off", **settings))


COLUMNS = """\ufefffile,part,dog,"cat, grey",bird
pics/0.jpg,train,1,0,1
pics/1.jpg,train,0,0,0

pics/2.jpg,validation,0,1.0,0
 pics/3.jpg ,train,1,1,1
pics/4.jpg,test,0,1,0
"""


def test_a_column_for_each_class(pictures):
    dataset = opened(pictures, COLUMNS)
    assert dataset.class_names == ("dog", "cat, grey", "bird")
    assert dataset.image_shape == (20, 30, 3)
    assert dataset.train.target.dtype == np.float32
    assert dataset.train.target.tolist() == [[1, 0, 1], [0, 0, 0], [1, 1, 1]]
    assert dataset.validation.target.tolist() == dataset.test.target.tolist() == [[0, 1, 0]]
    assert [path.rsplit("/", 1)[1] for path in dataset.train.paths] == ["0.jpg", "1.jpg", "3.jpg"]
    semicolons = opened(pictures, COLUMNS.replace("cat, grey", "cat grey").replace(",", ";"))
    assert semicolons.train.target.tolist() == dataset.train.target.tolist()


def test_names_may_have_spaces_where_the_table_marks_their_ends(pictures):
    marked = opened(pictures, "file,labels\npics/0.jpg,traffic light;car\npics/1.jpg,traffic light\n")
    assert marked.class_names == ("car", "traffic light")
    assert marked.train.target.tolist() == [[1, 1], [0, 1]]
    spaced = opened(pictures, "file,labels\npics/0.jpg,dog  cat\npics/1.jpg,cat\n")
    assert (spaced.class_names, spaced.train.target.tolist()) == (("cat", "dog"), [[1, 1], [1, 0]])


@pytest.mark.parametrize("residence", ["device", "stream"])
def test_labels_reach_the_batch_with_their_pictures(pictures, residence, tmp_path):
    text = "labels,image\ndog ; cat,pics/0.jpg\n,pics/1.jpg\nbird;dog,pics/2.jpg\ncat|bird,pics/3.jpg\ncat,pics/4.jpg\n"
    dataset = opened(pictures, text, image_size=(8, 8))
    assert dataset.class_names == ("bird", "cat", "dog")
    expected = [[0, 1, 1], [0, 0, 0], [1, 0, 1], [1, 1, 0], [0, 1, 0]]
    first, last = open_feed(dataset.train, batch_size=3, seed=None, residence=residence, resident_mb=9).batches(0)
    assert first.target.dtype == np.float32
    assert np.asarray(first.target).tolist() == expected[:3]
    assert np.asarray(last.target).tolist() == [*expected[3:], expected[4]]
    assert last.valid.tolist() == [True, True, False]
    ordered = opened(pictures, text, class_names=("dog", "cat", "bird", "fish"))
    assert ordered.train.target[0].tolist() == [1, 1, 0, 0]
    kept = opened(pictures, text, validation_fraction=0.4)
    assert kept.fingerprint == opened(pictures, text, limit_train=2).fingerprint
    assert (kept.train.target.shape, kept.validation.target.shape) == ((3, 3), (2, 3))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("table.csv: no header. Received: an empty file", ""),
        ("no rows under the header", "file,a\n"),
        ("line 1: no column of a class", "file,part\npics/0.jpg,train\n"),
        ("line 1: each column needs a name of its own. Received: 'a'", "file,a,a\npics/0.jpg,1,0\n"),
        ("line 1: beside a column labels.*Received: dog", "file,dog,labels\npics/0.jpg,1,cat\n"),
        (r"line 3: the header has 3 columns. Received: 2 values", "file,a,b\npics/0.jpg,1,0\npics/1.jpg,1\n"),
        ("line 2, column 'b': must be 0 or 1.*Received: '2'", "file,a,b\npics/0.jpg,1,2\n"),
        ("line 2, column 'b': must be 0 or 1.*Received: ''", "file,a,b\npics/0.jpg,1,\n"),
        ("line 2: the part must be one of.*'validation'.*Received: 'validate'", "file,part,a\npics/0.jpg,validate,1\n"),
        ("no row is of the part train", "file,part,a\npics/0.jpg,test,1\n"),
        ("1 images are named twice.*\n.*line 3: .*is in line 2 too", "file,a\npics/0.jpg,1\n./pics/0.jpg,1\n"),
        (r"2 images are not there.*\n.*line 2: .*9.jpg\n.*line 3", "file,a\npics/9.jpg,1\npics/8.jpg,1\n"),
        ("no ending that is read.*\n.*line 2: .*table.csv", "file,a\ntable.csv,1\n"),
        ("line 2: no file name", "file,a\n,1\n"),
        ("no row has a label", "file,labels\npics/0.jpg,\n"),
        ("html.jpg: not a JPEG picture.*HTML page", "file,a\nhtml.jpg,1\n"),
        ("empty.jpg: not a picture. Received: a file of 0 bytes", "file,a\nempty.jpg,1\n"),
        ("read as UTF-8. Received: byte 5", b"file,\xe9\npics/0.jpg,1\n"),
        ("line 2: not a CSV. Received", 'file,a\npics/0.jpg,"1"2\n'),
    ],
)
def test_wrong_tables_are_told_with_their_line(message, text, pictures):
    html_as_jpg(pictures / "html.jpg")
    zero_byte(pictures / "empty.jpg")
    with pytest.raises(DataError, match=message) as caught:
        opened(pictures, text)
    assert "Received:" in str(caught.value)


def test_a_label_that_has_no_number_is_refused(pictures):
    with pytest.raises(DataError, match=r"line 2: no such class.*'cat'.*Received: 'cta'"):
        opened(pictures, "file,labels\npics/0.jpg,dog cta\n", class_names=("dog", "cat"))
    with pytest.raises(DataError, match=r"data.class_names: the data has names of its own, dog, cat, grey, bird"):
        opened(pictures, COLUMNS, class_names=("bird", "cat", "dog"))
