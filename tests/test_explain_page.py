"""A run's page: planted mistakes in their order, the same numbers as `evaluate`, and how a real browser shows it."""

import base64
import html
import io
import json
import re
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from browser import open_browser
from flax import nnx
from html_pages import MEASURE, Outline
from PIL import Image
from predicted_runs import IMAGE_SIZE, NAMES, finished_run

from jaxvision.config import Data, Model, Run
from jaxvision.errors import ConfigError, DataError
from jaxvision.explain.gradcam import gradcam
from jaxvision.explain.page import write_page
from jaxvision.explain.page.calibration import reliability
from jaxvision.explain.page.judged import class_log_odds, judge, probabilities
from jaxvision.explain.page.matrix import matrix_parts
from jaxvision.figures.heat import heat_overlay
from jaxvision.report.page import Markup, Section, document, element, image_file, share
from jaxvision.train.checkpoint import BestCheckpoints, ModelCard, Saved, restore_best
from jaxvision.train.evaluate import evaluate, open_run_part
from jaxvision.types import IGNORE

pytestmark = pytest.mark.usefixtures("kept_programs")

HOSTILE = ("<img src=x onerror=alert(1)>", 'a&b "quoted" \'</title>')
"""Names of classes, of which the second is no folder."""


def flat(values) -> np.ndarray:
    """Pictures of one brightness each."""
    return np.broadcast_to(np.uint8(values).reshape(-1, 1, 1, 1), (len(values), *IMAGE_SIZE, 3)).copy()


# By hand: Levels says 5 - 40 (brightness - level)^2 for levels 0, 1/2 and 1.
CLASSES = flat([10, 250, 128, 200, 240, 252, 100, 0]), np.array([0, 0, 1, 1, 2, 1, 2, 2])
LABELS = flat([0, 0, 255, 64]), np.array([[1, 0, 0], [0, 0, 1], [0, 1, 1], [1, 1, 0]])


def masks() -> tuple[np.ndarray, np.ndarray]:
    """All right; the right half middle and shown bright; bright shown middle; all right but for a line that does not
    count; nothing counts."""
    pictures, true = flat([0, 0, 128, 0, 0]), np.zeros((5, *IMAGE_SIZE), np.uint8)
    pictures[1, :, 9:], true[1, :, 9:] = 255, 1
    true[2] = 2
    pictures[3, 0], true[3, 0] = 255, IGNORE
    true[4] = IGNORE
    return pictures, true


GIVEN = {"classification": CLASSES, "multilabel": LABELS, "segmentation": masks()}


def net_run(folder: Path, model: Model, task: str, names: tuple[str, ...], outputs: int, **data) -> Path:
    """A run folder with a network as it is before training."""
    size = (28, 30)
    run = Run(name="page <&>", task=task, model=model, data=Data(**{"source": "given", "image_size": size, **data}))
    card = ModelCard(run, names, (*size, 3), outputs)
    with BestCheckpoints(folder, card) as checkpoints:
        checkpoints.save(Saved(phase=0, value=1.0, step=1), nnx.state(card.build()))
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {task: finished_run(folder / task, task, batch_size=3) for task in GIVEN}


@pytest.fixture(scope="module")
def pages(runs, tmp_path_factory):
    """Pages by name: the tasks, hostile names in a folder of two classes, a net that segments, a hundred classes."""
    folder = tmp_path_factory.mktemp("pages")
    noise = np.random.default_rng(0).integers(0, 256, (9, 28, 30, 3), dtype=np.uint8)
    for number, picture in enumerate(noise):
        place = folder / "data" / "validation" / (HOSTILE[0], "zebra")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{number}<&\"'>.png")
    shutil.copytree(folder / "data" / "validation", folder / "data" / "train")
    source = {"source": "folder", "path": str(folder / "data"), "batch_size": 4}
    names, convnet = (HOSTILE[0], "zebra"), Model("convnet-mnist")
    hostile = net_run(folder / "two", convnet, "classification", names, 1, **source)
    segmenter = net_run(folder / "net", Model("segmenter", {"features": (4,)}), "segmentation", NAMES, 3)
    true = np.random.default_rng(1).integers(0, 3, (9, 28, 30), dtype=np.uint8)
    hundred = finished_run(folder / "hundred", "classification", names=tuple(f"class number {n}" for n in range(100)))
    written = {task: write_page(runs[task], folder / f"{task}.html", data=given) for task, given in GIVEN.items()}
    written["hostile"] = write_page(hostile, folder / "hostile.html", count=3)
    written["net"] = write_page(segmenter, folder / "net.html", data=(noise, true), count=2)
    written["hundred"] = write_page(
        hundred, folder / "hundred.html", data=(flat(np.arange(200)), np.arange(200) % 100), count=2
    )
    return written


def sections(page: Path) -> dict[str, str]:
    """HTML of each section by its title."""
    parts = re.split(r"<section ", page.read_text())[1:]
    return {re.search(r"<h2[^>]*>(.*?)</h2>", part)[1]: part for part in parts}


def shown(section: str) -> list[str]:
    return [html.unescape(name) for name in re.findall(r"<h3>(.*?)</h3>", section)]


def cells(section: str) -> list[list[str]]:
    """Words of the rows of a section's first table."""
    table = re.search(r"<table.*?</table>", section, re.DOTALL)[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    words = [[html.unescape(re.sub(r"<[^>]*>", " ", cell)).split() for cell in row] for row in rows]
    return [[" ".join(word) for word in row] for row in words]


def pictures(section: str) -> list[tuple[str, np.ndarray]]:
    """(alt text, picture) of each image."""
    found = re.findall(r'<img src="data:image/[a-z]*;base64,([^"]*)" alt="([^"]*)"', section)
    return [(html.unescape(alt), np.asarray(Image.open(io.BytesIO(base64.b64decode(file))))) for file, alt in found]


@pytest.mark.parametrize("task", GIVEN)
def test_every_example_is_judged_as_evaluation_does(task, runs):
    """The last batch of three is padded, and padding is counted nowhere."""
    opened = open_run_part(runs[task], data=GIVEN[task])
    judged, measured = judge(opened), evaluate(runs[task], data=GIVEN[task])
    assert judged.metrics == measured
    assert len(judged.loss) == len(GIVEN[task][0])
    if task == "classification":
        assert np.mean(judged.predicted == judged.target) == measured["accuracy"]
        assert np.trace(judged.confusion) / judged.confusion.sum() == measured["accuracy"]
        assert judged.confusion.tolist() == [[1, 0, 1], [0, 1, 2], [1, 1, 1]]
    if task == "segmentation":
        np.testing.assert_allclose(judged.mean_iou, [1, 0.5, 0, 1, np.nan])
        np.testing.assert_allclose(judged.accuracy, [1, 0.5, 0, 1, np.nan])
        assert judged.confusion.tolist() == [[522, 0, 0], [0, 0, 108], [0, 216, 0]]
    else:
        assert judged.loss.mean() == pytest.approx(measured["loss"], rel=1e-5)


def test_log_odds_rank_where_probabilities_are_rounded():
    logits = np.array([[0.5, 1.0, -2.0], [60.0, 0.0, -60.0], [200.0, -200.0, 190.0], [1.0, 1.0, 1.0]])
    exact = np.array([[z - np.log(np.exp(np.delete(row, k)).sum()) for k, z in enumerate(row)] for row in logits])
    found = np.asarray(class_log_odds(jnp.asarray(logits, jnp.float32)))
    np.testing.assert_allclose(found, exact, rtol=1e-5)
    np.testing.assert_allclose(probabilities(found).sum(axis=1), 1, rtol=1e-5)
    one = np.asarray(class_log_odds(jnp.asarray([[50.0], [90.0]], jnp.float32)))
    assert one.tolist() == [[-50, 50], [-90, 90]]


def test_mistakes_come_in_their_order(pages):
    found = sections(pages["classification"])
    assert list(found) == [
        "Worst mistakes", "Most confident mistakes", "Right and most confident", "Confusion matrix", "Calibration"
    ]  # fmt: skip
    assert shown(found["Worst mistakes"]) == [f"example {row}" for row in (7, 1, 6, 5, 3)]
    assert shown(found["Most confident mistakes"]) == [f"example {row}" for row in (7, 5, 1, 6, 3)]
    assert shown(found["Right and most confident"]) == [f"example {row}" for row in (2, 0, 4)]
    alt, picture = pictures(found["Worst mistakes"])[0]
    assert alt == "example 7: bright, taken for dark"
    np.testing.assert_array_equal(picture, CLASSES[0][7])
    told = re.findall(r"<dd>(.*?)</dd>", found["Worst mistakes"])
    odds = np.exp(-40 * (200 / 255 - np.array([0, 0.5, 1])) ** 2)  # of example 3
    bright, middle = 100 * odds[2] / odds.sum(), 100 * odds[1] / odds.sum()
    assert [word.replace("\xa0", " ") for word in told[-2:]] == [f"bright ({bright:.1f} %)", f"middle ({middle:.1f} %)"]
    assert cells(found["Confusion matrix"])[1:] == [
        ["dark", "1 50.0 %", "0", "1 50.0 %"],
        ["middle", "0", "1 33.3 %", "2 66.7 %"],
        ["bright", "1 33.3 %", "1 33.3 %", "1 33.3 %"],
    ]


def test_two_classes_have_one_kind_of_mistake_and_the_least_sure(pages):
    titles = list(sections(pages["hostile"]))
    assert titles[:3] == ["Worst and most confident mistakes", "Least sure", "Right and most confident"]


def test_labels_are_judged_class_by_class(pages):
    found = sections(pages["multilabel"])
    assert shown(found["Worst mistakes"]) == [f"example {row}" for row in (1, 2, 3, 0)]
    assert shown(found["Right and most confident"]) == [f"example {row}" for row in (0, 3, 2, 1)]
    assert [row[:5] for row in cells(found["Classes"])[1:]] == [
        ["dark", "2", "1", "0", "1"], ["middle", "1", "0", "1", "2"], ["bright", "1", "0", "1", "2"],
    ]  # fmt: skip
    first = found["Worst mistakes"].split("<h3>")[1]
    assert re.findall(r"<dt>(.*?)</dt>", first) == ["bright", "dark"], "the most wrong first"
    assert "missed (&lt; 0.1" in first
    assert "wrongly found (99.3" in first
    assert "Confusion matrix" not in found


def test_pictures_with_the_worst_masks_come_first(pages):
    found = sections(pages["segmentation"])
    assert shown(found["Worst pictures"]) == [f"example {row}" for row in (2, 1, 0, 3)]
    assert shown(found["Best pictures"]) == [f"example {row}" for row in (0, 3, 1, 2)]
    told = re.findall(r"Most confused: (.*?)</p>", found["Worst pictures"].replace("\xa0", " "))
    assert told == [
        "216 pixels of bright (100 % of it) taken for middle.", "108 pixels of middle (100 % of it) taken for bright."
    ]  # fmt: skip
    assert [row[0:2] for row in cells(found["Classes"])[1:]] == [
        ["dark", "1.000"],
        ["middle", "0.000"],
        ["bright", "0.000"],
    ]
    assert cells(found["Confusion matrix"])[2] == ["middle", "0", "0", "108 100 %"]
    assert re.findall(r"</span>(.*?)</li>", found["Worst pictures"]) == [*NAMES, "ignored"]


def test_heat_maps_are_those_of_the_classes_named(pages):
    """On pictures so small that they are kept exactly."""
    page = pages["hostile"]
    model, found = restore_best(page.parent / "two").model, sections(page)
    for section in ("Worst and most confident mistakes", "Right and most confident"):
        drawn = pictures(found[section])
        heats = [entry for entry in drawn if entry[0].startswith("Heat map")]
        plain = {alt.split(": ")[0]: picture for alt, picture in drawn if not alt.startswith("Heat map")}
        assert len(heats) == len(plain) * (2 if section.startswith("Worst") else 1)
        for alt, picture in heats:
            name, class_ = re.fullmatch("Heat map over (.*): what speaks for (.*)", alt).groups()
            index = (HOSTILE[0], "zebra").index(class_)
            expected = heat_overlay(plain[name], gradcam(model, plain[name][None], [index]).values[0])
            np.testing.assert_allclose(picture, expected, atol=1)
    assert "No heat maps: " in pages["classification"].read_text()
    net = sections(pages["net"])["Worst pictures"]
    assert [alt.split(" ")[0] for alt, _ in pictures(net)] == ["example", "True", "Predicted", "Heat"] * 2


ALL = ("classification", "multilabel", "segmentation", "hostile", "net", "hundred")


@pytest.mark.parametrize("name", ALL)
def test_pages_are_well_formed_and_escaped(name, pages):
    text = pages[name].read_text()
    outline = Outline(text)
    assert not outline.open
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert len(set(outline.ids)) == len(outline.ids)
    assert outline.silent == 0
    assert outline.count["script"] == 0
    assert all(f"s{n}" in outline.ids for n in map(int, re.findall(r'href="#s(\d)"', text)))
    assert text.count("https:") + text.count("http:") == 0
    if name == "hostile":
        assert "<img src=x" not in text
        assert html.escape(HOSTILE[0]) in text
        assert "page &lt;&amp;&gt;" in re.search("<title>(.*)</title>", text)[1]


def test_what_is_no_markup_is_text():
    child = element("p", 'a<b>&"', None, Markup("<br>"), title='"<', data_count=3)
    assert child == '<p title="&quot;&lt;" data-count="3">a&lt;b&gt;&amp;&quot;<br></p>'
    assert element("p", str(child)).count("<p>") == 1, "a plain string is text, though it looks like markup"
    name = b"caf\xe9\x00.png".decode(errors="surrogateescape")
    assert element("b", name).encode() == "<b>caf\ufffd\ufffd.png</b>".encode()
    page = document(HOSTILE[1], [Section(HOSTILE[0], "", [])])
    assert html.escape(HOSTILE[1]) in page
    assert not Outline(page).open


def test_pictures_are_reduced_and_small_ones_exact():
    noise = np.random.default_rng(0).integers(0, 256, (600, 300, 3), dtype=np.uint8)
    kind, file = image_file(noise)
    assert (kind, Image.open(io.BytesIO(file)).size) == ("jpeg", (128, 256))
    kind, file = image_file(noise[:64, :20, :1])
    assert kind == "png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), noise[:64, :20, 0])


def test_shares_in_words():
    said = [share(value).replace("\xa0", " ") for value in (0, 1e-9, 0.0005, 0.5, 0.9994, 0.99999, 1)]
    assert said == ["0 %", "< 0.1 %", "0.1 %", "50.0 %", "99.9 %", "> 99.9 %", "100 %"]


def test_calibration_is_that_of_its_formula():
    sure, right = np.array([0.55, 0.6, 0.95, 1.0, 1.0]), np.array([True, False, True, True, False])
    bins, error = reliability(sure, right)
    assert [(b.low, b.high, b.count) for b in bins] == [(0.5, 0.6, 2), (0.9, 1.0, 3)]
    assert [b.accuracy for b in bins] == pytest.approx([0.5, 2 / 3])
    assert error == pytest.approx(2 / 5 * 0.075 + 3 / 5 * (2.95 / 3 - 2 / 3))


def test_of_very_many_classes_the_pairs_most_confused_are_told():
    matrix = np.diag(np.arange(101))
    matrix[7, 3], matrix[99, 100] = 2, 5
    names = [f"class {number}" for number in range(101)]
    (whole, pairs), (only,) = matrix_parts(matrix[:100, :100], names[:100], "pixels"), matrix_parts(matrix, names, "x")
    assert "Confusion matrix" in whole
    assert [row[:3] for row in cells(pairs)[1:]] == [["class 7", "class 3", "2"]]
    assert [row[:3] for row in cells(only)[1:]] == [["class 99", "class 100", "5"], ["class 7", "class 3", "2"]]


def test_nothing_is_written_over_and_nothing_half(runs, tmp_path):
    run, data, out = runs["classification"], CLASSES, tmp_path / "page.html"
    for change, error, said in (
        ({"out": tmp_path / "gone" / "page.html"}, ConfigError, "no folder"),
        ({"layer": "conv99"}, ConfigError, "conv99"),
        ({"count": 0}, ConfigError, "count"),
        ({"data": LABELS}, DataError, "labels for classification"),
        ({"data": None, "part": "test"}, DataError, "handed to fit"),
    ):
        with pytest.raises(error, match=said):
            write_page(run, **{"out": out, "data": data, **change})
    assert list(tmp_path.iterdir()) == []
    out.write_text("mine")
    with pytest.raises(ConfigError, match="already there"):
        write_page(run, out, data=data)
    assert out.read_text() == "mine"


def test_the_validation_part_is_judged_or_else_the_test_part(pages, tmp_path):
    about = re.search(r"<dt>part</dt><dd>(.*?)</dd>.*?<dt>examples</dt><dd>(.*?)</dd>", pages["hostile"].read_text())
    assert about.groups() == ("validation", "9")
    folder = pages["hostile"].parent
    for name in ("train", "test"):
        shutil.copytree(folder / "data" / "train", tmp_path / name)
        data = Data(source="folder", path=str(tmp_path), image_size=(28, 30))
        assert open_run_part(folder / "two", data=data).name == name


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("name", ALL)
def test_a_browser_shows_the_page(name, width, dark, pages, browser):
    browser.open(pages[name], width=width, dark=dark)
    seen = browser.run(MEASURE)
    assert seen["wide"] <= seen["window"] == width, "the page itself never scrolls sideways"
    assert seen["faint"] == [], "text that stands out by less than 4.5 to 1"
    assert seen["cut"] == []
    assert seen["page"] < 0.05 if dark else seen["page"] > 0.9
    text = pages[name].read_text()
    assert len(seen["pictures"]) == text.count("<img ") > 0
    assert all(complete and natural and shown > 60 for complete, natural, shown in seen["pictures"])
    assert seen["elements"] == Outline(text).count.total(), "as it was written: nothing had to be mended"
    assert all(tab == 0 for _, tab in seen["boxes"])
    if name == "hundred":
        assert seen["boxes"][0][0], "a hundred classes scroll in their box"
        assert browser.run("return document.querySelector('table').rows.length") == 101
    if name == "classification":
        assert not any(wide for wide, _ in seen["boxes"]), "three classes fit on a phone"
    if name == "hostile":
        assert HOSTILE[0] in seen["said"]


def test_nothing_is_fetched_or_complained_of(pages, browser):
    browser.open(pages["classification"])
    browser.requests(), browser.messages()
    for page in pages.values():
        browser.open(page)
    assert browser.requests() == [page.as_uri() for page in pages.values()]
    assert browser.messages() == []


def test_all_is_reached_by_keyboard(pages, browser):
    browser.open(pages["classification"], width=1200)
    reached = []
    for _ in range(8):
        browser.press("Tab", 9)
        focused = browser.run(
            "const e = document.activeElement, b = e.getBoundingClientRect();"
            " return [e.tagName, e.getAttribute('href'), b.left >= 0 && b.right <= innerWidth"
            " && b.bottom > 0 && b.top < innerHeight, getComputedStyle(e).outlineStyle]"
        )
        reached.append(focused)
    assert all(visible and outline != "none" for *_, visible, outline in reached), json.dumps(reached)
    links = ["#content", "#s1", "#s2", "#s3", "#s4", "#s5"]
    assert [href for _, href, *_ in reached[:6]] == links
    assert [tag for tag, *_ in reached[6:]] == ["DIV", "DIV"], "the tables' boxes"
