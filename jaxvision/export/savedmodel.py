"""TensorFlow's SavedModel, by jax2tf: what TensorFlow Serving and its like take; it needs TensorFlow alone to run."""

import os
import shutil
from pathlib import Path

import numpy as np

from jaxvision.data.tf_picture import tensorflow
from jaxvision.errors import ConfigError, DataError
from jaxvision.export.program import PLATFORMS, as_function, describe
from jaxvision.train.folder import write_json
from jaxvision.train.ready import ReadyModel


def write_savedmodel(ready: ReadyModel, path: Path) -> None:
    """Writes the folder PATH; its signature serving_default takes images, uint8 (B, H, W, C) of any B.

    ```
    tf.saved_model.load(PATH).signatures["serving_default"](images=images)["probabilities"]
    ```
    PATH/assets.extra/jaxvision.json tells class names, pictures, outputs and versions. Parameters are variables beside
    the program.

    Raises: ConfigError: TensorFlow cannot be imported, or does not write it.
    """
    try:
        tf = tensorflow()
    except DataError as error:
        raise ConfigError("to: savedmodel is written by TensorFlow, which cannot be imported.") from error
    from jax.experimental import jax2tf  # which imports TensorFlow

    function, parameters = as_function(ready)
    converted = jax2tf.convert(
        function,
        polymorphic_shapes=(None, "(batch, ...)"),
        with_gradient=False,
        native_serialization_platforms=PLATFORMS,
    )
    module = tf.Module()
    module.parameters = {
        name: tf.Variable(np.asarray(values), trainable=False, name=name) for name, values in parameters.items()
    }
    spec = tf.TensorSpec((None, *ready.image_shape), tf.uint8, name="images")
    # TensorFlow's rewriting of Python has nothing to find in a converted function.
    serve = tf.function(lambda images: converted(module.parameters, images), input_signature=[spec], autograph=False)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        tf.saved_model.save(module, str(partial), signatures={"serving_default": serve})
        (partial / "assets.extra").mkdir()
        write_json(partial / "assets.extra" / "jaxvision.json", describe(ready, function, parameters))
        partial.rename(path)
    except tf.errors.OpError as error:
        raise ConfigError(f"{path}: cannot be written. Received: {error.message}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
