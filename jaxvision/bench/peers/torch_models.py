"""The cases' models as PyTorch users write them."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from jaxvision.bench.cases import Case


class Classifier(nn.Module):
    """Names of layers are jaxvision's, so that names of weights are. Raw pixels (B, C, H, W) to logits (B, K) or
    (B, K, H, W).

    Without a head: to the base's features (B, h, w, c).
    """

    def __init__(self, preprocessing: nn.Module, base: nn.Sequential, head: nn.Sequential | None):
        super().__init__()
        self.preprocessing, self.base, self.head = preprocessing, base, head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.base(self.preprocessing(x))
        return x.permute(0, 2, 3, 1) if self.head is None else self.head(x)


class Flatten(nn.Module):
    """Height, width, channel, as the dense weights have it; of a channels_last tensor this is a view."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


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


class Residual(nn.Module):
    """What the layers make of x, plus a 1x1 convolution of it."""

    def __init__(self, layers: dict[str, nn.Module], shortcut: nn.Module):
        super().__init__()
        self.names = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.shortcut = nn.Sequential(OrderedDict(conv=shortcut))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x
        for name in self.names:
            y = getattr(self, name)(y)
        return y + self.shortcut(x)


def residual_convnet(case: Case) -> Classifier:
    """Two 3x3 convolutions and a pool in each block, a 1x1 convolution around them."""
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    channels = case.image_shape[2]
    for number, width in enumerate((32, 64, 128), start=1):
        layers: dict[str, nn.Module] = {}
        for place, ins in enumerate((channels, width), start=1):
            layers[str(place)] = nn.Sequential(OrderedDict(conv=nn.Conv2d(ins, width, 3, padding=1), act=nn.ReLU()))
        strides = 2 if number < 3 else 1
        if strides == 2:
            layers["pool"] = nn.MaxPool2d(2, ceil_mode=True)
        blocks[f"block{number}"] = Residual(layers, nn.Conv2d(channels, width, 1, strides))
        channels = width
    return Classifier(Rescaling(), nn.Sequential(blocks), _average_head(case, channels))


class HalvingMaxPool(nn.Module):
    """Windows of 3, 2 apart, over ceil(H / 2) x ceil(W / 2) places: of an even size the last one hangs over."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(x, 3, 2, (x.shape[2] % 2, x.shape[3] % 2), ceil_mode=True)


def mini_xception(case: Case) -> Classifier:
    """Pre-activation, separable convolutions and a pool in each block, a 1x1 convolution around them."""

    def separable(ins: int, outs: int) -> nn.Sequential:
        depthwise = nn.Conv2d(ins, ins, 3, padding=1, groups=ins, bias=False)
        return nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=nn.Conv2d(ins, outs, 1, bias=False)))

    blocks: OrderedDict[str, nn.Module] = OrderedDict(stem=nn.Conv2d(case.image_shape[2], 32, 5, bias=False))
    channels = 32
    for number, width in enumerate((32, 64, 128, 256, 512), start=1):
        layers: dict[str, nn.Module] = {}
        for place, ins in enumerate((channels, width), start=1):
            norm = nn.BatchNorm2d(ins, eps=1e-3, momentum=0.01)
            layers[str(place)] = nn.Sequential(OrderedDict(bn=norm, act=nn.ReLU(), conv=separable(ins, width)))
        layers["pool"] = HalvingMaxPool()
        blocks[f"block{number}"] = Residual(layers, nn.Conv2d(channels, width, 1, 2, bias=False))
        channels = width
    return Classifier(Rescaling(), nn.Sequential(blocks), _average_head(case, channels))


class UntilLast(nn.Module):
    """All but the last row and column."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :-1, :-1]


def segmenter(case: Case) -> Classifier:
    """Strided convolutions down, transposed ones up, logits of the picture's size."""
    assert case.outputs is not None
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = case.image_shape[2]
    widths = list(enumerate((64, 128, 256), start=1))
    for number, width in widths:
        layers[f"down{number}_pad"] = nn.ZeroPad2d((0, 1, 0, 1))  # as "same" of TensorFlow pads even sizes
        layers[f"down{number}_conv1"] = nn.Conv2d(channels, width, 3, 2)
        layers[f"down{number}_relu1"] = nn.ReLU(inplace=True)
        layers[f"down{number}_conv2"] = nn.Conv2d(width, width, 3, padding=1)
        layers[f"down{number}_relu2"] = nn.ReLU(inplace=True)
        channels = width
    for number, width in reversed(widths):
        layers[f"up{number}_conv1"] = nn.ConvTranspose2d(channels, width, 3, padding=1)
        layers[f"up{number}_relu1"] = nn.ReLU(inplace=True)
        layers[f"up{number}_conv2"] = nn.ConvTranspose2d(width, width, 3, 2)
        layers[f"up{number}_cut"] = UntilLast()
        layers[f"up{number}_relu2"] = nn.ReLU(inplace=True)
        channels = width
    head = nn.Sequential(OrderedDict(logits=nn.Conv2d(channels, case.outputs, 3, padding=1)))
    return Classifier(Rescaling(), nn.Sequential(layers), head)


MODELS: dict[str, Callable[[Case], Classifier]] = {
    "convnet-mnist": partial(convnet, features=(32, 64, 128)),
    "convnet-dogs-vs-cats": partial(convnet, features=(32, 64, 128, 256, 256)),
    "vgg16": vgg16,
    "residual-convnet": residual_convnet,
    "mini-xception": mini_xception,
    "segmenter": segmenter,
}
"""jaxvision's name of a model -> the same model."""


def _average_head(case: Case, features: int) -> nn.Sequential | None:
    """The mean over the picture, dropout, a dense layer."""
    if case.outputs is None:
        return None
    average = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    logits = nn.Linear(features, case.outputs)
    return nn.Sequential(OrderedDict(average=average, dropout=nn.Dropout(case.dropout), logits=logits))


def _head(case: Case, features: int) -> nn.Sequential | None:
    """Flatten, dense layers without activation, dropout, a dense layer."""
    if case.outputs is None:
        return None
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=Flatten())
    for number, units in enumerate(case.hidden, start=1):
        layers[f"hidden{number}"] = nn.Linear(features, units)
        features = units
    layers["dropout"] = nn.Dropout(case.dropout)
    layers["logits"] = nn.Linear(features, case.outputs)
    return nn.Sequential(layers)
