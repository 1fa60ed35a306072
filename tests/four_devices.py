"""Run by test_devices.py where JAX sees a CPU as four devices. Prints what runs on one and on four came to, as JSON."""

import contextlib
import json
import signal
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from test_resume import DATA, RUN

import jaxvision as jv
from jaxvision.data import open_feed
from jaxvision.data.parts import ArrayPart
from jaxvision.errors import StoppedError, UserError
from jaxvision.mesh import batch_mesh
from jaxvision.train.pace import Pace

FOLDER = Path(sys.argv[1])
SHORT = replace(
    RUN,
    phases=(jv.Phase(epochs=3, optimizer=jv.Optimizer("sgd", learning_rate=0.05, momentum=0.9)),),
    early_stop=jv.EarlyStop(),
    data=replace(RUN.data, batch_size=16, residence="device"),
)  # 60 examples: the last batch of an epoch has 12


def outcome(name: str, run: jv.Run, **options) -> dict:
    return told(name, jv.fit(run, run_dir=FOLDER / name, data=DATA, progress=False, **options))


def told(name: str, result: jv.Result) -> dict:
    lines = [json.loads(line) for line in (FOLDER / name / "metrics.jsonl").read_text().splitlines()]
    best = nnx.state(jv.restore_best(FOLDER / name).model, nnx.Param)
    numbers = [float(abs(leaf).sum()) for leaf in jax.tree.leaves(best)]
    return {"lines": lines, "test": result.test, "weights": numbers}


found = {
    "one": outcome("one", replace(SHORT, devices=1)),
    "four": outcome("four", SHORT),
}
# Six runs, two on each of three devices; then five on four devices, where three places are filled up.
for name, seeds, devices in (("many", range(6), 3), ("filled", range(5), None)):
    several = replace(SHORT, devices=devices)
    results = jv.fit_many(several, seeds, run_dir=FOLDER / name, data=DATA, progress=False)
    found[name] = told(f"{name}/seed-0", results[0])
    found[f"{name} 4"] = told(f"{name}/seed-4", results[4])
found["one 4"] = outcome("one-4", replace(SHORT, devices=1, seed=4))
shards = []
step = Pace.step


def stopping(self, examples, losses, **options):
    shards.append(len(losses.sharding.device_set))
    if len(shards) == 6:
        signal.raise_signal(signal.SIGTERM)
    return step(self, examples, losses, **options)


Pace.step = stopping
with contextlib.suppress(StoppedError):
    outcome("moved", SHORT)
found["devices_before"] = shards[-1]
found["moved"] = outcome("moved", replace(SHORT, devices=1), resume=True)
found["devices_after"] = shards[-1]
for name, run in {
    "batch": replace(SHORT, data=replace(SHORT.data, batch_size=18), accumulate=1),
    "devices": replace(SHORT, devices=5),
}.items():
    try:
        outcome(name, run)
    except UserError as error:
        found[name] = str(error)
part = ArrayPart(*DATA["train"])
for residence in ("device", "stream"):
    feed = open_feed(part, batch_size=16, seed=None, residence=residence, resident_mb=1, mesh=batch_mesh())
    batches = list(feed.batches(0))
    found[residence] = {
        "shares": [[shard.data.shape[0] for shard in batch.inputs.addressable_shards] for batch in batches],
        "labels": [np.asarray(batch.target)[np.asarray(batch.valid)].tolist() for batch in batches],
    }
print(json.dumps(found))
