"""Keeping a CPU's memory from step to step."""

import ctypes
import functools
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

import jax

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
"""Settings of glibc's mallopt(3)."""
_ENOUGH = 8 * 2**30


@functools.cache
def keep_memory() -> bool:
    """Makes this process keep the memory it frees, where JAX computes on the CPU alone; True where it could.

    XLA takes the buffers of each step from malloc and gives them back after it. glibc returns blocks that large to the
    kernel at once, and the next step pays a page fault for every 4 KB of them: for the dogs-vs-cats convnet 206,000
    faults a step, a quarter of its processor time. The price is that the process stays as large as it has ever been
    (3.0 GB there, 1.4 otherwise).

    To be called before JAX computes anything: threads that have allocated keep their own ways. Only on Linux with glibc
    and 8 GB of memory or more for this process; JAXVISION_KEEP_MEMORY=0 leaves malloc alone.
    """
    if os.environ.get("JAXVISION_KEEP_MEMORY") == "0" or sys.platform != "linux":
        return False
    if not _computes_on_cpu() or _memory() < _ENOUGH:
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):  # musl has no such settings
        return False
    # Large blocks from the heap too, the heap never shrunk, and one heap: those of other threads are too small for
    # large blocks.
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1))
    return all(libc.mallopt(setting, value) == 1 for setting, value in settings)


def _computes_on_cpu() -> bool:
    """Told without starting JAX's backends, whose threads would then have allocated."""
    platforms = jax.config.values["jax_platforms"] or os.environ.get("JAX_PLATFORMS")
    if platforms:
        return platforms == "cpu"
    modules = ("jax_plugins", "libtpu")
    return not importlib.metadata.entry_points(group="jax_plugins") and not any(map(importlib.util.find_spec, modules))


def _memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its control group's limit."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            memory = min(memory, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return memory
