"""The published architectures by name."""

from collections.abc import Callable
from functools import partial

from jaxvision.models.classifier import PublishedClassifier
from jaxvision.models.densenet import DenseNet
from jaxvision.models.efficientnet import EfficientNet
from jaxvision.models.mobilenet import MobileNetV2
from jaxvision.models.resnet import ResNet
from jaxvision.models.vgg import VGG
from jaxvision.models.xception import Xception

ZOO: dict[str, Callable[..., PublishedClassifier]] = {
    "vgg16": VGG,
    "vgg19": partial(VGG, convs=(2, 2, 4, 4, 4)),
    "resnet50": ResNet,
    "xception": Xception,
    "mobilenetv2": MobileNetV2,
    "efficientnetb0": EfficientNet,
    "densenet121": DenseNet,
}
"""Name -> builder, as in `jaxvision.models.MODELS`."""
