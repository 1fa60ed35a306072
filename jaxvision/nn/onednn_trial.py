"""Whether oneDNN can be called here: that of jaxlib (`onednn`), and that of a package (`onednn_library`).

Both are tried once for each of their versions and each processor, in a process of its own since a wrong call ends the
process; the results are compared with the compiler's own, and the answer is remembered.
"""

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import jaxlib

from jaxvision.cachedir import cache_folder
from jaxvision.nn import onednn, onednn_gradients, onednn_library
from jaxvision.nn.window import Window, compiler_conv, compiler_input_gradient, compiler_weight_gradient

Library = Literal["jaxlib", "package"]
Pairs = list[tuple[jax.Array, jax.Array]]

DTYPES = ("float32", "bfloat16")
_TRIAL = 6
"""Goes up with every change to what is tried."""
_TRIAL_SECONDS = 120


@functools.cache
def available(library: Library, dtype: str) -> bool:
    """Whether this oneDNN can be called and gives right results for arrays of this dtype. The first time on a machine
    this takes a few seconds. The environment variable JAXVISION_ONEDNN=0 says no at once."""
    if os.environ.get("JAXVISION_ONEDNN") == "0" or dtype not in DTYPES:
        return False
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    if library == "package" and onednn_library.load() is None:
        return False
    return f"{library}-{dtype}" in _tried()


@functools.cache
def _tried() -> list[str]:
    """The libraries and types that came out right."""
    folder = cache_folder("onednn")
    answer = None if folder is None else folder / f"{_machine()}.json"
    if answer is not None:
        try:
            return list(json.loads(answer.read_text()))
        except (OSError, ValueError, TypeError):
            pass  # not tried yet, or cut off by a crash
    found, reason = _try()
    if reason is not None:
        told = f"The trial of oneDNN did not end, so convolutions on this CPU are slower: {reason}"
        warnings.warn(told, stacklevel=2)
    elif answer is not None:
        try:
            answer.parent.mkdir(parents=True, exist_ok=True)
            draft = answer.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(found))
            draft.replace(answer)
        except OSError:
            pass  # tried again next time
    return found


def _machine() -> str:
    """What decides whether oneDNN works: the libraries, and the processor with its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    processor = sorted({line for line in lines if line.startswith(("model name", "flags"))})
    processor += [f"{name}={os.environ.get(name)}" for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")]
    digest = hashlib.sha256(repr(processor).encode()).hexdigest()[:16]
    package = None if onednn_library.load() is None else onednn_library.version()
    return f"trial-{_TRIAL}-jaxlib-{jaxlib.__version__}-package-{package}-{digest}"


def _try() -> tuple[list[str], str | None]:
    """What came out right; and why there is no answer that holds for good, if there is none."""
    if not sys.executable or getattr(sys, "frozen", False):  # what would start is the application, not Python
        return [], None
    package_folder = str(Path(__file__).parents[2])
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "",
        "JAXVISION_ONEDNN": "0",  # should the trial convolve in another way, it must not start a trial
        "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), package_folder])),
    }
    try:
        trial = subprocess.run(
            [
                sys.executable,
                "-P",
                "-W",
                "ignore",
                "-c",
                "from jaxvision.nn import onednn_trial; onednn_trial._trial()",
            ],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TRIAL_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return [], str(error)
    said = trial.stdout.split()
    found = [word for word in said if word not in ("begun", "done")]
    # Ended by a signal after it began, it met what oneDNN cannot do, and that is an answer.
    if "done" in said or ("begun" in said and trial.returncode < 0):
        return found, None
    return [], (trial.stderr.strip().splitlines() or [f"exit code {trial.returncode}"])[-1]


def _trial() -> None:
    """Says what comes out right, each as soon as it is known: a wrong call would end the process."""
    print("begun", flush=True)
    for dtype in DTYPES:  # a processor without bfloat16 may end the process there
        for library, compute in (("jaxlib", _by_jaxlib), ("package", _by_package)):
            if (library == "jaxlib" or onednn_library.load() is not None) and _is_right(compute, dtype):
                print(f"{library}-{dtype}", flush=True)
    print("done", flush=True)


def _by_jaxlib(x: jax.Array, kernel: jax.Array) -> Pairs:
    pixels = x.reshape(-1, 48)
    pairs = [(onednn.matmul_tn(pixels, pixels[:, :24]), pixels.T @ pixels[:, :24])]
    for window in _windows():
        taps = kernel[:, :, : 16 // window.groups]
        pairs.append((onednn.convolution(x, taps, window), compiler_conv(x, taps, window)))
    return pairs


def _by_package(x: jax.Array, kernel: jax.Array) -> Pairs:
    wide = Window((12, 9), (3, 3), (2, 2), ((0, 1), (1, 1)), (1, 1), 1)
    sparse = Window((12, 9), (2, 1), (3, 2), ((0, 0), (0, 0)), (1, 1), 1)  # some pixels have no gradient
    cases = [(x, kernel[:, :, : 16 // window.groups], window) for window in _windows()]
    cases += [(jnp.tile(x, 4), jnp.tile(kernel, (4, 3)), wide), (x, kernel[:2, :1], sparse)]
    pairs = []
    for seen, taps, window in cases:
        cotangent = jnp.cos(compiler_conv(seen, taps, window))
        for ours, compiler, operands in (
            (onednn_gradients.weight_gradient, compiler_weight_gradient, (seen, cotangent)),
            (onednn_gradients.input_gradient, compiler_input_gradient, (cotangent, taps)),
        ):
            pairs.append((ours(*operands, window), compiler(*operands, window)))
    window = Window((12, 9), (3, 3), (2, 2), ((0, 1), (1, 1)), (1, 1), 1)
    values = jnp.cos(x[:, : window.out_size[0], : window.out_size[1]])
    for position in (0, 5, 8):  # all windows choose the same: a convolution with a kernel that is 1 there, channel-wise
        which = jnp.full(values.shape, position, jnp.int8)
        tap = jnp.zeros((9, 1, 1), x.dtype).at[position].set(1).reshape(3, 3, 1, 1)
        expected = compiler_input_gradient(values, jnp.tile(tap, 16), window.replace(groups=16))
        pairs.append((onednn_gradients.max_pool_gradient(values, which, window), expected))
    return pairs


def _windows() -> list[Window]:
    """One for each feature of the interfaces that is used."""
    return [
        Window((12, 9), (3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
        Window((12, 9), (3, 3), (2, 1), ((1, 2), (0, 1)), (1, 2), 1),
        Window((12, 9), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 4),
        Window((12, 9), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 16),
    ]


def _is_right(compute: Callable[[jax.Array, jax.Array], Pairs], dtype: str) -> bool:
    """Whether all results equal the compiler's own."""
    keys = jax.random.split(jax.random.key(0), 2)
    x, kernel = (
        jax.random.normal(key, shape) for key, shape in zip(keys, [(2, 12, 9, 16), (3, 3, 16, 32)], strict=True)
    )
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    try:
        pairs = jax.block_until_ready(jax.jit(compute)(x.astype(dtype), kernel.astype(dtype)))
    except (RuntimeError, AttributeError, NotImplementedError, ValueError):
        return False
    for found, expected in pairs:
        if found.shape != expected.shape:
            return False
        found, expected = found.astype(jnp.float32), expected.astype(jnp.float32)
        if not jnp.max(jnp.abs(found - expected)) <= tolerance * jnp.max(jnp.abs(expected)):
            return False
    return True
