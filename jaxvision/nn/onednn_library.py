"""The oneDNN library of the package onednn-cpu-gomp (extra `onednn`), called from within XLA's programs on a CPU.

Only what jaxlib's own oneDNN lacks goes this way (`onednn_gradients`). The functions are those of oneDNN's C interface,
version 3 (dnnl.h), called by `ctypes`. What is made stays until the process ends: one operation for each shape, and for
each thread that is at work on it; and the memory for operands in another order, which they share.
"""

import contextlib
import ctypes
import functools
import importlib.metadata
import json
import math
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from ctypes import byref, c_int, c_int64, c_size_t, c_void_p
from typing import Any, NamedTuple

import jax

from jaxvision.nn import python_ffi

PACKAGE = "onednn-cpu-gomp"
TYPES = {"float32": 3, "bfloat16": 2, "uint8": 6}
"""dnnl_data_type_t by the name of the dtype."""

# Of dnnl_types.h.
_CPU, _IN_ORDER, _BY_USER, _ANY = 1, 1, 1, 1
_SOURCE, _DESTINATION, _SCRATCHPAD, _QUERY_ARGUMENT = 1, 17, 80, 255
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
    and the result. It is made once for each config and each thread that is at work on it, since it is told of the
    addresses first and then computes.
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


class Call:
    """A primitive of this description (with `attributes()`) on arrays as they lie in memory, in any thread.

    What the primitive wants in another order is brought into that first, and its result back. Made of {number of the
    argument: memory descriptor} in the order of the operands' addresses, and the same for the result.
    """

    def __init__(self, description: c_void_p, operands: Mapping[int, c_void_p], result: tuple[int, c_void_p]):
        self._arrays: list[c_void_p] = []
        self._primitives: list[tuple[c_void_p, Any]] = []
        self._places: list[tuple[c_void_p, int]] = []
        self._scratchpads: list[ctypes.Array] = []
        self._size, self._start = 0, 0
        self._stream = described("dnnl_stream_create", engine(), _IN_ORDER)
        arguments = {}
        for number, ours in operands.items():
            wanted = queried(description, number)
            arguments[number] = array = self._array(ours)
            if not _equal(ours, wanted):
                arguments[number] = self._in_scratch(wanted)
                self._reorder(ours, wanted, {_SOURCE: array, _DESTINATION: arguments[number]})
        number, ours = result
        wanted = queried(description, number)
        array = self._array(ours)
        if _equal(ours, wanted):
            self._append(description, {**arguments, number: array})
        else:
            between = self._in_scratch(wanted)
            self._append(description, {**arguments, number: between})
            self._reorder(wanted, ours, {_SOURCE: between, _DESTINATION: array})

    def __call__(self, *addresses: int) -> None:
        for array, address in zip(self._arrays, addresses, strict=True):
            _place(array, address)
        with _scratch(self._size) as start:
            if start != self._start:
                for each, offset in self._places:
                    _place(each, start + offset)
                self._start = start
            for primitive, arguments in self._primitives:
                # What computes leaves Python's lock, which takes its time to get back where other threads want it.
                status = _loaded().freely.dnnl_primitive_execute(primitive, self._stream, len(arguments), arguments)
                _require("dnnl_primitive_execute", status)
            check("dnnl_stream_wait", self._stream)

    def _array(self, description: c_void_p) -> c_void_p:
        """Memory of an operand or the result."""
        self._arrays.append(_memory(description))
        return self._arrays[-1]

    def _in_scratch(self, description: c_void_p) -> c_void_p:
        """Memory that is ours for as long as the call takes."""
        made = _memory(description)
        self._places.append((made, self._size))
        self._size += math.ceil(_byte_size(description) / _ALIGNMENT) * _ALIGNMENT
        return made

    def _reorder(self, source: c_void_p, target: c_void_p, arguments: Mapping[int, c_void_p]) -> None:
        create = "dnnl_reorder_primitive_desc_create"
        self._append(described(create, source, engine(), target, engine(), attributes()), arguments)

    def _append(self, description: c_void_p, arguments: Mapping[int, c_void_p]) -> None:
        """Makes a primitive the next of those to be executed, with a scratchpad of its own."""
        wanted = queried(description, _SCRATCHPAD)
        scratchpad, pad = ctypes.create_string_buffer(_byte_size(wanted) + _ALIGNMENT), _memory(wanted)
        _place(pad, _aligned(scratchpad))
        arguments = {**arguments, _SCRATCHPAD: pad}
        pairs = (_Argument * len(arguments))(*(_Argument(*pair) for pair in arguments.items()))
        self._primitives.append((described("dnnl_primitive_create", description), pairs))
        self._scratchpads.append(scratchpad)


_idle: list[ctypes.Array] = []


@contextlib.contextmanager
def _scratch(size: int) -> Iterator[int]:
    """The address of so many bytes, with whatever was left in them. There is one such memory for each call that runs at
    the same time, as large as the largest that it has served."""
    try:
        held = _idle.pop()
    except IndexError:
        held = ctypes.create_string_buffer(0)
    if len(held) < size + _ALIGNMENT:
        del held  # before there are both
        held = ctypes.create_string_buffer(size + _ALIGNMENT)
    try:
        yield _aligned(held)
    finally:
        _idle.append(held)


def _aligned(memory: ctypes.Array) -> int:
    """The first address in it that oneDNN likes."""
    return math.ceil(ctypes.addressof(memory) / _ALIGNMENT) * _ALIGNMENT


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


def queried(description: c_void_p, number: int) -> c_void_p:
    """The memory descriptor of a primitive's argument of this number."""
    query = _loaded().briefly.dnnl_primitive_desc_query_md
    query.restype = c_void_p
    return c_void_p(query(description, _QUERY_ARGUMENT, number))


def sizes(numbers: Sequence[int]) -> Any:
    """dnnl_dims_t."""
    return (c_int64 * 12)(*numbers)


def free(dtype: str, shape: Sequence[int]) -> c_void_p:
    """Memory of this shape in the order that a primitive likes."""
    return described("dnnl_memory_desc_create_with_tag", len(shape), sizes(shape), TYPES[dtype], _ANY)


def strided(dtype: str, shape: Sequence[int], strides: Sequence[int]) -> c_void_p:
    """Memory of this shape, and how many numbers lie between neighbours along each axis."""
    return described("dnnl_memory_desc_create_with_strides", len(shape), sizes(shape), TYPES[dtype], sizes(strides))


def as_onednn(size: Sequence[int]) -> tuple[int, int, int, int]:
    """The shape (B, C, H, W) by which oneDNN knows pictures (B, H, W, C)."""
    batch, height, width, channels = size
    return batch, channels, height, width


def pictures(dtype: str, size: Sequence[int]) -> c_void_p:
    """(B, H, W, C) as it lies in memory."""
    _, height, width, channels = size
    return strided(dtype, as_onednn(size), (height * width * channels, 1, width * channels, channels))


def _memory(description: c_void_p) -> c_void_p:
    """Memory at an address that `_place` gives later."""
    return described("dnnl_memory_create", description, engine(), c_void_p(None))


def _place(at: c_void_p, address: int) -> None:
    """Says where a memory begins."""
    check("dnnl_memory_set_data_handle", at, c_void_p(address))


def _byte_size(description: c_void_p) -> int:
    """Of memory of this description."""
    size = _loaded().briefly.dnnl_memory_desc_get_size
    size.restype = c_size_t
    return int(size(description))


def _equal(one: c_void_p, other: c_void_p) -> bool:
    """Whether memory of both descriptions is the same in shape, type and order."""
    return bool(_loaded().briefly.dnnl_memory_desc_equal(one, other))
