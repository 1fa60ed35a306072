"""The oneDNN library of the package onednn-cpu-gomp (extra `onednn`), called from within XLA's programs on a CPU.

Only what jaxlib's own oneDNN lacks goes this way (`onednn_gradients`). The functions are those of oneDNN's C interface,
version 3 (dnnl.h), called by `ctypes`. What is made stays until the process ends: one operation for each shape, and for
each thread that is at work on it.
"""

import ctypes
import functools
import importlib.metadata
import json
import math
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from ctypes import byref, c_int, c_int64, c_size_t, c_void_p
from typing import Any, NamedTuple

import jax

from jaxvision.nn import python_ffi

PACKAGE = "onednn-cpu-gomp"
TYPES = {"float32": 3, "bfloat16": 2, "uint8": 6}
"""dnnl_data_type_t by the name of the dtype."""

# Of dnnl_types.h.
_CPU, _IN_ORDER, _BY_USER = 1, 1, 1
_SCRATCHPAD, _QUERY_SCRATCHPAD = 80, 136
_ALIGNMENT = 64


def version() -> str | None:
    """Of the package; None: it is not installed."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None


class Library(NamedTuple):
    """The library, called with Python's lock, and without it."""

    briefly: ctypes.PyDLL
    freely: ctypes.CDLL


@functools.cache
def load() -> Library | None:
    """The library; None: the package is not installed, has another major version, or cannot be loaded here."""
    files = (importlib.metadata.files(PACKAGE) or []) if version() is not None else []
    path = next((file.locate() for file in files if file.name == "libdnnl.so.3"), None)
    if path is None:
        return None
    # Threads of OpenMP that spin while they wait would take the processor from XLA's. Read when libgomp is loaded, and
    # not for the processes that this one starts.
    chosen = os.environ.get("OMP_WAIT_POLICY")
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return Library(ctypes.PyDLL(os.fspath(path)), ctypes.CDLL(os.fspath(path)))
    except OSError:  # libgomp is missing, say
        return None
    finally:
        if chosen is None:
            del os.environ["OMP_WAIT_POLICY"]


def _loaded() -> Library:
    library = load()
    assert library is not None
    return library


class Operation:
    """A custom call that oneDNN answers: `operation(result, *operands, **config)` within a program.

    make: `make(**config)`, the config as JSON gives it back, returns what is called with the addresses of the operands
    and the result. It is made once for each config and each thread that is at work on it, since it may have memory of
    its own.
    """

    def __init__(self, target: str, make: Callable[..., Callable[..., None]]):
        self._target, self._make = target, make
        self._idle: defaultdict[bytes, list[Callable[..., None]]] = defaultdict(list)
        self._lock, self._is_registered = threading.Lock(), False

    def __call__(self, result: jax.ShapeDtypeStruct, *operands: jax.Array, **config: Any) -> jax.Array:
        with self._lock:
            if not self._is_registered:
                engine()  # before there are threads that might make two
                attributes()
                python_ffi.register(self._target, self._answer)
                self._is_registered = True
        return jax.ffi.ffi_call(self._target, result)(*operands, config=json.dumps(config))

    def _answer(self, operands: Sequence[int], results: Sequence[int], config: bytes) -> None:
        try:
            answer = self._idle[config].pop()
        except IndexError:
            answer = self._make(**json.loads(config))
        answer(*operands, *results)
        self._idle[config].append(answer)


class _Argument(ctypes.Structure):
    _fields_ = [("number", c_int), ("memory", c_void_p)]


class Primitive:
    """A primitive described with `attributes()`, {number of the argument: memory}; call it, in any thread."""

    def __init__(self, description: c_void_p, arguments: Mapping[int, c_void_p]):
        self._primitive = described("dnnl_primitive_create", description)
        scratchpad = queried(description, _QUERY_SCRATCHPAD)
        self._scratchpad = Buffer(byte_size(scratchpad))
        arguments = {**arguments, _SCRATCHPAD: memory(scratchpad, self._scratchpad.address)}
        self._arguments = (_Argument * len(arguments))(*(_Argument(*pair) for pair in arguments.items()))
        self._stream = described("dnnl_stream_create", engine(), _IN_ORDER)

    def __call__(self) -> None:
        # The one call that leaves Python's lock: each takes its time to get it back where other threads want it.
        library = _loaded().freely
        status = library.dnnl_primitive_execute(
            self._primitive, self._stream, len(self._arguments), self._arguments
        ) or library.dnnl_stream_wait(self._stream)
        _require("dnnl_primitive_execute", status)


class Buffer:
    """Memory of so many bytes, as oneDNN likes it to lie."""

    def __init__(self, size: int):
        self._bytes = ctypes.create_string_buffer(size + _ALIGNMENT)
        self.address = math.ceil(ctypes.addressof(self._bytes) / _ALIGNMENT) * _ALIGNMENT


@functools.cache
def attributes() -> c_void_p:
    """Of all primitives: each has its own scratchpad. oneDNN's is that of the thread in which a primitive is made, and
    XLA calls it in others."""
    made = described("dnnl_primitive_attr_create")
    check("dnnl_primitive_attr_set_scratchpad_mode", made, _BY_USER)
    return made


@functools.cache
def engine() -> c_void_p:
    """The processor."""
    made = c_void_p()
    check("dnnl_engine_create", byref(made), _CPU, c_size_t(0))
    return made


def check(function: str, *arguments: Any) -> None:
    """Calls a function of the library that returns a status. Raises RuntimeError: it is not success."""
    _require(function, getattr(_loaded().briefly, function)(*arguments))


def _require(function: str, status: int) -> None:
    if status:
        raise RuntimeError(f"{function} of oneDNN says {status}")


def described(function: str, *arguments: Any) -> c_void_p:
    """What a function of the library makes that writes it to its first argument."""
    made = c_void_p()
    check(function, byref(made), *arguments)
    return made


def queried(description: c_void_p, what: int) -> c_void_p:
    """A memory descriptor that a primitive's description holds; `what` is of dnnl_query_t."""
    query = _loaded().briefly.dnnl_primitive_desc_query_md
    query.restype = c_void_p
    return c_void_p(query(description, what, 0))


def sizes(numbers: Sequence[int]) -> Any:
    """dnnl_dims_t."""
    return (c_int64 * 12)(*numbers)


def strided(dtype: str, shape: Sequence[int], strides: Sequence[int]) -> c_void_p:
    """Memory of this shape, and how many numbers lie between neighbours along each axis."""
    return described("dnnl_memory_desc_create_with_strides", len(shape), sizes(shape), TYPES[dtype], sizes(strides))


def pictures(dtype: str, size: Sequence[int]) -> c_void_p:
    """(B, H, W, C) in memory, which oneDNN calls (B, C, H, W) with strides."""
    batch, height, width, channels = size
    strides = (height * width * channels, 1, width * channels, channels)
    return strided(dtype, (batch, channels, height, width), strides)


def memory(description: c_void_p, address: int | None = None) -> c_void_p:
    """Memory at this address, or at one that `place` gives later."""
    return described("dnnl_memory_create", description, engine(), c_void_p(address))


def place(at: c_void_p, address: int) -> None:
    """Says where a memory begins."""
    check("dnnl_memory_set_data_handle", at, c_void_p(address))


def byte_size(description: c_void_p) -> int:
    """Of memory of this description."""
    size = _loaded().briefly.dnnl_memory_desc_get_size
    size.restype = c_size_t
    return int(size(description))
