"""The table of faults says what the tests do."""

import ast
from pathlib import Path

import faults


def test_every_fault_has_a_test_that_is_there():
    faults.table()
    for name, (_, test) in faults.FAULTS.items():
        file, function = test.split("::")
        tree = ast.parse((Path(__file__).parent / file).read_text())
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_the_page_is_made_from_the_table():
    assert (Path(__file__).parent / "FAULTS.md").read_text() == faults.TEXT + faults.table()
