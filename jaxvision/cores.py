"""How many processor cores there are to use."""

import os


def available_cores() -> int:
    """Processor cores this process may use: fewer than the machine has where a batch system or taskset says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
