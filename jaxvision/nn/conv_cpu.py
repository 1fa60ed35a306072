"""How a convolution and its two gradients are computed on a CPU: the candidates, and the rule that picks one by shape.

`jaxvision bench conv` times every candidate on the machine at hand and marks the one picked;
experiments/results/bench/conv-cpu.json holds what it found where the rule was made.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxvision.nn import onednn, onednn_gradients, onednn_trial
from jaxvision.nn.window import Window, compiler_conv, compiler_input_gradient, compiler_weight_gradient

_FEW_CHANNELS = 8
"""Below this many input channels, row products are the faster forward pass without oneDNN."""

_ROWS_AT_ONCE = 4
"""Rows of a depthwise gradient that are added up before the sum over pixels."""


@dataclass(frozen=True)
class Candidate:
    """A way to compute: `compute(operand, operand, window)`, for the shapes and types that it `can` do."""

    compute: Callable[..., jax.Array]
    can: Callable[[Window, jnp.dtype, int], bool] = lambda window, dtype, channels: True


def forward(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """(B, H, W, C), (kh, kw, C / groups, D) -> (B, H', W', D)."""
    return FORWARD[pick_forward(window, x.dtype, x.shape[3])].compute(x, kernel, window)


def input_gradient(cotangent: jax.Array, kernel: jax.Array, window: Window, *, is_alone: bool = False) -> jax.Array:
    """(B, H', W', D), (kh, kw, C / groups, D) -> (B, H, W, C). is_alone: as a program of its own."""
    numbers = 0 if is_alone else cotangent.size
    name = pick_input_gradient(window, kernel.dtype, kernel.shape[2] * window.groups, numbers)
    return INPUT_GRADIENT[name].compute(cotangent, kernel, window)


def weight_gradient(x: jax.Array, cotangent: jax.Array, window: Window, *, is_alone: bool = False) -> jax.Array:
    """(B, H, W, C), (B, H', W', D) -> (kh, kw, C / groups, D). is_alone: as a program of its own."""
    name = pick_weight_gradient(window, x.dtype, x.shape[3], 0 if is_alone else cotangent.size)
    return WEIGHT_GRADIENT[name].compute(x, cotangent, window)


def pick_forward(window: Window, dtype: jnp.dtype, channels: int) -> str:
    """The fastest of FORWARD for this shape."""
    if FORWARD["onednn"].can(window, dtype, channels):
        return "onednn"
    if window.groups > 1 or window.kernel == (1, 1):  # one tap needs no patches: a matrix product as it stands
        return "compiler"
    if channels < _FEW_CHANNELS:
        return "rows"
    return "padded" if window.strides == (1, 1) and not window.is_padded else "compiler"


def pick_input_gradient(window: Window, dtype: jnp.dtype, channels: int, numbers: int) -> str:
    """The fastest of INPUT_GRADIENT for this shape and so many numbers in the cotangent."""
    # Without strides or of one tap it is one convolution, which jaxlib's own oneDNN does as fast.
    is_many = (1, 1) not in (window.strides, window.kernel)
    best = ("onednn strided",) if is_many and numbers >= onednn_gradients.LEAST else ()
    for name in (*best, "onednn"):
        if INPUT_GRADIENT[name].can(window, dtype, channels):
            return name
    return "compiler"


def pick_weight_gradient(window: Window, dtype: jnp.dtype, channels: int, numbers: int) -> str:
    """The fastest of WEIGHT_GRADIENT for this shape and so many numbers in the cotangent."""
    best = ("onednn",) if numbers >= onednn_gradients.LEAST else ()
    for name in (*best, "onednn rows", "rows", "sums"):
        if WEIGHT_GRADIENT[name].can(window, dtype, channels):
            return name
    return "compiler"


def _padded_forward(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    # XLA computes a convolution with any padding 3 times as fast as one without (36 against 112 ms for 16 pictures of
    # 89x89x32 to 64 channels), so a column of padding is added and its outputs are cut off again.
    low, high = window.padding[1]
    return compiler_conv(x, kernel, window.replace(padding=(window.padding[0], (low, high + 1))))[:, :, :-1]


def _row_forward(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """kh products (B*H'*W', kw*C) @ (kw*C, D): patches are laid out along the width only."""
    _, kw, channels, features = kernel.shape
    shape = (x.shape[0], *window.out_size, features)
    total = jnp.zeros((shape[0] * shape[1] * shape[2], features), x.dtype)
    for i, row in enumerate(_rows(x, window)):
        total = total + row.reshape(-1, kw * channels) @ kernel[i].reshape(kw * channels, features)
    return total.reshape(shape)


def _rows(x: jax.Array, window: Window) -> list[jax.Array]:
    """For each row of the kernel what it sees: kh arrays (B, H', W', kw*C)."""
    if window.is_padded:
        x = jnp.pad(x, ((0, 0), *window.padding, (0, 0)))
    (height, width), (rows_apart, columns_apart) = window.out_size, window.strides
    taps = [j * window.dilation[1] for j in range(window.kernel[1])]
    shifted = [x[:, :, j : j + (width - 1) * columns_apart + 1 : columns_apart] for j in taps]
    patches = jnp.concatenate(shifted, axis=-1)
    taps = [i * window.dilation[0] for i in range(window.kernel[0])]
    return [patches[:, i : i + (height - 1) * rows_apart + 1 : rows_apart] for i in taps]


def _onednn_input_gradient(cotangent: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """A convolution of the cotangent with the flipped kernel. With a stride s the pixels h with the same h mod s see
    the same kernel rows (every s-th one), so each of the s*s classes of pixels is a convolution of its own."""
    kernel = _swap_features(kernel, window.groups)
    rows, columns = (_phases(window, axis) for axis in (0, 1))
    phases = [[_phase(cotangent, kernel, row, column, window) for column in columns] for row in rows]
    if len(phases) == len(phases[0]) == 1:
        return phases[0][0]
    # (B, H / s, W / s, C) each, to be interleaved.
    joined = jnp.stack([jnp.stack(row, axis=3) for row in phases], axis=2)
    batch, height, rows_apart, width, columns_apart, channels = joined.shape
    joined = joined.reshape(batch, height * rows_apart, width * columns_apart, channels)
    return joined[:, : window.size[0], : window.size[1]]


def _swap_features(kernel: jax.Array, groups: int) -> jax.Array:
    """(kh, kw, C / groups, D) -> (kh, kw, D / groups, C)."""
    kh, kw, channels, features = kernel.shape
    kernel = kernel.reshape(kh, kw, channels, groups, features // groups)
    return kernel.transpose(0, 1, 4, 3, 2).reshape(kh, kw, features // groups, groups * channels)


def _phases(window: Window, axis: int) -> list[tuple[slice, int, int, int]]:
    """Of each class of pixels along an axis: its kernel taps, padding low and high (either may be negative), number.

    Pixel s*q + r gets the sum over taps i = first + s*t of kernel[i] * cotangent[q + shift - t].
    """
    stride, low = window.strides[axis], window.padding[axis][0]
    number = -(-window.size[axis] // stride)
    found = []
    for phase in range(stride):
        first = (phase + low) % stride
        taps = len(range(first, window.kernel[axis], stride))
        shift = (phase + low - first) // stride
        extent = window.dilation[axis] * (taps - 1)
        before = extent - shift
        found.append((slice(first, None, stride), before, number - window.out_size[axis] - before + extent, taps))
    return found


def _phase(cotangent: jax.Array, kernel: jax.Array, row, column, window: Window) -> jax.Array:
    numbers = [-(-size // stride) for size, stride in zip(window.size, window.strides, strict=True)]
    (row_taps, *row_pads, row_count), (column_taps, *column_pads, column_count) = row, column
    pads = (tuple(row_pads), tuple(column_pads))
    cropped = _crop(cotangent, pads)
    # A kernel narrower than the stride, or pads wider than the kernel, leave some pixels without gradient.
    if row_count < 1 or column_count < 1 or 0 in cropped.shape:
        return jnp.zeros((cotangent.shape[0], *numbers, kernel.shape[3]), cotangent.dtype)
    rows_added, columns_added = ((max(low, 0), max(high, 0)) for low, high in pads)
    flipped = kernel[row_taps, column_taps][::-1, ::-1]
    turned = window.replace(
        size=cropped.shape[1:3], kernel=flipped.shape[:2], strides=(1, 1), padding=(rows_added, columns_added)
    )
    return onednn.convolution(cropped, flipped, turned)


def _crop(x: jax.Array, pads) -> jax.Array:
    """Cuts off what a negative padding asks for."""
    (top, bottom), (left, right) = ((max(-low, 0), max(-high, 0)) for low, high in pads)
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def _row_weight_gradient(x: jax.Array, cotangent: jax.Array, window: Window) -> jax.Array:
    return _weight_gradient_by(lambda a, b: a.T @ b, x, cotangent, window)


def _onednn_row_weight_gradient(x: jax.Array, cotangent: jax.Array, window: Window) -> jax.Array:
    return _weight_gradient_by(onednn.matmul_tn, x, cotangent, window)


def _weight_gradient_by(product, x: jax.Array, cotangent: jax.Array, window: Window) -> jax.Array:
    """kh products (B*H'*W', kw*C)^T @ (B*H'*W', D)."""
    channels, features = x.shape[3], cotangent.shape[3]
    cotangent = cotangent.reshape(-1, features)
    rows = [product(row.reshape(-1, window.kernel[1] * channels), cotangent) for row in _rows(x, window)]
    return jnp.stack(rows).reshape(*window.kernel, channels, features)


def _sum_weight_gradient(x: jax.Array, cotangent: jax.Array, window: Window) -> jax.Array:
    """Depthwise: each tap's gradient is a sum over pictures and pixels, without products between channels.

    Every four rows are added up before the sum over pixels, in which XLA waits for each addition before the next: that
    takes 0.7 of the time (99 against 152 ms for 8x176x176x32). It has to be one slice of x, not a slice of a slice.
    """
    multiplier = cotangent.shape[3] // x.shape[3]
    x = jnp.pad(x, ((0, 0), *window.padding, (0, 0)))
    x = jnp.repeat(x, multiplier, axis=3) if multiplier > 1 else x
    (height, width), (rows_apart, columns_apart) = window.out_size, window.strides
    whole = height - height % _ROWS_AT_ONCE

    def products(top: int, left: int, rows: range) -> jax.Array:
        seen = slice(top + rows[0] * rows_apart, top + rows[-1] * rows_apart + 1, rows.step * rows_apart)
        columns = slice(left, left + (width - 1) * columns_apart + 1, columns_apart)
        return x[:, seen, columns] * cotangent[:, rows.start : rows.stop : rows.step]

    def tap(top: int, left: int) -> jax.Array:
        total = jnp.zeros(cotangent.shape[3], cotangent.dtype)
        if whole:
            first, *others = (range(first, whole, _ROWS_AT_ONCE) for first in range(_ROWS_AT_ONCE))
            added = products(top, left, first)
            for rows in others:
                added += products(top, left, rows)
            total += jnp.sum(added, axis=(0, 1, 2))
        if whole < height:
            total += jnp.sum(products(top, left, range(whole, height)), axis=(0, 1, 2))
        return total

    taps = [
        tap(i * window.dilation[0], j * window.dilation[1]) for i, j in itertools.product(*map(range, window.kernel))
    ]
    return jnp.stack(taps).reshape(*window.kernel, 1, -1)


def _onednn_can_convolve(window: Window, dtype: jnp.dtype, channels: int) -> bool:
    # The oneDNN of jaxlib 0.10.2 reads past a picture of one channel where a stride leaves one column of output.
    mistaken = window.strides != (1, 1) and 1 in window.out_size
    return onednn_trial.available("jaxlib", dtype.name) and not mistaken


def _onednn_can_turn_back(window: Window, dtype: jnp.dtype, channels: int) -> bool:
    return onednn_trial.available("jaxlib", dtype.name) and (window.strides == (1, 1) or window.dilation == (1, 1))


def _package_can(window: Window, dtype: jnp.dtype, channels: int) -> bool:
    return onednn_trial.available("package", dtype.name)


def _package_can_weigh(window: Window, dtype: jnp.dtype, channels: int) -> bool:
    # The oneDNN of 2023.2.0 adds up memory that it never wrote where a stride goes past the picture, in bfloat16.
    mistaken = dtype == jnp.bfloat16 and window.size[1] < window.strides[1]
    # On a processor with AVX2 and no AVX-512 (AMD EPYC) it gives a wrong gradient of a single tap with a stride.
    mistaken |= window.kernel == (1, 1) and window.strides != (1, 1)
    return _package_can(window, dtype, channels) and not mistaken


def _undivided(window: Window, dtype: jnp.dtype, channels: int) -> bool:
    return window.groups == 1


FORWARD = {
    "onednn": Candidate(onednn.convolution, _onednn_can_convolve),
    "padded": Candidate(_padded_forward, lambda window, dtype, channels: window.strides[1] == 1),
    "rows": Candidate(_row_forward, _undivided),
    "compiler": Candidate(compiler_conv),
}
INPUT_GRADIENT = {
    "onednn strided": Candidate(onednn_gradients.input_gradient, _package_can),
    "onednn": Candidate(_onednn_input_gradient, _onednn_can_turn_back),
    "compiler": Candidate(compiler_input_gradient),
}
WEIGHT_GRADIENT = {
    "onednn": Candidate(onednn_gradients.weight_gradient, _package_can_weigh),
    "onednn rows": Candidate(
        _onednn_row_weight_gradient,
        lambda window, dtype, channels: window.groups == 1 and onednn_trial.available("jaxlib", dtype.name),
    ),
    "rows": Candidate(_row_weight_gradient, _undivided),
    "sums": Candidate(_sum_weight_gradient, lambda window, dtype, channels: window.groups == channels),
    "compiler": Candidate(compiler_weight_gradient),
}
