"""What README.md says is so: its table is the result files', its commands and names exist."""

import json
import pathlib
import re

import jaxvision
from jaxvision import cli
from jaxvision.bench.tables import peers_markdown
from jaxvision.experiments import FOLDER, list_ablations, list_experiments
from jaxvision.explain.boxes import boxes_table
from jaxvision.report.results import classes_table, read_references, read_results, results_table

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def test_the_table_is_made_from_the_result_files():
    table = results_table(read_results(FOLDER / "results"), read_references(FOLDER / "references"))
    assert f"<!-- results -->\n{table}<!-- /results -->" in README
    classes = classes_table(read_results(FOLDER / "results"), "camvid/")
    assert f"<!-- classes -->\n{classes}<!-- /classes -->" in README


def test_the_benchmarks_are_the_measured_ones():
    files = sorted((FOLDER / "results" / "bench").glob("peers-*.json"))
    tables = "\n".join(peers_markdown(json.loads(file.read_text())) for file in files)
    assert files
    assert f"<!-- bench -->\n{tables}<!-- /bench -->" in README


def test_what_heat_maps_find_is_what_was_measured():
    document = json.loads((FOLDER / "results" / "explain" / "boxes-dogs-vs-cats.json").read_text())
    drawn = json.loads((FOLDER / "boxes" / "dogs-vs-cats.json").read_text())["boxes"]
    assert [picture["name"] for picture in document["pictures"]] == list(drawn)
    assert f"<!-- boxes -->\n{boxes_table(document)}<!-- /boxes -->" in README


def test_the_ablation_is_the_report_of_its_runs():
    report = (FOLDER / "results" / "ablations" / "mnist-parts.md").read_text()
    table = re.search(r"<!-- ablation -->\n(.*)<!-- /ablation -->", README, re.DOTALL)[1]
    assert table.startswith("| arm |")
    assert table in report
    measured = json.loads((FOLDER / "results" / "ablations" / "mnist-parts.json").read_text())
    assert f"the report's {measured['comparisons']} comparisons" in README


def test_every_experiment_and_command_is_named():
    for name in (*list_experiments(), *list_ablations()):
        assert f"`{name}`" in README
    used = set(re.findall(r"(?:^|`|/)jaxvision ([a-z-]+)", README, re.MULTILINE))
    assert used <= set(cli.COMMANDS)


def test_python_names_exist():
    for name in set(re.findall(r"\bjv\.(\w+)", README)):
        assert hasattr(jaxvision, name), name


def test_pictures_exist():
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (pathlib.Path(__file__).parents[1] / path).is_file(), path
