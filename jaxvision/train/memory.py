"""Keeping a CPU's memory from step to step."""

import ctypes
import functools
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
"""Settings of glibc's mallopt(3)."""


@functools.cache
def keep_memory() -> bool:
    """Makes this process keep the memory it frees; True where it could.

    On a CPU, XLA takes the buffers of each step from malloc and gives them back after it. glibc returns blocks that
    large to the kernel at once, and the next step pays a page fault for every 4 KB of them: for the dogs-vs-cats
    convnet 206,000 faults a step, a quarter of its processor time. The price is that the process stays as large as it
    has ever been (3.0 GB there, 1.4 otherwise). Only Linux with glibc; JAXVISION_KEEP_MEMORY=0 leaves malloc alone.
    """
    if os.environ.get("JAXVISION_KEEP_MEMORY") == "0" or sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):  # musl has no such settings
        return False
    # Large blocks from the heap too, the heap never shrunk, and one heap: those of other threads are too small for
    # large blocks.
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1))
    return all(libc.mallopt(setting, value) == 1 for setting, value in settings)
