"""Image classification and more with JAX and Flax NNX, after chapters 8 and 9 of *Deep Learning with Python*.

```
import jaxvision as jv
run = jv.load_run("digits")            # a named experiment -> Run
result = jv.fit(run)                   # Result: metrics, best step, run folder
model = jv.create_model("convnet-mnist", input_shape=(28, 28, 1), num_classes=10, seed=0)
print(jv.summarize(model, (28, 28, 1)))
```
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING, Any

from jaxvision.ablation import Ablation, Factor
from jaxvision.config import (
    Augment,
    Checkpoint,
    Data,
    EarlyStop,
    Evaluation,
    Group,
    Log,
    Loss,
    Model,
    Optimizer,
    Phase,
    Run,
    Schedule,
)
from jaxvision.errors import (
    ConfigError,
    DataError,
    NonFiniteLossError,
    RunFolderError,
    StoppedError,
    UserError,
)
from jaxvision.experiments import list_ablations, list_experiments, load_ablation, load_run
from jaxvision.serialize import from_json, to_json

if TYPE_CHECKING:
    from jaxvision.models import create_model, model_names, model_options, summarize
    from jaxvision.report.frames import curves, runs
    from jaxvision.train.checkpoint import restore_best
    from jaxvision.train.evaluate import evaluate
    from jaxvision.train.extract import extract
    from jaxvision.train.fit import fit
    from jaxvision.train.fit_many import fit_many
    from jaxvision.train.predict import predict
    from jaxvision.train.predict_masks import predict_masks
    from jaxvision.train.result import Result, read_result
    from jaxvision.types import Batch
    from jaxvision.weights import load_keras_weights

# These need JAX, which takes a second to import: they are imported when first asked for (PEP 562).
_LAZY = {
    "Batch": "jaxvision.types",
    "Result": "jaxvision.train.result",
    "create_model": "jaxvision.models",
    "curves": "jaxvision.report.frames",
    "evaluate": "jaxvision.train.evaluate",
    "extract": "jaxvision.train.extract",
    "fit": "jaxvision.train.fit",
    "fit_many": "jaxvision.train.fit_many",
    "load_keras_weights": "jaxvision.weights",
    "model_names": "jaxvision.models",
    "model_options": "jaxvision.models",
    "predict": "jaxvision.train.predict",
    "predict_masks": "jaxvision.train.predict_masks",
    "read_result": "jaxvision.train.result",
    "restore_best": "jaxvision.train.checkpoint",
    "runs": "jaxvision.report.frames",
    "summarize": "jaxvision.models",
}

__all__ = [
    "Ablation",
    "Augment",
    "Batch",
    "Checkpoint",
    "ConfigError",
    "Data",
    "DataError",
    "EarlyStop",
    "Evaluation",
    "Factor",
    "Group",
    "Log",
    "Loss",
    "Model",
    "NonFiniteLossError",
    "Optimizer",
    "Phase",
    "Result",
    "Run",
    "RunFolderError",
    "Schedule",
    "StoppedError",
    "UserError",
    "create_model",
    "curves",
    "evaluate",
    "extract",
    "fit",
    "fit_many",
    "from_json",
    "list_ablations",
    "list_experiments",
    "load_ablation",
    "load_keras_weights",
    "load_run",
    "model_names",
    "model_options",
    "predict",
    "predict_masks",
    "read_result",
    "restore_best",
    "runs",
    "summarize",
    "to_json",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.metadata.version("jaxvision")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'jaxvision' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
