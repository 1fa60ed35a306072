"""Classes of pictures by a trained run. Reads them with Pillow: TensorFlow is not needed."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from flax import nnx

from jaxvision.data.picture import read_picture
from jaxvision.errors import ConfigError
from jaxvision.nn.mode import call_model
from jaxvision.train.checkpoint import RestoredRun, restore_best
from jaxvision.train.metrics import class_probabilities


@dataclass(frozen=True)
class Prediction:
    """A picture's classes with their probabilities, the likeliest first.

    They sum to 1; not so those of a multi-label run, where each is that of one class being there or not.
    """

    path: str
    classes: tuple[tuple[str, float], ...]


Path = str | os.PathLike[str]


def predict(run_dir: Path, paths: Path | Sequence[Path]) -> list[Prediction]:
    """Classifies picture files (one or several) with a run's best checkpoint, resized as its training pictures were.

    Raises:
      RunFolderError: nothing trained there. DataError: a file that is not a whole picture. ConfigError: the run
        predicts masks, or something else than files is given.
    """
    paths = picture_paths(paths)
    return classes_of(restore_best(run_dir), paths)


def picture_paths(paths: Path | Sequence[Path]) -> Sequence[Path]:
    """One path or several, as several. Raises: ConfigError: something else, such as an array."""
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    if isinstance(several, Sequence) and all(isinstance(path, str | os.PathLike) for path in several):
        return several
    what = f"an array {paths.shape}" if hasattr(paths, "shape") else f"{type(paths).__name__} {paths!r:.60}"
    raise ConfigError(
        "predict: give the paths of image files. For arrays of images (B, H, W, C), raw pixels 0..255, call the model:"
        f" jaxvision.restore_best(RUN).model(images). Received: {what}"
    )


def classes_of(restored: RestoredRun, paths: Sequence[Path]) -> list[Prediction]:
    """As `predict`, with a run that was read already."""
    card = restored.card
    if card.run.task == "segmentation":
        raise ConfigError(
            f"predict: {card.run.name} predicts a class for each pixel; use predict_masks. Received: a run of"
            f" task={card.run.task!r}"
        )
    height, width, channels = card.image_shape
    # All files are read before anything is predicted: a bad one is named at once.
    pictures = [
        read_picture(path, image_size=(height, width), channels=channels, resize=card.run.data.resize) for path in paths
    ]
    graph, state = nnx.split(restored.model)
    activate = jax.nn.sigmoid if card.run.task == "multilabel" else class_probabilities

    @jax.jit
    def probabilities(state: nnx.State, images: jax.Array) -> jax.Array:
        return activate(call_model(nnx.merge(graph, state), images).astype(np.float32))

    predictions = []
    for path, picture in zip(paths, pictures, strict=True):
        values = np.asarray(probabilities(state, picture[None]))[0]
        order = np.argsort(-values, kind="stable")
        classes = tuple((card.class_names[index], float(values[index])) for index in order)
        predictions.append(Prediction(os.fspath(path), classes))
    return predictions
