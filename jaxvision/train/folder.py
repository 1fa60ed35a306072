"""The run folder: its name, and the small files in it that say what was run, where, and what came of it."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from etils import epath

from jaxvision.bucket import expanded, require_reachable
from jaxvision.config import Run
from jaxvision.cores import available_cores
from jaxvision.errors import RunFolderError
from jaxvision.outputs import write_whole
from jaxvision.serialize import from_json, to_json

PACKAGES = (
    "jaxvision",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "numpy",
    "onednn-cpu-gomp",
    "tensorflow",
    "tensorflow-cpu",
    "tensorflow-datasets",
)


JAX_SETTINGS = (
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_disable_jit",
)
"""Settings of JAX that decide numbers; the environment and programs can set them."""


def new_run_folder(name: str, run_dir: str | os.PathLike[str] | None = None) -> epath.Path:
    """Makes the empty folder of a new run.

    Args:
      name: the run's name; `a/b` gives the nested folder runs/a/b.
      run_dir: the folder to use; None: runs/NAME, or where that exists runs/NAME-2, runs/NAME-3 and so on.

    Raises:
      RunFolderError: `run_dir` exists and is not empty, or is a file; or no folder can be made there.
    """
    folder = epath.Path("runs") / name if run_dir is None else epath.Path(expanded(run_dir))
    try:
        if run_dir is None:
            return _first_free(folder)
        require_free(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    except OSError as error:
        raise RunFolderError(
            f"run folder {folder}: cannot be made: {error.strerror or error}. Give another --run-dir. "
            f"Received: {str(folder)!r} (seen from {Path.cwd()})"
        ) from error


def require_free(run_dir: epath.PathLike) -> None:
    """Raises RunFolderError where `run_dir` is a file or a folder with something in it that is not hidden: a run killed
    at its very start leaves its lock there."""
    folder = epath.Path(expanded(run_dir))
    if folder.exists() and (not folder.is_dir() or any(path.name[0] != "." for path in folder.iterdir())):
        raise RunFolderError(
            f"run folder {folder}: already there and not empty; a run is never written over. "
            f"Give another --run-dir, or remove it. Received: {os.fspath(run_dir)!r}"
        )


def _first_free(wanted: epath.Path) -> epath.Path:
    wanted.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = wanted if number == 1 else wanted.parent / f"{wanted.name}-{number}"
        try:
            # mkdir fails where the folder exists, so two runs started together cannot take the same one.
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def write_json(path: epath.PathLike, value: Any) -> None:
    """Writes JSON so that a reader finds the old file or the whole new one, never a part; null for NaN and infinity."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a text file in one move (see `write_json`). RunFolderError: it cannot be written there."""
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise RunFolderError(f"{epath.Path(path)}: cannot be written. Received: {error.strerror or error}") from error


def write_config(run_dir: epath.PathLike, run: Run) -> None:
    """Writes config.json."""
    write_text(epath.Path(run_dir) / "config.json", to_json(run))


def read_config(run_dir: epath.PathLike) -> Run:
    """The run that config.json describes.

    Raises:
      RunFolderError: no such folder, or not a run folder. ConfigError: config.json is damaged.
    """
    require_reachable(run_dir)
    path = epath.Path(expanded(run_dir)) / "config.json"
    if not path.exists():
        raise RunFolderError(f"run folder {epath.Path(run_dir)}: has no config.json. Received: {os.fspath(run_dir)!r}")
    return from_json(read_text(path), where=str(path))


def read_metrics(run_dir: epath.PathLike) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, in order; a last line cut off by a crash is left out."""
    return read_lines(epath.Path(expanded(run_dir)) / "metrics.jsonl")


def read_lines(path: epath.PathLike) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file.

    Raises:
      RunFolderError: no such file, or a damaged line that is not the last.
    """
    path = epath.Path(path)
    if not path.exists():
        raise RunFolderError(f"run folder {path.parent}: has no {path.name}.")
    lines = read_text(path).splitlines()
    objects = []
    for number, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise RunFolderError(f"{path}, line {number}: not JSON ({error.msg}).") from error
            continue
        if not isinstance(found, dict):
            raise RunFolderError(f"{path}, line {number}: must be an object. Received: {line[:40]}")
        objects.append(found)
    return objects


def read_text(path: epath.PathLike) -> str:
    """A text file of a run folder. RunFolderError: it cannot be read, or is damaged."""
    try:
        return epath.Path(path).read_text()
    except OSError as error:
        raise RunFolderError(f"{epath.Path(path)}: cannot be read. Received: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RunFolderError(f"{epath.Path(path)}: damaged, no text: {error}") from error


def write_environment(run_dir: epath.PathLike, run: Run, *, fingerprint: str, together: int = 1) -> None:
    """Writes environment.json: what beside config.json decided the numbers of this run, and how fast they came."""
    write_json(epath.Path(run_dir) / "environment.json", environment(run, fingerprint=fingerprint, together=together))


def read_environment(run_dir: epath.PathLike) -> dict[str, Any]:
    """What environment.json says.

    Raises: RunFolderError: it cannot be read, or is damaged.
    """
    path = epath.Path(expanded(run_dir)) / "environment.json"
    try:
        found = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        found = None
        reason = f"not JSON ({error.msg})"
    else:
        reason = "no data_fingerprint in it"
    if not isinstance(found, dict) or not isinstance(found.get("data_fingerprint"), str):
        raise RunFolderError(
            f"{path}: damaged: {reason}. Bring it back from a copy; or remove it, and the run is resumed without a look"
            " at what has changed since it was begun."
        )
    return found


def environment(run: Run, *, fingerprint: str, together: int = 1) -> dict[str, Any]:
    """Versions, devices, processor, source revision, command line, seeds, data, start time, and how many runs are
    trained together, this one with them."""
    import jax  # only here: reading run folders (`jaxvision list`, reports) need not wait for it

    devices = jax.devices()[: run.devices]
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "seed": run.seed,
        "split_seed": run.data.split_seed,
        "data_fingerprint": fingerprint,
        **code_version(),
        "modules": _modules(run),
        "together": together,
        "platform": platform.platform(),
        "backend": devices[0].platform,
        "devices": [device.device_kind for device in devices],
        "processes": jax.process_count(),
        "cpu": _cpu_model(),
        "cpu_count": available_cores(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "jax": {name: str(jax.config.values[name]) for name in JAX_SETTINGS},
    }


def code_version() -> dict[str, Any]:
    """What of environment.json is the code: versions, the source's revision where it is a checkout, and its hash."""
    return {"python": platform.python_version(), "packages": _versions(), "git": _git(), "source": _source()}


def _versions() -> dict[str, str]:
    # From metadata: importing TensorFlow to ask its version would cost seconds.
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _modules(run: Run) -> dict[str, str]:
    """sha256 of the user's own modules that a run names, as package.module:Name."""
    found = {}
    for name in (run.model.name, run.data.source):
        module, _, variable = name.partition(":")
        if variable and module != "tfds":
            with contextlib.suppress(ImportError, OSError, ValueError, AttributeError, TypeError):
                origin = importlib.util.find_spec(module).origin  # type: ignore[union-attr]
                found[module] = hashlib.sha256(Path(origin).read_bytes()).hexdigest()  # type: ignore[arg-type]
    return found


def _source() -> str:
    """sha256 over the package's Python files: a checkout may differ from its revision, or there is none."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _cpu_model() -> str:
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def _git() -> dict[str, Any] | None:
    """Commit of the source and whether files differ from it; None outside a git checkout."""

    def ask(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None
