"""Whether several processes were given the same run and see the same data: they would train on without a word."""

import json

import jax

from jaxvision.config import Run
from jaxvision.data import Dataset
from jaxvision.errors import ConfigError, DataError
from jaxvision.processes import gathered, on_writer, process_count
from jaxvision.serialize import fields, to_json


def require_same_run_in_all(run: Run) -> None:
    """Raises ConfigError, in all, where a process was given another run."""
    if process_count() > 1:
        jax.devices()  # started by all at once: later one may wait for another that waits for its devices
    runs = [dict(fields(json.loads(text))) for text in gathered(to_json(run))]

    def compare() -> None:
        for number, other in enumerate(runs):
            both = {name: (runs[0].get(name), other.get(name)) for name in {**runs[0], **other}}
            if different := {name: values for name, values in both.items() if values[0] != values[1]}:
                listed = "; ".join(f"{name} ({ours!r} and {theirs!r})" for name, (ours, theirs) in different.items())
                raise ConfigError(
                    f"run: process {number} was given another run than process 0. Start all with the same command but"
                    f" for --process-id. Received: {listed}"
                )

    on_writer(compare)


def require_same_data_in_all(dataset: Dataset) -> None:
    """Raises DataError, in all, where a process sees other data."""
    found = gathered(dataset.fingerprint)

    def compare() -> None:
        for number, other in enumerate(found):
            if other != found[0]:
                raise DataError(
                    f"data: process {number} sees other data than process 0, by name, size or content. Copy it to all"
                    f" hosts again. Received: fingerprint {other[:12]} where it is {found[0][:12]}"
                )

    on_writer(compare)
