"""Convolution and matrix product by oneDNN, where jaxlib's CPU backend carries it.

jaxlib for x86 Linux is built with oneDNN, and its CPU runtime runs the custom calls `__onednn$convolution` and
`__onednn$matmul` (openxla, xla/service/cpu/onednn_config.proto). The compiler itself uses them only behind flags; here
they are called directly. Nobody promises that they stay: `onednn_trial.available("jaxlib", dtype)` says whether they
are there. Without them everything works, more slowly (see `conv_cpu`).
"""

import json
from collections.abc import Sequence

import jax

from jaxvision.nn.window import Window


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
