"""Weights between Keras and our models: files of them read, written, matched by name, and fetched."""

from jaxvision.weights.export import export_keras, export_safetensors
from jaxvision.weights.port import load_keras_weights
from jaxvision.weights.published import PUBLISHED, published_file

__all__ = ["PUBLISHED", "export_keras", "export_safetensors", "load_keras_weights", "published_file"]
