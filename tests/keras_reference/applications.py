"""Models of keras.applications with given weights: applications.py INPUT OUTPUT NAME...

For each NAME from NAME/images (raw pixels) and NAME/weights/LAYER/TENSOR: NAME/inference and NAME/training (logits),
NAME/after/LAYER/TENSOR (what is not trained, after the training pass), NAME/layers and NAME/classes (of the layers that
have weights, in Keras' order), NAME/parameters (trainable, not trainable).
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"  # compiles nothing, so it is quicker here than JAX
import keras
import numpy as np
from keras.src.applications import efficientnet

applications = keras.applications


def efficientnet_b0(**options):
    """The graph that published weights are loaded into, which is not the one without; but no weights, and any shape.

    Without dropout and stochastic depth, whose draws are Keras' own.
    """
    efficientnet.file_utils.get_file = lambda *args, **kwargs: None
    efficientnet.Functional.load_weights = lambda *args: None
    efficientnet.imagenet_utils.obtain_input_shape = lambda shape, **kwargs: shape
    options |= {"weights": "imagenet", "weights_name": "b0", "dropout_rate": 0.0, "drop_connect_rate": 0.0}
    return efficientnet.EfficientNet(1.0, 1.0, 224, **options)


MODELS = {
    "vgg16": (applications.VGG16, applications.vgg16),
    "vgg19": (applications.VGG19, applications.vgg19),
    "resnet50": (applications.ResNet50, applications.resnet50),
    "xception": (applications.Xception, applications.xception),
    "mobilenetv2": (applications.MobileNetV2, applications.mobilenet_v2),
    "efficientnetb0": (efficientnet_b0, efficientnet),
    "densenet121": (applications.DenseNet121, applications.densenet),
}


_, given, answer, *names = sys.argv
out = {}
with np.load(given) as data:
    for name in names:
        keras.backend.clear_session()  # automatic names count from the start
        build, module = MODELS[name]
        images = data[f"{name}/images"]
        classes = len(data[f"{name}/weights/predictions/bias"])
        options = {"weights": None, "input_shape": images.shape[1:], "classes": classes, "classifier_activation": None}
        model = build(**options)
        layers = [layer for layer in model.layers if layer.weights]
        for layer in layers:
            layer.set_weights([data[f"{name}/weights/{layer.name}/{variable.name}"] for variable in layer.weights])
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()  # it computes with copies, which loading a file would renew
        images = module.preprocess_input(images.astype("float32"))
        for mode in ("inference", "training"):
            out[f"{name}/{mode}"] = np.asarray(model(images, training=mode == "training"))
        for layer in layers:
            for variable in layer.non_trainable_weights:
                out[f"{name}/after/{layer.name}/{variable.name}"] = np.asarray(variable)
        out[f"{name}/layers"] = [layer.name for layer in layers]
        out[f"{name}/classes"] = [type(layer).__name__ for layer in layers]
        out[f"{name}/parameters"] = [
            sum(int(np.prod(variable.shape)) for variable in variables)
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
np.savez(answer, **out)
