"""The report of an ablation: its numbers against scipy's, what it says of what is missing, how a browser shows it."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from browser import open_browser
from html_pages import MEASURE, Outline
from PIL import Image
from planted_sweep import BASE, EPOCHS, FAILED, MISSING, finished_trial, planted_run, planted_sweep
from predicted_runs import finished_run
from scipy import stats

from jaxvision import cli
from jaxvision.config import Augment, Model
from jaxvision.errors import ConfigError, RunFolderError
from jaxvision.report.ablation import analyse, read_sweep, write_report
from jaxvision.report.ablation.conclusion import conclusion
from jaxvision.report.ablation.cost import prediction_flops
from jaxvision.report.ablation.measure import curve
from jaxvision.report.ablation.page import as_page
from jaxvision.report.ablation.plots import ticks
from jaxvision.report.ablation.trial import Trial
from jaxvision.report.ablation.words import MINUS, NOT_KNOWN, amount, method
from jaxvision.train.folder import read_config, write_config
from jaxvision.train.result import read_result, write_result

ARMS = ["with-0.5", "with-0.25", "with-none", "without-0.5", "without-0.25", "without-none"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Path:
    """16 of 18 trials finished."""
    return planted_sweep(tmp_path_factory.mktemp("planted") / "sweep")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """All trials finished, of five seeds."""
    return planted_sweep(tmp_path_factory.mktemp("planted") / "whole", seeds=(0, 1, 2, 3, 4), whole=True)


def accuracies(folder: Path, arm: str) -> dict[int, float]:
    """By seed, from the files."""
    files = sorted((folder / arm).glob("seed-*/result.json"))
    return {int(f.parent.name[5:]): json.loads(f.read_text())["validation"]["accuracy"] for f in files}


def rows_of(text: str, table: str) -> list[list[str]]:
    """Words of the cells of a page's table."""
    found = re.search(rf'<table class="sortable" id="table-{table}">.*?</table>', text, re.DOTALL)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", found, re.DOTALL)
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[" ".join(re.sub(r"<[^>]*>", " ", cell.replace("<wbr>", "")).split()) for cell in row] for row in rows]


def test_arms_and_differences_are_scipys(sweep):
    report = analyse(read_sweep([sweep]))
    assert [arm.name for arm in report.arms] == ARMS
    base = accuracies(sweep, "with-0.5")
    for arm in report.arms:
        values = accuracies(sweep, arm.name)
        assert arm.values == values
        own = list(values.values())
        expected = stats.t.interval(0.95, len(own) - 1, loc=np.mean(own), scale=stats.sem(own))
        assert (arm.interval.low, arm.interval.high) == pytest.approx(expected)
        if arm.name == report.base:
            assert arm.compared is None
            continue
        shared = sorted(values.keys() & base.keys())
        test = stats.ttest_rel([values[seed] for seed in shared], [base[seed] for seed in shared])
        found = arm.compared.contrast
        assert (found.seeds, found.p) == (tuple(shared), pytest.approx(test.pvalue))
        assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval()))
    assert [len(arm.values) for arm in report.arms] == [3, 2, 3, 3, 3, 2]


def test_effects_are_contrasts_over_seeds(whole):
    report = analyse(read_sweep([whole]))
    y = np.array([list(accuracies(whole, arm).values()) for arm in ARMS]).reshape(2, 3, 5)
    expected = [
        (y[1] - y[0]).mean(0), (y[:, 1] - y[:, 0]).mean(0), (y[:, 2] - y[:, 0]).mean(0),
        y[1, 1] - y[1, 0] - y[0, 1] + y[0, 0], y[1, 2] - y[1, 0] - y[0, 2] + y[0, 0],
    ]  # fmt: skip
    assert [effect.chosen for effect in report.effects] == [
        {"augmentation": "without"}, {"dropout": "0.25"}, {"dropout": "none"},
        {"augmentation": "without", "dropout": "0.25"}, {"augmentation": "without", "dropout": "none"},
    ]  # fmt: skip
    for effect, sums in zip(report.effects, expected, strict=True):
        found, test = effect.compared.contrast, stats.ttest_1samp(sums, 0)
        assert (found.n, found.mean, found.p) == (5, pytest.approx(sums.mean()), pytest.approx(test.pvalue))
        assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval()))


def test_all_comparisons_are_one_family(whole):
    report = analyse(read_sweep([whole]))
    compared = [item.compared for item in (*report.arms[1:], *report.effects)]
    p, corrected = [each.contrast.p for each in compared], [each.p_holm for each in compared]
    assert report.comparisons == len(p) == 10
    order = np.argsort(p)
    steps = np.minimum(1, np.maximum.accumulate([p[place] * (10 - rank) for rank, place in enumerate(order)]))
    assert [corrected[place] for place in order] == pytest.approx(steps)
    assert "for the 10 comparisons of this report" in " ".join(method(report))


def test_what_was_planted_is_told_and_nothing_else(whole):
    said = " ".join(conclusion(analyse(read_sweep([whole])))).replace("\xa0", " ")
    assert said.startswith("Of 5 arms beside the base, with-0.5, 3 differ from it: 0 better, 3 worse.")
    for arm in ("without-0.5", "without-0.25", "without-none"):
        assert f"{arm} is worse than the base: validation accuracy lower by 0.0" in said
    assert "augmentation: without instead of with makes validation accuracy lower by 0.0" in said
    # -0.012 and 0.001 with a spread of 0.006 are too little for five seeds and ten comparisons.
    assert "No difference to the base can be told with 5 seeds for with-0.25 and with-none." in said
    assert "That is not the same as none: differences from" in said


def test_incomplete_trials_are_visible_everywhere(sweep, tmp_path):
    report = analyse(read_sweep([sweep]))
    page, text, data, _ = (path for path in sorted(write_report(report, tmp_path / "r.html"), key=_kind))
    trials = rows_of(page.read_text(), "trials")[1:]
    assert len(trials) == 18
    status = {(row[0], int(row[1])): (row[2], row[6]) for row in trials}
    assert status[FAILED][0] == "failed"
    assert "the training loss is not finite at step 812" in status[FAILED][1]
    assert status[MISSING] == ("missing", "")
    assert sum(words == "finished" for words, _ in status.values()) == 16
    written = text.read_text()
    assert "| without-none, seed 1 | failed | NonFiniteLossError" in written
    assert "| with-0.25, seed 2 | missing |  |" in written
    assert "16 of 18 trials finished; 1 missing, 1 failed" in written
    assert [t["status"] for t in json.loads(data.read_text())["trials"]].count("finished") == 16
    arms = {row[0]: row for row in rows_of(page.read_text(), "arms")}
    assert arms["with-0.25"][1] == "2 of 3"
    assert arms["with-0.25"][-1] == NOT_KNOWN, "seed 2 has no number"
    assert [row[-1] for row in rows_of(page.read_text(), "effects")[1:]] == ["1 seed", *["2 seeds"] * 4]
    assert "Too few seeds are finished in all arms concerned" in " ".join(conclusion(report))


def _kind(path: Path) -> int:
    return [".html", ".md", ".json", ".png"].index(path.suffix)


def test_one_seed_gives_no_interval_and_says_so(tmp_path):
    report = analyse(read_sweep([planted_sweep(tmp_path / "one", seeds=(0,), whole=True)]))
    assert all(arm.interval.low is None for arm in report.arms)
    assert report.comparisons == 0
    said = " ".join(conclusion(report))
    assert "one seed in common with the base, so there is no interval" in said
    assert "worse" not in said
    arms = rows_of(as_page(report, {}), "arms")
    assert {row[3] for row in arms[1:]} == {NOT_KNOWN}
    assert {row[6] for row in arms[1:]} == {NOT_KNOWN}


def test_without_a_base_nothing_is_compared(tmp_path):
    folder = planted_sweep(tmp_path / "sweep", whole=True)
    for result in (folder / "with-0.5").glob("seed-*/result.json"):
        result.unlink()
    report = analyse(read_sweep([folder]))
    assert conclusion(report) == ["The base, with-0.5, has no finished trial: nothing can be compared with it."]
    assert [trial.status for trial in report.trials[:3]] == ["begun"] * 3
    assert rows_of(as_page(report, {}), "arms")[1][2] == NOT_KNOWN


def test_changes_are_those_of_the_run_folders(sweep):
    report = analyse(read_sweep([sweep]))
    changes = {arm.name: arm.changes for arm in report.arms}
    assert changes["with-0.5"] == {}
    assert changes["without-0.25"] == {
        "augment.flip": ("horizontal", "none"),
        "augment.rotation": (0.1, 0.0),
        "augment.zoom": (0.2, 0.0),
        "model.options.dropout": (0.5, 0.25),
    }
    assert rows_of(as_page(report, {}), "changes")[1] == ["with-0.25", "model.options.dropout", "0.5", "0.25"]


def random_trial(folder: Path, run=BASE, accuracy=0.8, **options) -> Path:
    return finished_trial(folder, run, accuracy, np.random.default_rng(0), **options)


def test_the_test_part_counts_where_all_have_one(tmp_path):
    for seed in range(2):
        random_trial(tmp_path / f"a{seed}", dataclasses.replace(BASE, seed=seed), 0.8 + 0.01 * seed, test=True)
    report = analyse(read_sweep([tmp_path]))
    assert (report.measure.part, report.measure.metric) == ("test", "accuracy")
    assert report.arms[0].interval.mean == pytest.approx(0.755)
    loss = analyse(read_sweep([tmp_path]), metric="loss", part="train")
    assert (loss.arms[0].interval.mean, loss.measure.lower_is_better) == (pytest.approx(0.2), True)
    random_trial(tmp_path / "b", dataclasses.replace(BASE, seed=2))
    assert analyse(read_sweep([tmp_path])).measure.part == "validation"
    with pytest.raises(ConfigError, match=r"part: not all .* All have: validation, train"):
        analyse(read_sweep([tmp_path]), part="test")
    with pytest.raises(ConfigError, match="Did you mean 'accuracy'"):
        analyse(read_sweep([tmp_path]), metric="acuracy")


def test_a_smaller_loss_is_better(tmp_path):
    for seed in range(3):
        for arm, loss in (("base", 0.5), ("better", 0.3)):
            run = dataclasses.replace(BASE, name=arm, seed=seed, augment=Augment(zoom=0.1 * (arm == "better")))
            folder = random_trial(tmp_path / arm / str(seed), run)
            result = read_result(folder)
            write_result(folder, dataclasses.replace(result, validation={"loss": loss + 0.001 * seed**2 * (1 - loss)}))
    report = analyse(read_sweep([tmp_path / "base", tmp_path / "better"]), metric="loss")
    assert "better is better than the base: validation loss lower by 0.1997" in " ".join(conclusion(report))
    assert "(lower is better)" in as_page(report, {})


def test_run_folders_alone_are_grouped_by_configuration(tmp_path):
    for seed in (1, 0):
        random_trial(tmp_path / "runs" / f"plain-{seed}", dataclasses.replace(BASE, name=f"p{seed}", seed=seed))
        run = planted_run({"dropout": "0.25", "augmentation": "with"}, seed)
        random_trial(tmp_path / "runs" / "deeper" / f"half-{seed}", run)
    (tmp_path / "runs" / "notes").mkdir()
    found = read_sweep([tmp_path / "runs" / "plain-1", tmp_path / "runs"])
    assert [(arm.name, [trial.seed for trial in arm.trials]) for arm in found.arms] == [
        ("model.options.dropout 0.5", [0, 1]),
        ("model.options.dropout 0.25", [0, 1]),
    ]
    report = analyse(found)
    assert (report.base, report.effects, report.design) == ("model.options.dropout 0.5", None, None)
    assert report.arms[1].changes == {"model.options.dropout": (0.5, 0.25)}
    with pytest.raises(RunFolderError, match="reported on alone"):
        read_sweep([planted_sweep(tmp_path / "sweep"), tmp_path / "runs" / "plain-1"])


def test_nothing_finished_is_said(tmp_path):
    folder = planted_sweep(tmp_path / "sweep")
    for result in folder.rglob("result.json"):
        result.unlink()
    with pytest.raises(RunFolderError, match="none of the 18 trials of augmentation-x-dropout is finished: 16"):
        analyse(read_sweep([folder]))
    lost = random_trial(tmp_path / "lost")
    write_result(lost, dataclasses.replace(read_result(lost), validation={"accuracy": float("nan")}))
    with pytest.raises(RunFolderError, match="validation accuracy a finite number"):
        analyse(read_sweep([lost]))
    plan = folder / "ablation.json"
    plan.write_text(plan.read_text().replace('"base": "with-0.5"', '"base": "gone"'))
    with pytest.raises(RunFolderError, match=r"base: must be one of the arms, .* Received: 'gone'"):
        read_sweep([folder])


def test_other_data_values_not_finite_and_damage_are_noted(tmp_path):
    folder = planted_sweep(tmp_path / "sweep", whole=True)
    other = folder / "with-none" / "seed-0" / "environment.json"
    environment = {**json.loads(other.read_text()), "data_fingerprint": "0123456789abcdef"}
    other.write_text(json.dumps(environment))
    lost = folder / "with-none" / "seed-1"
    write_result(lost, dataclasses.replace(read_result(lost), validation={"loss": 1.0, "accuracy": float("nan")}))
    (folder / "with-none" / "seed-2" / "result.json").write_text("{}")
    report = analyse(read_sweep([folder]))
    notes = " ".join(report.notes)
    assert "Not all trials have the same data: f87f41eca0c8 (16 trials); 0123456789ab (1 trial)" in notes
    assert "with-none: no finite accuracy with seed 1, which counts nowhere." in notes
    assert list(report.arms[2].values) == [0]
    trial = next(trial for trial in report.trials if (trial.arm, trial.seed) == ("with-none", 2))
    assert (trial.status, "result.json: damaged" in trial.message) == ("failed", True)
    page = as_page(report, {})
    assert "Not all trials have the same data" in page
    assert ["data", "0123456789ab", "1 trial: with-none seed 0"] in rows_of(page, "provenance")


def test_curves_are_means_over_seeds_and_all_phases():
    def trial(values):
        lines = [
            {"phase": phase, "epoch": epoch, "step": 0, "validation/accuracy": value} for phase, epoch, value in values
        ]
        return Trial("a", 0, None, "", "finished", result=object(), metrics=lines)

    first = trial([(0, 1, 0.5), (0, 2, 0.1), (0, 2, 0.6), (1, 1, 0.8)])
    second = trial([(0, 1, 0.7), (1, 1, None)])
    points = curve([first, second], "validation/accuracy")
    assert [(p.epoch, p.mean, p.low, p.high, p.n) for p in points] == [
        (1, pytest.approx(0.6), 0.5, 0.7, 2), (2, 0.6, 0.6, 0.6, 1), (3, 0.8, 0.8, 0.8, 1),
    ]  # fmt: skip


def test_operations_are_those_of_the_layers(tmp_path):
    run = dataclasses.replace(BASE, model=Model("dense-mnist", {"features": (512,)}))
    found = Trial("a", 0, None, "", "finished", config=run, result=read_result(random_trial(tmp_path / "run")))
    assert prediction_flops(found) == pytest.approx(2 * (90 * 90 * 3 * 512 + 512), rel=0.01)
    report = analyse(read_sweep([tmp_path / "run"]))
    gone = dataclasses.replace(BASE, model=Model("no_such_module:Net"))
    random_trial(tmp_path / "gone", gone)
    assert report.arms[0].cost.flops > 1e8
    assert analyse(read_sweep([tmp_path / "gone"])).arms[0].cost.flops is None
    assert (report.arms[0].cost.parameters, report.arms[0].cost.seconds) == (991_041, 430.0)
    assert report.arms[0].cost.images_per_second == pytest.approx(100, rel=0.1)


def test_words_of_amounts():
    assert [amount(v) for v in (None, 12, 1234, 104_202, 999_950, 163.5e6, 18.9e9, 2.5e12)] == [
        NOT_KNOWN, "12", "1.23 k", "104 k", "1,000 k", "164 M", "18.9 G", "2,500 G",
    ]  # fmt: skip


def test_ticks_are_round_and_inside():
    assert ticks(0.726, 0.832, 7) == pytest.approx([0.74, 0.76, 0.78, 0.80, 0.82])
    assert ticks(-0.13, 0.06, 5) == pytest.approx([-0.10, -0.05, 0, 0.05])
    assert ticks(1, 20, 6) == [5, 10, 15, 20]


def test_markdown_tables_fit_together(sweep, tmp_path):
    text = write_report(analyse(read_sweep([sweep])), tmp_path / "a b.html")[2].read_text()
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert [len(table) for table in tables] == [8, 7, 4]
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "](<a b.png>)" in text
    assert "| with-0.5 (base) | 3 of 3 | 0.8144 |" in text


def test_the_json_has_all_the_numbers(sweep, tmp_path):
    report = analyse(read_sweep([sweep]))
    document = json.loads(next(p for p in write_report(report, tmp_path / "r.html") if p.suffix == ".json").read_text())
    arm = document["arms"][3]
    assert arm["values"] == {str(seed): value for seed, value in accuracies(sweep, "without-0.5").items()}
    assert arm["compared"]["p_holm"] == report.arms[3].compared.p_holm
    assert len(arm["curves"]["validation"]) == EPOCHS
    assert (document["measure"], document["comparisons"]) == ({"metric": "accuracy", "part": "validation"}, 9)


def command(*arguments) -> int:
    return cli.main(["report", *map(str, arguments)])


def test_only_an_earlier_report_is_written_over(sweep, tmp_path, capsys):
    out = tmp_path / "new" / "report.html"
    assert command(sweep, "--out", out) == 0
    written = [f"report.{kind}" for kind in ("html", "json", "md", "png")]
    assert sorted(path.name for path in out.parent.iterdir()) == written
    out.write_text("an earlier one")
    assert command(sweep, "--out", out) == 0
    assert out.read_text().startswith("<!DOCTYPE html>")
    assert "16 of 18 trials finished" in capsys.readouterr().out
    (tmp_path / "mine.md").write_text("mine")
    assert command(sweep, "--out", tmp_path / "mine.html") == 2
    assert "already there" in capsys.readouterr().err
    assert (tmp_path / "mine.md").read_text() == "mine"
    assert not (tmp_path / "mine.html").exists()
    assert command(tmp_path / "gone") == 2
    assert command(sweep, "--metric", "acuracy", "--out", tmp_path / "x" / "r.html") == 2
    assert not (tmp_path / "x").exists()


@pytest.mark.usefixtures("kept_programs")
@pytest.mark.filterwarnings("ignore:.*the data has changed")  # the trials' fingerprint is invented
def test_pages_of_trials_are_made_once_and_linked(tmp_path, capsys):
    for number in range(6):
        place = tmp_path / "data" / "train" / ("bright", "dark")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((12, 18, 3), 250 * (number % 2), np.uint8)).save(place / f"{number}.png")
    shutil.copytree(tmp_path / "data" / "train", tmp_path / "data" / "validation")
    names, data = ("bright", "dark"), {"source": "folder", "path": str(tmp_path / "data")}
    for seed in range(2):
        folder = random_trial(tmp_path / "runs" / f"levels-{seed}")
        finished_run(folder, "classification", names=names, **data)
        write_config(folder, dataclasses.replace(read_config(folder), name="levels", seed=seed))
    shutil.rmtree(tmp_path / "runs" / "levels-1" / "checkpoints")
    out = tmp_path / "out" / "report.html"
    assert command(tmp_path / "runs", "--out", out, "--pages") == 0
    assert "no page of levels, seed 1: " in capsys.readouterr().out
    folder = tmp_path / "out" / "report-pages"
    (written,) = folder.iterdir()
    assert written.name.startswith("levels-seed-0-validation-")
    assert "Confusion matrix" in written.read_text()
    assert "the validation part" in written.read_text()
    links = r'<a href="([^"#]*)">'
    assert re.findall(links, out.read_text()) == [f"report-pages/{written.name}"]
    made = written.stat().st_mtime_ns
    assert command(tmp_path / "runs", "--out", out, "--pages") == 0
    assert written.stat().st_mtime_ns == made, "of a finished run nothing changes"
    # Another part, and another run of that name and seed in that place, have pages of their own.
    assert command(tmp_path / "runs", "--out", out, "--part", "train") == 0
    assert re.findall(links, out.read_text()) == []
    run = tmp_path / "runs" / "levels-0"
    write_result(run, dataclasses.replace(read_result(run), seconds=1.0))
    assert command(tmp_path / "runs", "--out", out) == 0
    assert re.findall(links, out.read_text()) == []
    assert command(tmp_path / "runs", "--out", out, "--pages") == 0
    assert len(list(folder.iterdir())) == 2
    assert re.findall(links, out.read_text()) == [
        f"report-pages/{page.name}" for page in folder.iterdir() if page != written
    ]


def test_the_place_of_pages_is_no_file(sweep, tmp_path, capsys):
    (tmp_path / "r-pages").write_text("mine")
    assert command(sweep, "--out", tmp_path / "r.html", "--pages") == 2
    assert "r-pages: must be the folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["r-pages"]


@pytest.fixture(scope="module")
def browser():
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(sweep, tmp_path_factory) -> Path:
    return write_report(analyse(read_sweep([sweep])), tmp_path_factory.mktemp("page") / "report.html")[3]


def test_the_page_is_well_formed_and_runs_nothing_but_its_script(page):
    text = page.read_text()
    outline = Outline(text)
    assert not outline.open
    assert outline.count["script"] == 1, "the message of a failed trial is text"
    assert "&lt;script&gt;alert(1)" in text
    assert len(set(outline.ids)) == len(outline.ids)
    assert all(after - before <= 1 for before, after in zip(outline.headings, outline.headings[1:], strict=False))
    assert text.count("https:") + text.count("http:") == 0


INSIDE = """
return [...document.querySelectorAll(".forest .row > svg, .curves svg")].map(svg => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll(".range, circle, path, text")].every(mark => {
    const at = mark.getBoundingClientRect();
    return at.left >= box.left - 12 && at.right <= box.right + 12 && at.top >= box.top - 1
      && at.bottom <= box.bottom + 2; }); });
"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 390])
def test_a_browser_shows_the_page(width, dark, page, browser):
    browser.open(page, width=width, dark=dark)
    seen = browser.run(MEASURE)
    assert seen["wide"] <= seen["window"] == width, "the page itself never scrolls sideways"
    assert seen["faint"] == [], "text that stands out by less than 4.5 to 1"
    assert seen["cut"] == []
    assert seen["page"] < 0.05 if dark else seen["page"] > 0.9
    drawn = browser.run(INSIDE)
    assert len(drawn) > 18
    assert all(drawn), "what is drawn stays inside"


CUT_WORDS = """
const cut = [];
for (const e of document.querySelectorAll(".forest .name, tbody th > span, .curves h3, dd")) {
  const walk = document.createTreeWalker(e, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) for (const word of walk.currentNode.data.matchAll(/[^\\s.]+/g)) {
    const range = document.createRange();
    range.setStart(walk.currentNode, word.index);
    range.setEnd(walk.currentNode, word.index + word[0].length);
    if (range.getClientRects().length > 1) cut.push(word[0]); } }
return cut;
"""


@pytest.mark.parametrize("width", [1200, 390])
def test_names_of_fields_go_on_after_a_dot(width, tmp_path, browser):
    for dropout in ("0.5", "0.25"):
        random_trial(tmp_path / dropout, planted_run({"dropout": dropout, "augmentation": "with"}, 0))
    page = write_report(analyse(read_sweep([tmp_path])), tmp_path / "r.html")[3]
    assert page.read_text().count("model.<wbr>options.<wbr>dropout 0.25") >= 5
    browser.open(page, width=width)
    assert browser.run(CUT_WORDS) == []


def test_nothing_is_fetched_or_complained_of(page, browser):
    browser.open(page)
    browser.requests(), browser.messages()
    browser.open(page)
    assert browser.requests() == [page.as_uri()]
    assert browser.messages() == []


ROWS = "[...document.querySelectorAll('#table-%s tbody tr')].filter(r => r.getClientRects().length)"


def shown(browser, table: str, column: int) -> list[str]:
    return browser.run(f"return {ROWS % table}.map(r => r.cells[{column}].innerText)")


def sorted_by(browser, table: str) -> list[str]:
    return browser.run(f"return [...document.querySelectorAll('#table-{table} thead th')].map(h => h.ariaSort)")


def test_columns_are_sorted_by_the_mouse(page, browser):
    browser.open(page, width=390)
    assert shown(browser, "arms", 0)[0] == "with-0.5 (base)"
    assert set(sorted_by(browser, "arms")) == {"none"}
    head = "document.querySelectorAll('#table-arms thead button')[4]"
    browser.click(head)
    values = shown(browser, "arms", 4)
    assert values[-1] == NOT_KNOWN, "what is not known comes last"
    numbers = [float(value.replace(MINUS, "-")) for value in values[:-1]]
    assert numbers == sorted(numbers)
    assert sorted_by(browser, "arms")[4] == "ascending"
    browser.click(head)
    values = shown(browser, "arms", 4)
    assert values[-1] == NOT_KNOWN
    assert [float(value.replace(MINUS, "-")) for value in values[:-1]] == sorted(numbers, reverse=True)
    assert [kind for kind in sorted_by(browser, "arms") if kind != "none"] == ["descending"]


def test_tables_are_sorted_and_filtered_by_keyboard(page, browser):
    browser.open(page, width=1200)
    browser.run("document.querySelector('#table-trials-filter').focus()")
    browser.write("FAILED without")
    assert shown(browser, "trials", 2) == ["failed"]
    assert browser.run("return document.querySelector('#table-trials-filter ~ output').innerText") == "1 of 18 rows"
    for _ in range(14):
        browser.press("Backspace", 8)
    assert len(shown(browser, "trials", 2)) == 18
    reached = []
    for _ in range(4):  # the table's box, then the heads: arm, seed, status
        browser.press("Tab", 9)
        focused = "const e = document.activeElement; return [e.tagName, getComputedStyle(e).outlineStyle]"
        reached.append(browser.run(focused))
    assert [tag for tag, _ in reached] == ["DIV", "BUTTON", "BUTTON", "BUTTON"]
    assert all(outline != "none" for _, outline in reached)
    browser.press("Enter", 13, "\r")
    assert shown(browser, "trials", 2)[:3] == ["failed", "finished", "finished"]
    browser.press(" ", 32, " ")
    assert shown(browser, "trials", 2)[0] == "missing"
    assert sorted_by(browser, "trials")[2] == "descending"
