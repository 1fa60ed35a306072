"""What README.md says is so: its table is the result files', its commands and names exist."""

import json
import pathlib
import re

import jaxvision
from jaxvision import cli
from jaxvision.bench.tables import peers_markdown
from jaxvision.experiments import FOLDER, list_experiments
from jaxvision.report.results import read_references, read_results, results_table

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def test_the_table_is_made_from_the_result_files():
    table = results_table(read_results(FOLDER / "results"), read_references(FOLDER / "references"))
    assert f"<!-- results -->\n{table}<!-- /results -->" in README


def test_the_benchmark_is_the_measured_one():
    document = json.loads((FOLDER / "results" / "bench" / "peers-cpu.json").read_text())
    assert f"<!-- bench -->\n{peers_markdown(document)}<!-- /bench -->" in README


def test_every_experiment_and_command_is_named():
    for name in list_experiments():
        assert f"`{name}`" in README
    used = set(re.findall(r"(?:^|`|/)jaxvision ([a-z]+)", README, re.MULTILINE))
    assert used <= set(cli.COMMANDS)


def test_python_names_exist():
    for name in set(re.findall(r"\bjv\.(\w+)", README)):
        assert hasattr(jaxvision, name), name


def test_pictures_exist():
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (pathlib.Path(__file__).parents[1] / path).is_file(), path
