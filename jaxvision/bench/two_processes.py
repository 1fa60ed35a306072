"""The simulation of `bench scaling` held to what two processes on this machine's CPU measure, a core each.

    python -m jaxvision.bench.two_processes [FILE.json]

Measured: a training step of each process by itself (both at once), an all-reduce over several sizes, and the step of
both together on twice the batch. The first two go into the simulation, the third is what it must say.
"""

import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxvision.bench.cases import Case, fresh_model, pictures
from jaxvision.bench.document import document, write_document
from jaxvision.bench.scaling import Assumptions, Chip, Ring, Workload, all_reduce_seconds, estimate

SIZES = (4, 2**16, 2**20, 2**22, 2**24, 2**26)
"""Bytes that are added up."""
CASES = (
    Case("convnet-mnist", "convnet-mnist", (28, 28, 1), 10, 64),
    Case("dense-mnist, 2 x 2,048", "dense-mnist", (28, 28, 1), 10, 64, options={"features": (2048, 2048)}),
    Case("residual-convnet with BatchNorm", "residual-convnet", (32, 32, 3), 2, 32, options={"batch_norm": True}),
)
"""One that computes, one with many bytes of gradients for little computation, one with BatchNorm."""
TURNS = 16


def main() -> None:
    """Starts both processes and tells what came of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", __spec__.name, "--process", address]
    processes = [subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True) for rank in (0, 1)]
    try:
        told = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    found, other = (json.loads(text.splitlines()[-1]) for text in told)
    ring = fitted_ring(found["all_reduce_seconds"])
    for step, others in zip(found["steps"], other["steps"], strict=True):
        for name in ("alone", "together"):
            # The slower of the two in each turn: what a step that waits for both cannot be faster than.
            step[f"{name}_turns"] = list(map(max, step[name], others[name]))
            step[name] = statistics.median(step[f"{name}_turns"])
        step["predicted"] = predicted(step, ring)
        print(f"{step['case']}: alone {1e3 * step['alone']:.1f} ms, together {1e3 * step['together']:.1f} ms,"
              f" simulated {1e3 * step['predicted']:.1f} ms; {step['all_reduces']} all-reduces, of the gradients by"
              f" themselves {1e3 * step['gradients_alone']:.1f} ms")  # fmt: skip
    print(f"all-reduce: {ring.bandwidth / 1e9:.2f} GB/s, {1e6 * ring.latency:.0f} us a hop")
    for size, seconds in found["all_reduce_seconds"].items():
        simulated = all_reduce_seconds(int(size), 2, (ring,))
        print(f"all-reduce of {int(size):,} bytes: {1e3 * seconds:.2f} ms, simulated {1e3 * simulated:.2f} ms")
    if sys.argv[1:]:
        content = document(
            "two_processes", command=f"python -m {__spec__.name} {sys.argv[1]}", ring=ring._asdict(), **found
        )
        write_document(sys.argv[1], content)


def fitted_ring(seconds: dict[str, float]) -> Ring:
    """The ring of two whose formula gives the times of the smallest size and of the one before the largest, which is
    left to check it by."""
    small, *_, large, _ = sorted(seconds, key=int)
    bandwidth = (int(large) - int(small)) / (seconds[large] - seconds[small])
    return Ring(0, bandwidth, seconds[small] / 2)


def predicted(step: dict[str, Any], ring: Ring) -> float:
    """What the simulation says of a step of both, knowing that of one and the ring."""
    work = Workload(
        step["case"], 0.0, step["parameter_bytes"], step["norms"], 0, 1, 0, 1, step["batch"], 2 * step["batch"]
    )
    chip = Chip("a core", 1.0, (ring,), 1, 1, 1.0, "measured")
    given = Assumptions(step_seconds=step["alone"], overhead=0.0, overlap=0.0, jitter=0.0)
    return estimate(work, chip, 2, given).step


def measure(address: str, rank: int) -> None:
    """One of the two: prints what it measured as JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[rank]})
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, 2, rank, local_device_ids=[0])
    both, own = (Mesh(np.array(devices), ("batch",)) for devices in (jax.devices(), jax.local_devices()))

    add_up = jax.jit(lambda x: x.sum(0), out_shardings=NamedSharding(both, PartitionSpec()))
    seconds = {}
    for size in SIZES:
        part = np.ones((1, size // 4), np.float32)
        whole = jax.make_array_from_process_local_data(NamedSharding(both, PartitionSpec("batch")), part)
        seconds[str(size)] = _median(partial(_done, add_up, [whole]))
    steps = []
    for case in CASES:
        alone, _ = _step(case, own)
        together, reduces = _step(case, both)
        times: dict[str, list[float]] = {"alone": [], "together": []}
        for _ in range(TURNS):
            for name, take in (("alone", alone), ("together", together)):
                add_up(whole).block_until_ready()  # begin at once
                started = time.perf_counter()
                take()
                times[name].append(time.perf_counter() - started)
        arrays = [jax.make_array_from_process_local_data(whole.sharding, np.ones((1, *shape), np.float32))
                  for shape in _shapes(case)]  # fmt: skip
        gradients = _median(partial(_done, add_up, arrays))
        steps.append({"case": case.name, "batch": case.batch_size, "all_reduces": reduces, **_counted(case),
                      "gradients_alone": gradients}
                     | {name: found[2:] for name, found in times.items()})  # fmt: skip
    add_up(jnp.zeros_like(whole)).block_until_ready()
    print(json.dumps({"all_reduce_seconds": seconds, "steps": steps}))


def _done(function: Callable[..., Any], arrays: list[Any]) -> None:
    import jax

    jax.block_until_ready([function(array) for array in arrays])


def _median(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(TURNS):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times[2:])


def _shapes(case: Case) -> list[tuple[int, ...]]:
    import jax
    from flax import nnx

    return [leaf.shape for leaf in jax.tree.leaves(nnx.state(fresh_model(case, case.run("float32")), nnx.Param))]


def _counted(case: Case) -> dict[str, Any]:
    from dataclasses import replace

    from jaxvision.bench.workloads import parameter_bytes_and_norms

    size, norms = parameter_bytes_and_norms(fresh_model(case, replace(case.run("float32"), conv="lax")))
    return {"parameter_bytes": size, "norms": norms}


def _step(case: Case, mesh: Any) -> tuple[Callable[[], None], int]:
    """A training step on the devices of the mesh, case.batch_size pictures on each; how many all-reduces it has."""
    from dataclasses import replace

    import jax
    import numpy as np
    from jax.sharding import NamedSharding, PartitionSpec

    from jaxvision.mesh import on_each
    from jaxvision.train.optimizer import make_optimizer
    from jaxvision.train.state import init_state
    from jaxvision.train.step import make_train_step
    from jaxvision.train.task import make_task
    from jaxvision.types import Batch

    run = replace(case.run("float32"), conv="lax")  # as on several devices
    optimizer, _ = make_optimizer(run.phases[0], 1)
    task = make_task(run, case.num_classes or 0)
    graph, state = init_state(fresh_model(case, run), optimizer, task)
    state = on_each(mesh, state)
    inputs, target = (array[: case.batch_size] for array in pictures(case))
    shared = NamedSharding(mesh, PartitionSpec("batch"))
    batch = Batch(*(jax.make_array_from_process_local_data(shared, array)
                    for array in (inputs, target, np.ones(len(target), np.bool_))))  # fmt: skip
    step = make_train_step(graph, task, optimizer, run, case.num_classes or 0)
    compiled = step.lower(state, batch).compile()  # type: ignore[attr-defined]
    states = [state]

    def take() -> None:
        state, loss = compiled(states.pop(), batch)
        loss.block_until_ready()
        states.append(jax.block_until_ready(state))

    return take, len(re.findall(r"= .* all-reduce(?:-start)?\(", compiled.as_text()))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--process"]:
        measure(sys.argv[2], int(sys.argv[3]))
    else:
        main()
