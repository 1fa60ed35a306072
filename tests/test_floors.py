"""The house stays as drawn: imports go down only, TensorFlow stays in data/, files stay small."""

import ast
import pathlib
import subprocess
import sys

PACKAGE = pathlib.Path(__file__).parents[1] / "jaxvision"
EXPERIMENTS = PACKAGE.parent / "experiments"

FLOORS: dict[str, int] = {
    "errors": 0, "config": 0, "ablation": 0, "changes": 0, "types": 0, "serialize": 0, "experiments": 0, "importing": 0,
    "cachedir": 0, "quiet": 0, "cores": 0, "outputs": 0, "varied": 0, "processes": 0, "watchdog": 0, "distributed": 0,
    "bucket": 0,
    "mesh": 1, "nn": 1, "augment": 1, "figures": 1,
    "data": 2,
    "models": 3, "weights": 3,
    "train.losses": 4, "train.metrics": 4, "train.confusion": 4, "train.ranking": 4, "train.task": 4,
    "train.optimizer": 4, "train.state": 4, "train.step": 4,
    "train": 5,
    "report": 6, "bench": 6, "export": 6, "explain": 6,
    "cli": 7, "sweep": 7, "__main__": 7,
}  # fmt: skip
NEVER_MEET = {("data", "models"), ("models", "data")}


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text())
    del found["__init__"]
    return found


def floor(module: str) -> int:
    """The longest entry of FLOORS that the module's name begins with."""
    matches = [key for key in FLOORS if module == key or module.startswith(f"{key}.")]
    assert matches, f"jaxvision.{module} stands on no floor; enter it in FLOORS"
    return FLOORS[max(matches, key=len)]


def imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module or ""}
    return names


def ours(tree: ast.AST) -> set[str]:
    return {name.removeprefix("jaxvision.") for name in imported(tree) if name.startswith("jaxvision.")}


def test_imports_go_down_only():
    wrong = []
    for module, tree in modules().items():
        for other in ours(tree):
            meet = (module.split(".")[0], other.split(".")[0]) in NEVER_MEET
            if floor(other) > floor(module) or meet:
                wrong.append(f"jaxvision.{module} imports jaxvision.{other}")
    assert not wrong


def test_experiments_import_the_ground_floor_only_and_hold_no_loops():
    for path in EXPERIMENTS.glob("*.py"):
        tree = ast.parse(path.read_text())
        assert all(floor(name) == 0 for name in ours(tree)), path
        assert not any(isinstance(node, ast.For | ast.While | ast.With) for node in ast.walk(tree)), path


def test_tensorflow_is_imported_in_functions_of_data_only():
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                roots = {name.split(".")[0] for name in imported(node)}
                if roots & {"tensorflow", "tensorflow_datasets"}:
                    assert module.startswith("data"), f"jaxvision.{module} imports TensorFlow"
                    assert node.col_offset > 0, f"jaxvision.{module} imports TensorFlow when it is imported itself"


def test_importing_jaxvision_is_light():
    code = "import sys, jaxvision; print([m for m in ('jax', 'tensorflow', 'matplotlib') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_functions_have_docstrings_and_files_are_small():
    missing = []
    for module, tree in modules().items():
        assert ast.get_docstring(tree), f"jaxvision.{module} has no docstring"
        for node in tree.body:
            is_public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if is_public and not ast.get_docstring(node):
                missing.append(f"jaxvision.{module}.{node.name}")
    assert not missing
    assert not [p.name for p in PACKAGE.rglob("*.py") if p.name == "utils.py" or len(p.read_text().splitlines()) > 350]


def test_random_functions_take_their_key_first_and_options_by_keyword():
    for module, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                names = [argument.arg for argument in node.args.posonlyargs + node.args.args]
                if "key" in names and not node.name.startswith("_") and module.startswith("augment"):
                    assert names[0] == "key", f"jaxvision.{module}.{node.name}"
                    assert not node.args.defaults, f"jaxvision.{module}.{node.name}: options are keyword-only"
