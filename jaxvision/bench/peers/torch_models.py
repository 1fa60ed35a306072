"""The cases' models as PyTorch users write them."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from jaxvision.bench.cases import Case


class Classifier(nn.Module):
    """Names of layers are jaxvision's, so that names of weights are. Raw pixels (B, C, H, W) to logits.

    Without a head: to the base's features (B, h, w, c).
    """

    def __init__(self, preprocessing: nn.Module, base: nn.Sequential, head: nn.Sequential | None):
        super().__init__()
        self.preprocessing, self.base, self.head = preprocessing, base, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Height, width, channel, as the dense weights have it; of a channels_last tensor this is a view.
        x = self.base(self.preprocessing(x)).permute(0, 2, 3, 1)
        return x if self.head is None else self.head(x)


class Rescaling(nn.Module):
    """0..255 to 0..1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / 255


class BgrMinusMean(nn.Module):
    """As Keras' VGG16 wants it: blue, green, red, less the mean of ImageNet's pictures."""

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        mean = torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flip(1) - self.mean


def convnet(case: Case, features: tuple[int, ...]) -> Classifier:
    """3x3 convolutions with ReLU, a max-pool of 2 between any two."""
    height, width, channels = case.image_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, out_channels in enumerate(features, start=1):
        layers[f"conv{number}"] = nn.Conv2d(channels, out_channels, 3)
        layers[f"relu{number}"] = nn.ReLU()
        height, width, channels = height - 2, width - 2, out_channels
        if number < len(features):
            layers[f"pool{number}"] = nn.MaxPool2d(2)
            height, width = height // 2, width // 2
    return Classifier(Rescaling(), nn.Sequential(layers), _head(case, height * width * channels))


def vgg16(case: Case) -> Classifier:
    """Five blocks of 3x3 convolutions with ReLU, each ended by a max-pool of 2, as torchvision writes them."""
    height, width, channels = case.image_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block, (convolutions, features) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], start=1):
        for number in range(1, convolutions + 1):
            layers[f"block{block}_conv{number}"] = nn.Conv2d(channels, features, 3, padding=1)
            layers[f"block{block}_relu{number}"] = nn.ReLU(inplace=True)
            channels = features
        layers[f"block{block}_pool"] = nn.MaxPool2d(2)
    return Classifier(BgrMinusMean(), nn.Sequential(layers), _head(case, (height // 32) * (width // 32) * channels))


MODELS: dict[str, Callable[[Case], Classifier]] = {
    "convnet-mnist": partial(convnet, features=(32, 64, 128)),
    "convnet-dogs-vs-cats": partial(convnet, features=(32, 64, 128, 256, 256)),
    "vgg16": vgg16,
}
"""jaxvision's name of a model -> the same model."""


def _head(case: Case, features: int) -> nn.Sequential | None:
    """Flatten, dense layers without activation, dropout, a dense layer."""
    if case.outputs is None:
        return None
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, units in enumerate(case.hidden, start=1):
        layers[f"hidden{number}"] = nn.Linear(features, units)
        features = units
    layers["dropout"] = nn.Dropout(case.dropout)
    layers["logits"] = nn.Linear(features, case.outputs)
    return nn.Sequential(layers)
