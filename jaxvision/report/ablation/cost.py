"""What arms cost: parameters, operations, time."""

import json
import statistics
from dataclasses import dataclass

import numpy as np

from jaxvision.nn.mode import call_model
from jaxvision.report.ablation.sweep import Arm
from jaxvision.report.ablation.trial import Trial


@dataclass(frozen=True)
class Cost:
    """Of an arm; None where it is not known.

    parameters: of the model. flops: floating-point operations of one prediction. seconds: wall-clock time of a run,
    median of the seeds. images_per_second: in training, median of epochs and seeds.
    """

    parameters: int | None = None
    flops: float | None = None
    seconds: float | None = None
    images_per_second: float | None = None


class Costs:
    """Costs of arms; the operations of a model are counted once."""

    def __init__(self) -> None:
        self._flops: dict[str, float | None] = {}

    def of(self, arm: Arm) -> Cost:
        """The cost of the arm's finished trials."""
        finished = [trial for trial in arm.trials if trial.result]
        if not finished:
            return Cost()
        rates = [rate for trial in finished for rate in trial.rates]
        return Cost(
            parameters=finished[0].result.parameters,  # type: ignore[union-attr]
            flops=self._of_model(finished[0]),
            seconds=statistics.median(trial.result.seconds for trial in finished),  # type: ignore[union-attr]
            images_per_second=statistics.median(rates) if rates else None,
        )

    def _of_model(self, trial: Trial) -> float | None:
        run, result = trial.config, trial.result
        assert run is not None
        assert result is not None
        key = json.dumps([run.model.name, run.model.options, result.image_shape, result.class_names, run.task])
        if key not in self._flops:
            try:
                self._flops[key] = prediction_flops(trial)
            except Exception:  # a model of the user's own may be anything, or be gone; a report needs no such number
                self._flops[key] = None
        return self._flops[key]


def prediction_flops(trial: Trial) -> float:
    """Floating-point operations of one picture's prediction, as XLA counts them before it optimizes, with the
    compiler's own convolutions; a multiplication and an addition are two. Needs no data and computes nothing."""
    import jax
    from flax import nnx

    from jaxvision.models import abstract_model
    from jaxvision.train.task import make_task

    run, result = trial.config, trial.result
    assert run is not None
    assert result is not None
    outputs = make_task(run, len(result.class_names)).num_outputs
    model = abstract_model(run.model.name, result.image_shape, outputs, conv="lax", **run.model.options)
    graph, variables = nnx.split(model)
    pictures = jax.ShapeDtypeStruct((1, *result.image_shape), np.uint8)
    lowered = jax.jit(lambda variables, pictures: call_model(nnx.merge(graph, variables), pictures)).lower(
        variables, pictures
    )
    return float(lowered.cost_analysis()["flops"])  # type: ignore[index]
