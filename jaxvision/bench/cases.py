"""What is timed: one table for every framework."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
from pydantic import TypeAdapter

from jaxvision.config import Augment, Data, Model, Optimizer, Option, Phase, Run
from jaxvision.errors import ConfigError, nearest

Precision = Literal["float32", "bfloat16"]

DISTINCT_BATCHES = 8
"""Batches made for a case; training goes through them again and again."""


@dataclass(frozen=True)
class Case:
    """Training steps of this model on batches of this shape, or inference by its base.

    RMSprop with Keras' other numbers on cross-entropy; two classes mean one logit. The same fields go to every peer.
    """

    name: str
    model: str
    """A jaxvision model; each peer writes the same one as its users would."""
    image_shape: tuple[int, int, int]
    """Height, width, channels of the uint8 pictures."""
    num_classes: int | None
    """None: no head and no training; the base's features of each batch are computed, as float32 in host memory."""
    batch_size: int
    options: dict[str, Option] = field(default_factory=dict)
    """Options of the model."""
    augment: Augment = Augment()
    """What is done to the pictures inside the step."""
    trainable: tuple[str, ...] | None = None
    """What is trained, the rest is frozen, as `Phase.trainable`; None: all."""
    learning_rate: float = 1e-3
    task: Literal["classification", "segmentation"] = "classification"
    """segmentation: a class for each pixel, and as many logits as classes."""

    @property
    def is_inference(self) -> bool:
        """Features are computed; nothing is trained."""
        return self.num_classes is None

    @property
    def measures(self) -> str:
        """What is timed, for headings."""
        return "inference" if self.is_inference else "training step"

    @property
    def outputs(self) -> int | None:
        """Logits of the model, for a picture or a pixel; None: it has no head."""
        return 1 if self.num_classes == 2 and self.task == "classification" else self.num_classes

    @property
    def hidden(self) -> tuple[int, ...]:
        """Units of the head's dense layers before the last."""
        return cast(tuple[int, ...], self.options.get("hidden", ()))

    @property
    def dropout(self) -> float:
        """Share of what the head's last layer sees that is dropped."""
        return cast(float, self.options.get("dropout", 0.0))

    @property
    def is_random(self) -> bool:
        """Augmentation and dropout draw differently in each framework, so that losses cannot be compared."""
        return self.augment != Augment() or self.dropout > 0

    def run(self, precision: Precision) -> Run:
        """The case as a run, from which jaxvision makes its own model and training step."""
        data = Data(source="given", batch_size=self.batch_size, shuffle=False, residence="device")
        model = Model(self.model, dict(self.options))
        phase = Phase(optimizer=Optimizer(learning_rate=self.learning_rate), trainable=self.trainable)
        return Run(
            name=self.name,
            task=self.task,
            data=data,
            augment=self.augment,
            model=model,
            phases=(phase,),
            precision=precision,
        )


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
        Case(
            "vgg16-finetune",
            "vgg16",
            (180, 180, 3),
            2,
            32,
            # The book's dropout between the two is left out: of 256 numbers a picture it costs nothing, and without it
            # the losses prove that all train the same.
            options={"top": "flatten", "hidden": (256,)},
            trainable=("head", "block5_*"),
            learning_rate=1e-5,
        ),
        Case("vgg16-features", "vgg16", (180, 180, 3), None, 32),
        Case("residual-convnet", "residual-convnet", (32, 32, 3), 2, 64),
        # Without the book's dropout of 512 numbers a picture, for the same reason; and slowly, for BatchNorm over the
        # last few pixels makes much of a rounding where RMSprop's first steps are large.
        Case("mini-xception", "mini-xception", (180, 180, 3), 2, 32, options={"dropout": 0.0}, learning_rate=1e-4),
        Case("segmenter", "segmenter", (200, 200, 3), 3, 8, task="segmentation"),
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
    """Seeded random examples: uint8 (N, H, W, C) and int32 (N,), in segmentation uint8 (N, H, W); N is
    DISTINCT_BATCHES * batch_size.

    Without classes all targets are 0.
    """
    rng = np.random.default_rng(0)
    count = DISTINCT_BATCHES * case.batch_size
    inputs = rng.integers(0, 256, (count, *case.image_shape), np.uint8)
    if case.task == "segmentation":
        return inputs, rng.integers(0, case.num_classes or 1, inputs.shape[:3], np.uint8)
    return inputs, rng.integers(0, case.num_classes or 1, count, np.int32)


def fresh_model(case: Case, run: Run) -> Any:
    """jaxvision's model of the case as `run`, a variant of `case.run(...)`, says."""
    import jax.numpy as jnp  # only in functions: a peer's process reads this module too

    from jaxvision.models import create_model

    options: dict[str, Any] = dict(run.model.options)
    dtype = jnp.dtype(run.precision)
    how: dict[str, Any] = {"dtype": dtype, "conv": run.conv, "rematerialize": run.rematerialize}
    return create_model(run.model.name, case.image_shape, case.outputs, run.seed, **how, **options)


def initial_weights(case: Case) -> tuple[dict[str, np.ndarray], frozenset[str]]:
    """jaxvision's initial float32 weights by dotted name (base.conv1.kernel), statistics of BatchNorm included, and the
    names of those that are trained: none in inference.

    Biases, scales and statistics are random: zeros and ones would not show one that is lost.
    """
    import jax
    from flax import nnx

    from jaxvision.train.freeze import select

    run = case.run("float32")
    with jax.default_device(jax.devices("cpu")[0]):
        model = fresh_model(case, run)
        flat = nnx.to_flat_state(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat)))
        weights = {".".join(map(str, path)): np.array(variable[...]) for path, variable in flat}
    rng = np.random.default_rng(1)
    for name, value in weights.items():
        centre = {"bias": 0.0, "mean": 0.0, "scale": 1.0, "var": 1.0}.get(name.rpartition(".")[2])
        if centre is not None:
            weights[name] = (centre + rng.uniform(-0.1, 0.1, value.shape)).astype(np.float32)
    trained = () if case.is_inference else select(model, run.phases[0], where=f"{case.name}.trainable").paths
    return weights, frozenset(".".join(map(str, path)) for path in trained)


def as_dict(case: Case) -> dict[str, object]:
    """The case as JSON values, for a peer's process and for the result file."""
    return dataclasses.asdict(case)


def from_dict(values: Mapping[str, Any]) -> Case:
    """What `as_dict` gave, also after JSON; fields that an older file lacks have their defaults."""
    return TypeAdapter(Case).validate_python(values)
