"""Every way to compute a convolution and its gradients, timed on the shapes that convnets have."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax

from jaxvision.bench.cases import Precision
from jaxvision.nn import conv_cpu
from jaxvision.nn.window import Window


@dataclass(frozen=True)
class Shape:
    """A convolution: `batch` pictures of size x size with `channels`, to `features`."""

    where: str
    batch: int
    size: int
    channels: int
    features: int
    kernel: int = 3
    stride: int = 1
    padded: bool = False
    groups: int = 1

    @property
    def window(self) -> Window:
        pads = (0, 0)
        if self.padded:
            total = max((-(-self.size // self.stride) - 1) * self.stride + self.kernel - self.size, 0)
            pads = (total // 2, total - total // 2)
        both = lambda value: (value, value)  # noqa: E731
        return Window(both(self.size), both(self.kernel), both(self.stride), both(pads), (1, 1), self.groups)

    @property
    def flops(self) -> float:
        """Of each of the three: a multiplication and an addition for every tap, channel and output."""
        height, width = self.window.out_size
        return 2.0 * self.batch * height * width * self.kernel**2 * self.channels / self.groups * self.features


SHAPES = (
    Shape("mnist 1", 64, 28, 1, 32),
    Shape("mnist 2", 64, 13, 32, 64),
    Shape("mnist 3", 64, 5, 64, 128),
    Shape("dogs-vs-cats 1", 16, 180, 3, 32),
    Shape("dogs-vs-cats 2", 16, 89, 32, 64),
    Shape("dogs-vs-cats 3", 16, 43, 64, 128),
    Shape("dogs-vs-cats 4", 16, 20, 128, 256),
    Shape("dogs-vs-cats 5", 16, 9, 256, 256),
    Shape("strided", 16, 50, 64, 128, stride=2, padded=True),
    Shape("one tap", 16, 45, 64, 128, kernel=1),
    Shape("depthwise", 16, 45, 64, 64, padded=True, groups=64),
    Shape("vgg16 block2", 4, 90, 128, 128, padded=True),
)


@dataclass(frozen=True)
class Timing:
    """Of one of the three computations: fastest seconds by candidate, and which one is used here."""

    what: str
    seconds: dict[str, float]
    used: str


def time_shape(shape: Shape, precision: Precision, repeats: int) -> list[Timing]:
    """Forward, input gradient and weight gradient, each candidate `repeats` times in turn, the fastest counting.

    Anywhere but on a CPU there is only the compiler's own.
    """
    window = shape.window
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (shape.batch, *window.size, shape.channels)).astype(precision)
    kernel = jax.random.normal(keys[1], (*window.kernel, shape.channels // shape.groups, shape.features))
    kernel = kernel.astype(precision)
    cotangent = jax.random.normal(keys[2], (shape.batch, *window.out_size, shape.features)).astype(precision)
    known = (window, x.dtype, shape.channels)
    cpu = jax.default_backend() == "cpu"

    def timing(what: str, candidates: Mapping[str, conv_cpu.Candidate], picked: str, *operands: jax.Array) -> Timing:
        can = [name for name, candidate in candidates.items() if candidate.can(*known)] if cpu else ["compiler"]
        functions = {name: jax.jit(partial(candidates[name].compute, window=window)) for name in can}
        return Timing(what, _fastest(functions, operands, repeats), picked if cpu else "compiler")

    picks = (conv_cpu.pick_input_gradient, conv_cpu.pick_weight_gradient)
    of_input, of_weights = (pick(*known, cotangent.size) for pick in picks)
    return [
        timing("forward", conv_cpu.FORWARD, conv_cpu.pick_forward(*known), x, kernel),
        timing("input gradient", conv_cpu.INPUT_GRADIENT, of_input, cotangent, kernel),
        timing("weight gradient", conv_cpu.WEIGHT_GRADIENT, of_weights, x, cotangent),
    ]


def _fastest(
    functions: Mapping[str, Callable[..., jax.Array]], operands: Sequence[jax.Array], repeats: int
) -> dict[str, float]:
    seconds = dict.fromkeys(functions, float("inf"))
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function(*operands).block_until_ready()
            if turn:  # the first compiles
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds
