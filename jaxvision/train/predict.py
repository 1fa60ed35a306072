"""Classes of pictures by a trained run. Reads them with Pillow: TensorFlow is not needed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx

from jaxvision.data.picture import read_picture
from jaxvision.train.checkpoint import restore_best
from jaxvision.train.metrics import class_probabilities


@dataclass(frozen=True)
class Prediction:
    """A picture's classes with their probabilities, the likeliest first."""

    path: str
    classes: tuple[tuple[str, float], ...]


Path = str | os.PathLike[str]


def predict(run_dir: Path, paths: Path | Sequence[Path]) -> list[Prediction]:
    """Classifies picture files (one or several) with a run's best checkpoint, resized as its training pictures were.

    Raises:
      RunFolderError: nothing trained there. DataError: a file that is not a whole picture.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else paths
    restored = restore_best(run_dir)
    height, width, channels = restored.card.image_shape
    # All files are read before anything is predicted: a bad one is named at once.
    resize = restored.card.run.data.resize
    pictures = [
        read_picture(os.fspath(path), image_size=(height, width), channels=channels, resize=resize) for path in paths
    ]
    graph, state = nnx.split(restored.model)

    @jax.jit
    def probabilities(state: nnx.State, images: jax.Array) -> jax.Array:
        return class_probabilities(nnx.merge(graph, state)(images, train=False))

    predictions = []
    for path, picture in zip(paths, pictures, strict=True):
        values = np.asarray(probabilities(state, picture[None]))[0]
        order = np.argsort(-values, kind="stable")
        classes = tuple((restored.card.class_names[index], float(values[index])) for index in order)
        predictions.append(Prediction(os.fspath(path), classes))
    return predictions
