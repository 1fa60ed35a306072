"""Ray Tune as the engine (extra `sweep`): it only says when, and on which machine, a trial runs.

Run folders stay the truth: what is finished is not given to Ray, and nothing that Ray writes is read. With a cluster,
the sweep's folder and the data must be at the same paths on all its machines.
"""

import contextlib
import importlib.util
import io
import os
import shutil
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxvision.errors import ConfigError
from jaxvision.sweep.trial import POLL_SECONDS, Job, attempt
from jaxvision.train.signals import SIGNALS

STOP = ".stop"
"""A file in the sweep's folder: trials on all machines see it, and stop."""
SCRATCH = ".ray"
"""What Tune writes of its own goes there, and goes when the sweep ends."""


@dataclass(frozen=True)
class Cluster:
    """address: of a running cluster; None: this machine. cpus, gpus, tpus: what each trial takes of one machine; gpus
    None: one where any machine has one."""

    address: str | None = None
    cpus: int = 1
    gpus: int | None = None
    tpus: int = 0


def require_ray() -> None:
    """Raises ConfigError where the extra is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "engine: ray needs the extra `sweep`: pip install 'jaxvision[sweep]'. The engine loop does the same, one"
            " trial after the other. Received: 'ray'"
        )


def run_with_ray(
    jobs: Sequence[Job],
    *,
    folder: Path,
    cluster: Cluster,
    retries: int,
    stop: Callable[[], bool],
    tick: Callable[[], None],
) -> None:
    """Runs trials where the cluster has room, each again up to `retries` times where it crashes or its machine goes.

    Raises: ConfigError: no such cluster, or no machine has what a trial asks for.
    """
    # Ctrl-C is ours: trials are to save first.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    import ray
    from ray import tune

    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    _connect(cluster)
    for number, handler in handlers.items():  # Ray has put its own in their place
        signal.signal(number, handler)
    try:
        resources = _resources(cluster, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        stop_file, scratch = folder.absolute() / STOP, folder.absolute() / SCRATCH
        stop_file.unlink(missing_ok=True)

        def trial(config: dict[str, Any]) -> None:
            _attempt(jobs[config["job"]], stop_file)

        tuner = tune.Tuner(
            tune.with_resources(trial, resources),
            param_space={"job": tune.grid_search(list(range(len(jobs))))},
            tune_config=tune.TuneConfig(reuse_actors=False),
            run_config=tune.RunConfig(
                name=folder.name,
                storage_path=str(scratch),
                failure_config=tune.FailureConfig(max_failures=retries),
                verbose=0,
            ),
        )
        # Tune prints even where it is told not to.
        with _Watch(stop, tick, stop_file), contextlib.redirect_stdout(io.StringIO()):
            tuner.fit()
        shutil.rmtree(scratch, ignore_errors=True)
        stop_file.unlink(missing_ok=True)
    finally:
        ray.shutdown()


def _connect(cluster: Cluster) -> None:
    import ray

    if cluster.address is not None:
        _require_answer(cluster.address)
    # Workers find this package and the user's modules where this process finds them.
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {"PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, paths)))}
    try:
        with warnings.catch_warnings():
            # JAX warns of a fork; Ray forks only to start programs of its own.
            warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
            ray.init(
                address=cluster.address or "local",
                include_dashboard=False if cluster.address is None else None,
                configure_logging=False,
                log_to_driver=False,
                runtime_env={"env_vars": environment},
            )
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"address: no Ray cluster answers there: {error}. Received: {cluster.address!r}") from error


def _require_answer(address: str) -> None:
    """Raises ConfigError where nothing listens: Ray would try for many minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():  # auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ConfigError(f"address: no Ray cluster answers there: {error}. Received: {address!r}") from error


def _resources(cluster: Cluster, machines: Sequence[dict[str, float]]) -> dict[str, float]:
    """What a trial takes, by Ray's names. ConfigError: no machine has it (a cluster may yet grow one, so is asked)."""
    gpus = cluster.gpus
    if gpus is None:
        gpus = int(any(machine.get("GPU", 0) >= 1 for machine in machines))
    wanted = {"CPU": float(cluster.cpus), "GPU": float(gpus), "TPU": float(cluster.tpus)}
    if not any(all(machine.get(name, 0) >= count for name, count in wanted.items()) for machine in machines):
        names = ("CPU", "GPU", "TPU")
        # Each kind once, sorted, since Ray lists machines in any order.
        kinds = sorted({", ".join(f"{machine.get(name, 0):g} {name}" for name in names) for machine in machines})
        asked = ", ".join(f"{count:g} {name}" for name, count in wanted.items() if count)
        raise ConfigError(
            f"no machine of the cluster has what a trial asks for: lower --cpus-per-trial, --gpus-per-trial or"
            f" --tpus-per-trial. Machines have {'; '.join(kinds)}. Received: {asked}"
        )
    return {name: count for name, count in wanted.items() if count}


def _attempt(job: Job, stop_file: Path) -> None:
    """Runs on a worker. A crash is an error here, so that Tune tries again, perhaps on another machine."""
    import ray

    place = f"node {ray.get_runtime_context().get_node_id()} ({ray.util.get_node_ip_address()})"
    if attempt(job, stop=stop_file.exists, where=place) == "crashed":
        raise RuntimeError(next(file.read_text() for file in job.failures if file.exists()))


class _Watch:
    """A thread that shows progress while Tune has this one, and passes on that the sweep is to stop."""

    def __init__(self, stop: Callable[[], bool], tick: Callable[[], None], stop_file: Path):
        self._stop, self._tick, self._stop_file = stop, tick, stop_file
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        told = False
        while not self._done.wait(POLL_SECONDS):
            if self._stop() and not self._stop_file.exists():
                self._stop_file.touch()
            try:
                self._tick()
            except Exception as error:  # trials go on without their table
                if not told:
                    print(f"warning: progress cannot be shown: {error}", file=sys.stderr, flush=True)
                told = True
