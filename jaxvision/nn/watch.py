"""Seeing, and changing, what the layers of any model give, without the model knowing of it."""

from collections.abc import Callable, Hashable
from functools import cache, wraps
from typing import Any

from flax import nnx
from jax.extend.core import get_opaque_trace_state

Path = tuple[Any, ...]
Hook = Callable[[Path, Any], Any]
"""`what_the_layer_gives_instead = hook(path, output)`."""

_HOOK = "_watched_by"


def watch(model: nnx.Module, hook: Hook) -> None:
    """From now on each call of a layer of `model`, or of the model itself, gives what `hook(path, output)` makes of it.

    path: of the layer in the model, () for the model itself. A block is called, and its output seen, after its layers.
    A hook that raises an exception ends the forward pass there.

    For a model that was merged for one forward pass (`nnx.merge`) and is thrown away after it: a watched model can be
    called and nothing else.
    """
    for path, module in list(nnx.iter_modules(model)):
        if callable(module):
            # Only this one's class changes: others of its kind, in other threads too, go on as they were.
            object.__setattr__(module, "__class__", _watched(type(module)))
            vars(module)[_HOOK] = (path, hook)


def current_trace() -> Hashable:
    """Which of JAX's transformations is being traced: what a hook is given in another than that around the model, such
    as inside `jax.checkpoint` or a scan, does not come out of it."""
    return get_opaque_trace_state(convention="nnx")


@cache
def _watched(kind: type[nnx.Module]) -> type[nnx.Module]:
    @wraps(kind.__call__)  # type: ignore[operator]
    def call(self: nnx.Module, *args: Any, **kwargs: Any) -> Any:
        path, hook = vars(self)[_HOOK]
        return hook(path, kind.__call__(self, *args, **kwargs))  # type: ignore[operator]

    return type(kind.__name__, (kind,), {"__call__": call})
