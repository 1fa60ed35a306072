"""Which trials of a sweep are trained in one program."""

from collections.abc import Sequence
from dataclasses import replace

from jaxvision.config import Data, Run
from jaxvision.data import Dataset, open_dataset
from jaxvision.data.feed import stays_resident
from jaxvision.errors import ConfigError
from jaxvision.sweep.prepare import Sweep
from jaxvision.train.checkpoint import ModelCard
from jaxvision.train.task import make_task
from jaxvision.train.vectorize import alike


def groups_together(sweep: Sweep, names: Sequence[str], most: int | None) -> list[list[str]]:
    """The trials, by their folders' names, in groups that one program can train: alike but for seeds, numbers and rates
    of dropout, on pictures that stay on the device. At most `most` in one."""
    groups: list[tuple[ModelCard, list[str]]] = []
    alone: list[list[str]] = []
    datasets: dict[Data, Dataset] = {}
    for name in names:
        run = sweep.wanted[name].run
        if run.data not in datasets:
            datasets[run.data] = open_dataset(replace(run.data, residence="stream", cache="off"))
        dataset = datasets[run.data]
        card = _card(run, dataset)
        own_base = run.cache_features != "off" and run.model.weights is None and run.model.init_from is None
        if own_base or not stays_resident(dataset.train, run.data.residence, run.data.resident_mb):
            alone.append([name])
            continue
        for first, members in groups:
            if _are_alike([first, card]):
                members.append(name)
                break
        else:
            groups.append((card, [name]))
    size = most or len(names)
    return [members[at : at + size] for _, members in groups for at in range(0, len(members), size)] + alone


def _card(run: Run, dataset: Dataset) -> ModelCard:
    outputs = make_task(run, len(dataset.class_names), dataset.class_names).num_outputs
    return ModelCard(run, dataset.class_names, dataset.image_shape, outputs)


def _are_alike(cards: Sequence[ModelCard]) -> bool:
    try:
        alike(cards)
    except ConfigError:
        return False
    return True
