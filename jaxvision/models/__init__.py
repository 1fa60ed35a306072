"""Architectures by name. A new one is a file here and a line in `MODELS`."""

from jaxvision.models.classifier import Classifier
from jaxvision.models.registry import (
    MODELS,
    abstract_model,
    create_model,
    model_names,
    model_option_types,
    model_options,
)
from jaxvision.models.summary import LayerRow, Summary, summarize

__all__ = [
    "MODELS",
    "Classifier",
    "LayerRow",
    "Summary",
    "abstract_model",
    "create_model",
    "model_names",
    "model_option_types",
    "model_options",
    "summarize",
]
