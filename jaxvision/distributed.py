"""Joining several processes, on one host or many, into one that trains a run on all their devices."""

import os
import re
import socket
import threading
import time

import jax
from jax._src import clusters, xla_bridge

from jaxvision.errors import ConfigError, HostGoneError
from jaxvision.watchdog import AGAIN, HEARTBEAT_SECONDS, OnAbort, Watchdog, say

WAIT_SECONDS = 300

_on_abort: OnAbort | None = None


def join(
    address: str = "auto",
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    wait_seconds: float = WAIT_SECONDS,
) -> None:
    """Makes this process one of several that train together. To be called before anything else that uses JAX, in each
    of them; `jaxvision.fit` with the same run in each then trains it on the devices of all.

    Args:
      address: HOST:PORT of process 0, with a port that is free there; or "auto", and JAX finds address, number and
        place of the processes itself (SLURM, Cloud TPU, GKE, Open MPI).
      num_processes, process_id: how many there are, and which this is, from 0; not with "auto".
      wait_seconds: for the others to come. Where they do not, or joining fails in C++, the process ends with code 1: a
        launch script may try again.

    A process that fails later ends the others within seconds; one that is gone ends them within a minute, with exit
    code 1 (see `jaxvision.watchdog`). What a program does beside `fit` that may fail in one of them alone belongs into
    `with jaxvision.watchdog.together():`, so that the others do not wait for it.

    Raises:
      ConfigError: an argument is wrong, no cluster is found, the port is taken, or JAX is in use already.
      HostGoneError: nobody answers there in time.
    """
    global _on_abort
    if address == "auto":
        _require_nothing_else(num_processes, process_id)
        address, num_processes, process_id = _found(wait_seconds)
    host, port = _checked(address, num_processes, process_id)
    if jax.distributed.is_initialized() or xla_bridge.backends_are_initialized():
        raise ConfigError("distributed: join comes once, and before anything else that uses JAX's devices.")
    if process_id == 0:
        _require_free(host, port)
    else:
        _reach(host, port, wait_seconds)
    # Its handler of SIGTERM would swallow the signal; runs have their own, and agree on the step to stop after.
    jax.config.update("jax_enable_preemption_service", False)
    _on_abort = _on_abort or OnAbort()
    _on_abort.message = (
        f"error: distributed: the processes could not be joined at {address}. Give all of them the same address and"
        f" number of processes, and each its own place from 0 to N - 1. Received: num_processes={num_processes},"
        f" process_id={process_id}"
    )
    late = threading.Timer(wait_seconds, _nobody_came, (address, num_processes, wait_seconds))
    late.daemon = True
    late.start()
    try:
        jax.distributed.initialize(
            address,
            num_processes,
            process_id,
            initialization_timeout=int(wait_seconds) + 30,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    finally:
        late.cancel()
    _on_abort.message = f"error: another process of this run is gone (see above). {AGAIN}"
    Watchdog().start()


def _require_nothing_else(num_processes: int | None, process_id: int | None) -> None:
    if num_processes is not None or process_id is not None:
        raise ConfigError(
            "distributed: auto finds number and place of the processes itself; leave them out. Received: 'auto',"
            f" num_processes={num_processes}, process_id={process_id}"
        )


def _found(wait_seconds: float) -> tuple[str, int, int]:
    """What `jax.distributed.initialize` would find itself, and end in a segmentation fault where the port is taken."""
    unset = (None,) * 5
    address, count, place, _ = clusters.ClusterEnv.auto_detect_unset_distributed_params(*unset, int(wait_seconds))
    if address is None or count is None or place is None:
        raise ConfigError(
            "distributed: auto found no cluster (SLURM, Cloud TPU, GKE, Open MPI). Give HOST:PORT of process 0, the"
            " number of processes and the place of this one. Received: 'auto'"
        )
    return address, count, place


def _checked(address: str, num_processes: int | None, process_id: int | None) -> tuple[str, int]:
    """Host and port."""
    received = f"Received: {address!r}, num_processes={num_processes}, process_id={process_id}"
    match = re.fullmatch(r"\[?([^\s/\[\]]+)\]?:(\d{1,5})", address)
    if match is None or not 0 < int(match[2]) < 2**16:
        raise ConfigError(
            f"distributed: must be auto, or HOST:PORT of process 0 with a port from 1 to 65535. {received}"
        )
    if num_processes is None or process_id is None:
        raise ConfigError(f"distributed: with an address, say num_processes and process_id. {received}")
    if num_processes < 1 or not 0 <= process_id < num_processes:
        raise ConfigError(
            f"distributed: process_id must be from 0 to num_processes - 1, another in each process. {received}"
        )
    return match[1], int(match[2])


def _require_free(host: str, port: int) -> None:
    """JAX would end in a segmentation fault."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    with socket.socket(family) as tried:
        if family == socket.AF_INET6:
            tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", port))
            tried.listen()
        except OSError as error:
            raise ConfigError(
                f"distributed: port {port} of this host cannot be had ({error.strerror}): another program, or an"
                f" earlier run, holds it. Give all processes another port (with auto: JAX_COORDINATOR_PORT)."
                f" Received: {host}:{port}"
            ) from error


def _reach(host: str, port: int, wait_seconds: float) -> None:
    """Waits until process 0 listens."""
    until = time.monotonic() + wait_seconds
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise HostGoneError(
                    f"distributed: nobody answers at {host}:{port} after {wait_seconds:g} s"
                    f" ({error.strerror or error}). Is process 0 there, on that host and port, and may this host"
                    f" connect to it? Received: {host}:{port}"
                ) from error
        time.sleep(0.5)


def _nobody_came(address: str, num_processes: int | None, wait_seconds: float) -> None:
    say(
        f"error: distributed: not all processes have come to {address} within {wait_seconds:g} s. Start as many as"
        f" num_processes says, each with its own process_id. Received: num_processes={num_processes}"
    )
    os._exit(1)
