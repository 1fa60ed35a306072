"""Custom calls of XLA on a CPU that are answered by Python functions, on the buffers themselves.

`jax.pure_callback` would go through the host's arrays; XLA's foreign function interface hands over addresses, and what
it calls may be any C function, so also one that `ctypes` makes. The structures are those of xla/ffi/api/c_api.h, which
jaxlib ships (`jax.ffi.include_dir()`). A call needs Python's lock, for which it waits up to 5 ms each time where
another thread computes in Python.

Two things are to be heeded. A process must not end with such a program under way, since Python then gives its lock to
nobody: `register` sees to it. And XLA runs programs of few operations in the thread that calls them; in the main thread
an exception of a signal's handler, such as KeyboardInterrupt, may come before the first line of ours, where nobody can
catch it, and what XLA is given then is no answer. So these calls belong into programs that do more, as a training step
does; a transposed convolution that is jitted by itself does not.
"""

import atexit
import ctypes
import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from ctypes import POINTER, Structure, c_char_p, c_int, c_int64, c_size_t, c_void_p

import jax
import numpy

Function = Callable[[Sequence[int], Sequence[int], bytes], None]
"""`function(addresses of the operands, addresses of the results, config)`."""

VERSION = (0, 3)
"""Of the interface whose structures these are; a jaxlib of another one may refuse it."""

_METADATA = 1
"""XLA_FFI_Extension_Metadata: XLA asks for the version instead of a result."""
_INTERNAL = 13


class _Base(Structure):
    _fields_ = [("struct_size", c_size_t), ("extension_start", c_void_p)]


class _Extension(Structure):
    _fields_ = [("struct_size", c_size_t), ("type", c_int), ("next", c_void_p), ("metadata", c_void_p)]


class _Version(_Base):
    _fields_ = [("major", c_int), ("minor", c_int)]


class _Metadata(Structure):
    _fields_ = [("struct_size", c_size_t), ("version", _Version)]


class _ErrorArguments(_Base):
    _fields_ = [("message", c_char_p), ("code", c_int)]


_CreateError = ctypes.CFUNCTYPE(c_void_p, POINTER(_ErrorArguments))


class _Api(_Base):
    _fields_ = [("version", _Version), ("internal", c_void_p), ("create_error", _CreateError)]


class _Buffer(_Base):
    _fields_ = [("dtype", c_int), ("data", c_void_p), ("rank", c_int64), ("dims", POINTER(c_int64))]


class _Buffers(_Base):
    _fields_ = [("size", c_int64), ("types", POINTER(c_int)), ("buffers", POINTER(POINTER(_Buffer)))]

    def addresses(self) -> list[int]:
        return [self.buffers[number].contents.data for number in range(self.size)]


class _Text(Structure):
    _fields_ = [("data", c_void_p), ("size", c_size_t)]


class _Attributes(_Base):
    _fields_ = [
        ("size", c_int64),
        ("types", POINTER(c_int)),
        ("names", POINTER(POINTER(_Text))),
        ("values", POINTER(POINTER(_Text))),
    ]


class _CallFrame(_Base):
    _fields_ = [
        ("api", POINTER(_Api)),
        ("context", c_void_p),
        ("stage", c_int),
        ("operands", _Buffers),
        ("results", _Buffers),
        ("attributes", _Attributes),
    ]


_Handler = ctypes.CFUNCTYPE(c_void_p, POINTER(_CallFrame))
_kept: list[object] = []
"""Handlers and capsules, which XLA refers to until the process ends."""


def register(name: str, function: Function) -> None:
    """Makes `function` answer the custom call of this name on CPUs: `jax.ffi.ffi_call(name, ...)(*arrays, config=text)`
    with any operands and results and a text as the only attribute. It may be called in several threads at once.

    What it raises becomes a `jax.errors.JaxRuntimeError`.
    """

    _finish_at_exit()

    def handle(pointer: "ctypes._Pointer[_CallFrame]") -> int | None:
        frame = pointer.contents
        try:
            if frame.extension_start:
                extension = _Extension.from_address(frame.extension_start)
                if extension.type == _METADATA:
                    version = _Metadata.from_address(extension.metadata).version
                    version.major, version.minor = VERSION
                    return None
            config = frame.attributes.values[0].contents
            function(frame.operands.addresses(), frame.results.addresses(), ctypes.string_at(config.data, config.size))
        except BaseException as error:
            message = f"{name}: {type(error).__name__}: {error}".encode()
            arguments = _ErrorArguments(ctypes.sizeof(_ErrorArguments), None, message, _INTERNAL)
            return frame.api.contents.create_error(ctypes.byref(arguments))
        return None

    handler = _Handler(handle)
    new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, c_void_p, c_char_p, c_void_p)(("PyCapsule_New", ctypes.pythonapi))
    capsule = new_capsule(ctypes.cast(handler, c_void_p), None, None)
    _kept.extend((handler, capsule))
    jax.ffi.register_ffi_target(name, capsule, platform="cpu")


@functools.cache
def _finish_at_exit() -> None:
    atexit.register(_finish)  # after JAX's own hooks, so before them at the end


def _finish() -> None:
    """Waits for programs under way: by their results, and as results may be gone, by a last program. JAX runs those of
    one thread in turn, and one as large as this not at once in the thread that calls it."""
    with suppress(Exception):
        jax.block_until_ready(jax.live_arrays("cpu"))
    with suppress(Exception):
        for device in jax.local_devices(backend="cpu"):
            ones = jax.device_put(numpy.ones((300, 300), numpy.float32), device)
            jax.block_until_ready(jax.jit(lambda x: x @ x)(ones))
