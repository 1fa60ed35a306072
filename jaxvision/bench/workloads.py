"""What `bench scaling` puts on chips, counted from the models themselves."""

import math
from dataclasses import dataclass, replace

import jax
from flax import nnx

from jaxvision.bench.cases import Case
from jaxvision.bench.ceiling import flops_per_picture
from jaxvision.bench.scaling import Workload
from jaxvision.errors import ConfigError, nearest
from jaxvision.models import abstract_model
from jaxvision.nn import BatchNorm

IMAGENET = {"examples": 1_281_167, "validation": 50_000, "epochs": 90}
"""Russakovsky et al. 2015; 90 epochs as He et al. 2016."""
LARGEST = 8192
"""ResNet-50 on ImageNet is as good as with small batches up to here, and not beyond (Goyal et al. 2017)."""


@dataclass(frozen=True)
class Plan:
    """A model on pictures of a size, and how it is trained: fields of `Workload`."""

    model: str
    size: int
    classes: int
    examples: int
    validation: int
    epochs: int
    batch_per_chip: int
    largest_batch: int


PLANS = {
    # The book's: batches of 32 of 2,000 pictures, half as many to validate.
    "mini-xception": Plan("mini-xception", 180, 2, 2000, 1000, 100, 32, 32),
    "mini-xception-imagenet": Plan("mini-xception", 180, 1000, **IMAGENET, batch_per_chip=128, largest_batch=LARGEST),
    "resnet50": Plan("resnet50", 224, 1000, **IMAGENET, batch_per_chip=128, largest_batch=LARGEST),
    "vgg16": Plan("vgg16", 224, 1000, **IMAGENET, batch_per_chip=128, largest_batch=LARGEST),
}


def find_plans(names: tuple[str, ...]) -> dict[str, Plan]:
    """The plans of these names; all where none is named. ConfigError: unknown name."""
    for name in names:
        if name not in PLANS:
            raise ConfigError(
                f"bench scaling: there is no such plan.{nearest(name, PLANS)} Plans: {', '.join(PLANS)}. Received:"
                f" {name!r}"
            )
    return {name: PLANS[name] for name in names or PLANS}


def count(name: str, plan: Plan) -> Workload:
    """The plan with its model's operations, bytes of gradients and BatchNorm layers; nothing is computed."""
    shape = (plan.size, plan.size, 3)
    case = Case(name, plan.model, shape, plan.classes, 1)
    size, norms = parameter_bytes_and_norms(abstract_model(plan.model, shape, case.outputs))
    return Workload(
        name,
        flops_per_picture(replace(case, batch_size=8)),
        size,
        norms,
        math.prod(shape),
        plan.examples,
        plan.validation,
        plan.epochs,
        plan.batch_per_chip,
        plan.largest_batch,
    )


def parameter_bytes_and_norms(model: nnx.Module) -> tuple[float, int]:
    """Bytes of all gradients in float32, and the number of BatchNorm layers."""
    params = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return 4.0 * params, sum(isinstance(module, BatchNorm) for _, module in nnx.iter_modules(model))
