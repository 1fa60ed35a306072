"""Convolution and matrix product by oneDNN, where jaxlib's CPU backend carries it.

jaxlib for x86 Linux is built with oneDNN, and its CPU runtime runs the custom calls `__onednn$convolution` and
`__onednn$matmul` (openxla, xla/service/cpu/onednn_config.proto). The compiler itself uses them only behind flags; here
they are called directly. As nobody promises that they stay, `available` tries them once for each jaxlib and processor,
in a process of its own since a wrong call ends the process, compares the results with the compiler's own, and remembers
the answer. Without them everything works, more slowly (see `conv_cpu`).
"""

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import jaxlib

from jaxvision.cachedir import cache_folder
from jaxvision.nn.window import Window, compiler_conv

DTYPES = ("float32", "bfloat16")
_TRIAL = 1
"""Goes up with every change to what is tried."""
_TRIAL_SECONDS = 120


def convolution(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """Cross-correlation (B, H, W, C), (kh, kw, C / groups, D) -> (B, H', W', D), in the dtype of both. CPU only.

    Pads must not be negative and no size may be zero: oneDNN ends the process then.
    """
    config = {
        "dims": "4",
        "feature_groups": str(window.groups),
        "input": {"data": {"batch_dim": "0", "feature_dim": "3", "spatial_dims": ["1", "2"]}},
        "kernel": {"filter": {"input_feature_dim": "2", "output_feature_dim": "3", "spatial_dims": ["0", "1"]}},
        "output": {"data": {"batch_dim": "0", "feature_dim": "3", "spatial_dims": ["1", "2"]}},
        "window": {
            "pad_left": _strings(low for low, _ in window.padding),
            "pad_right": _strings(high for _, high in window.padding),
            "strides": _strings(window.strides),
            "window_dilations": _strings(window.dilation),
        },
    }
    shape = (x.shape[0], *window.out_size, kernel.shape[3])
    return _call("__onednn$convolution", {"onednn_conv_config": config}, shape, x, kernel)


def matmul_tn(a: jax.Array, b: jax.Array) -> jax.Array:
    """`a.T @ b`: (K, M), (K, N) -> (M, N). CPU only."""
    config = {"onednn_matmul_config": {"transpose_a": True, "transpose_b": False}}
    return _call("__onednn$matmul", config, (a.shape[1], b.shape[1]), a, b)


def _call(target: str, config: dict, shape: Sequence[int], a: jax.Array, b: jax.Array) -> jax.Array:
    call = jax.ffi.ffi_call(
        target,
        jax.ShapeDtypeStruct(shape, a.dtype),
        custom_call_api_version=2,  # the backend config then reaches XLA as it stands
        legacy_backend_config=json.dumps(config),
    )
    return call(a, b)


def _strings(numbers) -> list[str]:
    return [str(number) for number in numbers]  # 64-bit integers are strings in protobuf's JSON


@functools.cache
def available(dtype: str) -> bool:
    """Whether oneDNN can be called and gives right results for arrays of this dtype. The first time on a machine this
    takes two or three seconds. The environment variable JAXVISION_ONEDNN=0 says no at once."""
    if os.environ.get("JAXVISION_ONEDNN") == "0" or dtype not in DTYPES:
        return False
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        return False
    return _tried().get(dtype, False)


@functools.cache
def _tried() -> dict[str, bool]:
    folder = cache_folder("onednn")
    answer = None if folder is None else folder / f"{_machine()}.json"
    if answer is not None:
        try:
            return dict(json.loads(answer.read_text()))
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
    """What decides whether oneDNN works: the library, and the processor with its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    processor = sorted({line for line in lines if line.startswith(("model name", "flags"))})
    digest = hashlib.sha256(repr(processor).encode()).hexdigest()[:16]
    return f"trial-{_TRIAL}-jaxlib-{jaxlib.__version__}-{digest}"


def _try() -> tuple[dict[str, bool], str | None]:
    """The types that came out right; and why there is no answer that holds for good, if there is none."""
    if not sys.executable or getattr(sys, "frozen", False):  # what would start is the application, not Python
        return {}, None
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
            [sys.executable, "-P", "-W", "ignore", "-c", "from jaxvision.nn import onednn; onednn._trial()"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TRIAL_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {}, str(error)
    said = trial.stdout.split()
    found = {name: True for name in DTYPES if name in said}
    # Ended by a signal after it began, it met what oneDNN cannot do, and that is an answer.
    if "done" in said or ("begun" in said and trial.returncode < 0):
        return found, None
    return {}, (trial.stderr.strip().splitlines() or [f"exit code {trial.returncode}"])[-1]


def _trial() -> None:
    """Says which types come out right, each as soon as it is known: a wrong call would end the process."""
    print("begun", flush=True)
    for name in DTYPES:
        if _is_right(name):
            print(name, flush=True)
    print("done", flush=True)


def _is_right(dtype: str) -> bool:
    """Whether both calls equal the compiler's own results, for each feature of the interface that is used."""
    cases = [
        ((1, 1), ((0, 0), (0, 0)), (1, 1), 1),
        ((2, 1), ((1, 2), (0, 1)), (1, 2), 1),
        ((2, 2), ((1, 1), (1, 1)), (1, 1), 4),
        ((1, 1), ((1, 1), (1, 1)), (1, 1), 16),
    ]

    def both(x: jax.Array, kernel: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        pairs = [
            (matmul_tn(x.reshape(-1, 48), x.reshape(-1, 48)[:, :24]), x.reshape(-1, 48).T @ x.reshape(-1, 48)[:, :24])
        ]
        for strides, padding, dilation, groups in cases:
            taps, window = kernel[:, :, : 16 // groups], Window((12, 9), (3, 3), strides, padding, dilation, groups)
            pairs.append((convolution(x, taps, window), compiler_conv(x, taps, window)))
        return pairs

    keys = jax.random.split(jax.random.key(0), 2)
    x, kernel = (
        jax.random.normal(key, shape) for key, shape in zip(keys, [(2, 12, 9, 16), (3, 3, 16, 32)], strict=True)
    )
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    for found, expected in jax.jit(both)(x.astype(dtype), kernel.astype(dtype)):
        if found.shape != expected.shape:
            return False
        found, expected = found.astype(jnp.float32), expected.astype(jnp.float32)
        if not jnp.max(jnp.abs(found - expected)) <= tolerance * jnp.max(jnp.abs(expected)):
            return False
    return True
