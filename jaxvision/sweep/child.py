"""The process of one trial: `python -m jaxvision`, which stops when the process that started it is gone.

A sweep that is killed takes its trials with it: they get a SIGTERM, as from a user, and save what it takes to go on.
On Linux; elsewhere they train on, and the next sweep waits for them (see `jaxvision.sweep.trial`).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def stop_with_parent(parent: int) -> None:
    """Asks the kernel to send this process SIGTERM when its parent, of this number, ends."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it was gone before the kernel was asked
        raise SystemExit(128 + signal.SIGTERM)


def main() -> int:
    """child.py PARENT train CONFIG ...: the number of the parent, then what follows `jaxvision`."""
    parent, *arguments = sys.argv[1:]
    stop_with_parent(int(parent))
    from jaxvision import cli

    sys.argv = ["jaxvision", *arguments]  # environment.json tells the command
    return cli.main(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
