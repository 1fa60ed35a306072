"""Keras answers in a process of its own: its layers break under the strict JAX settings these tests run with.

A script of this folder is called as `script.py INPUT.npz OUTPUT.npz ARGS...`: it reads the one and writes the other.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

FOLDER = pathlib.Path(__file__).parent
FOREIGN = ("JAX_", "XLA_", "KERAS_", "TF_", "PYTHON")


def run(script: str, *args: Any, timeout: float = 600, **arrays: Any) -> dict[str, np.ndarray]:
    """Run `script` (a name in this folder, without .py) under Keras on JAX, or what it chooses; return its arrays.

    Raises RuntimeError with the script's standard error where it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        given, answer = pathlib.Path(folder, "given.npz"), pathlib.Path(folder, "answer.npz")
        np.savez(given, **arrays)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        # KERAS_HOME: a user's keras.json could change the float type or the order of channels.
        clean |= {"KERAS_BACKEND": "jax", "KERAS_HOME": folder, "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = [sys.executable, FOLDER / f"{script}.py", given, answer, *map(str, args)]
        done = subprocess.run(
            command, env=clean, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            raise RuntimeError(f"keras_reference/{script}.py failed with {done.returncode}:\n{done.stderr}")
        with np.load(answer) as arrays_out:
            return dict(arrays_out)
