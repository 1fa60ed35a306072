"""What is timed: one table for every framework."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from jaxvision.config import Augment, Data, Model, Option, Run
from jaxvision.errors import ConfigError, nearest

Precision = Literal["float32", "bfloat16"]

DISTINCT_BATCHES = 8
"""Batches made for a case; training goes through them again and again."""


@dataclass(frozen=True)
class Case:
    """Training steps of this model on batches of this shape.

    RMSprop with Keras' numbers on cross-entropy; two classes mean one logit. The same fields go to every peer.
    """

    name: str
    model: str
    """A jaxvision model; each peer writes the same one as its users would."""
    image_shape: tuple[int, int, int]
    """Height, width, channels of the uint8 pictures."""
    num_classes: int
    batch_size: int
    options: dict[str, Option] = field(default_factory=dict)
    """Options of the model."""
    augment: Augment = Augment()
    """What is done to the pictures inside the step."""

    @property
    def outputs(self) -> int:
        """Logits of the model."""
        return 1 if self.num_classes == 2 else self.num_classes

    @property
    def is_random(self) -> bool:
        """Augmentation and dropout draw differently in each framework, so that losses cannot be compared."""
        return self.augment != Augment() or bool(self.options.get("dropout"))

    def run(self, precision: Precision) -> Run:
        """The case as a run, from which jaxvision makes its own training step."""
        data = Data(source="given", batch_size=self.batch_size, shuffle=False, residence="device")
        model = Model(self.model, dict(self.options))
        return Run(name=self.name, data=data, augment=self.augment, model=model, precision=precision)


CASES = {
    case.name: case
    for case in (
        Case("mnist", "convnet-mnist", (28, 28, 1), 10, 64),
        Case("dogs-vs-cats", "convnet-dogs-vs-cats", (180, 180, 3), 2, 32),
        Case(
            "dogs-vs-cats-augmented",
            "convnet-dogs-vs-cats",
            (180, 180, 3),
            2,
            32,
            options={"dropout": 0.5},
            augment=Augment(flip="horizontal", rotation=0.1, zoom=0.2),
        ),
    )
}


def find_cases(names: Sequence[str]) -> tuple[Case, ...]:
    """The cases of these names; all where none is named. ConfigError: unknown name."""
    for name in names:
        if name not in CASES:
            raise ConfigError(
                f"bench: there is no such case.{nearest(name, CASES)} Cases: {', '.join(CASES)}. Received: {name!r}"
            )
    return tuple(CASES[name] for name in names) or tuple(CASES.values())


def pictures(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Seeded random examples: uint8 (N, H, W, C) and int32 (N,), N = DISTINCT_BATCHES * batch_size."""
    rng = np.random.default_rng(0)
    count = DISTINCT_BATCHES * case.batch_size
    inputs = rng.integers(0, 256, (count, *case.image_shape), np.uint8)
    return inputs, rng.integers(0, case.num_classes, count, np.int32)


def initial_weights(case: Case) -> dict[str, np.ndarray]:
    """jaxvision's initial float32 weights by dotted name (base.conv1.kernel), in Keras' layouts.

    Biases are random: zeros would not show one that is lost.
    """
    import jax  # only here: a peer's process reads this module too
    from flax import nnx

    from jaxvision.models import create_model

    with jax.default_device(jax.devices("cpu")[0]):
        options: dict[str, Any] = dict(case.options)
        model = create_model(case.model, case.image_shape, case.outputs, seed=0, **options)
        flat = nnx.to_flat_state(nnx.state(model, nnx.Param))
        weights = {".".join(map(str, path)): np.array(variable[...]) for path, variable in flat}
    rng = np.random.default_rng(1)
    for name, value in weights.items():
        if name.endswith(".bias"):
            weights[name] = rng.normal(0, 0.05, value.shape).astype(np.float32)
    return weights


def as_dict(case: Case) -> dict[str, object]:
    """The case as JSON values, for a peer's process and for the result file."""
    return dataclasses.asdict(case)
