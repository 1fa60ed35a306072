"""PyTorch as a peer: `torch_peer eager` or `torch_peer compile`."""

import math
import sys
from collections import OrderedDict
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from jaxvision.bench.peers.serve import Work, serve
from jaxvision.config import Augment

FEATURES = {"convnet-mnist": (32, 64, 128), "convnet-dogs-vs-cats": (32, 64, 128, 256, 256)}


class ConvNet(nn.Module):
    """jaxvision's ConvNet; names of layers are the same, so that weights are."""

    def __init__(self, image_shape: tuple[int, int, int], outputs: int, features: tuple[int, ...], dropout: float):
        super().__init__()
        height, width, channels = image_shape
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for number, out_channels in enumerate(features, start=1):
            layers[f"conv{number}"] = nn.Conv2d(channels, out_channels, 3)
            layers[f"relu{number}"] = nn.ReLU()
            height, width, channels = height - 2, width - 2, out_channels
            if number < len(features):
                layers[f"pool{number}"] = nn.MaxPool2d(2)
                height, width = height // 2, width // 2
        self.base = nn.Sequential(layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.ModuleDict({"logits": nn.Linear(height * width * channels, outputs)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.base(x / 255)
        # Height, width, channel, as the weights have it; of a channels_last tensor this is a view.
        return self.head["logits"](self.dropout(x.permute(0, 2, 3, 1).flatten(1)))


class Augmentation(nn.Module):
    """Flip, rotation and zoom as one warp, each picture by a matrix of its own."""

    def __init__(self, settings: Augment):
        super().__init__()
        self.settings = settings

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, settings = x.float(), self.settings
        if settings == Augment():
            return x
        uniform = torch.empty(3, len(x), device=x.device).uniform_(-1, 1)
        sign = torch.where(uniform[0] < 0, -1.0, 1.0) if settings.flip == "horizontal" else torch.ones_like(uniform[0])
        angle = 2 * math.pi * settings.rotation * uniform[1]
        zoom = 1 + settings.zoom * uniform[2]
        cos, sin, zero = zoom * torch.cos(angle), zoom * torch.sin(angle), torch.zeros_like(zoom)
        # Pictures are square, so that the normalised coordinates need no aspect.
        matrix = torch.stack([sign * cos, -sign * sin, zero, sin, cos, zero], dim=-1).view(-1, 2, 3)
        grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
        return functional.grid_sample(x, grid, padding_mode="reflection", align_corners=False)


class Torch:
    """Channels last, torch's own RMSprop, and `torch.compile` where asked for."""

    seconds_choosing = 0.0

    def __init__(self, work: Work, mode: str):
        torch.set_num_threads(work.threads)
        torch.manual_seed(0)
        on_gpu = torch.cuda.is_available()
        device = torch.device("cuda" if on_gpu else "cpu")
        if on_gpu:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
        case = work.case
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=work.precision == "bfloat16")
        dropout = float(case.options.get("dropout", 0.0))  # type: ignore[arg-type]
        self.model = cast(Any, ConvNet(case.image_shape, case.outputs, FEATURES[case.model], dropout))
        self.model.to(device, memory_format=torch.channels_last)
        self.augmentation = Augmentation(case.augment)
        self.start = {name: _as_torch(name, array) for name, array in work.weights.items()}
        self.start = {name.replace(".kernel", ".weight"): array for name, array in self.start.items()}
        # NHWC arrays seen as NCHW: channels_last without a copy. All pictures stay on the device.
        self.batches = [
            (torch.from_numpy(x).to(device).permute(0, 3, 1, 2), torch.from_numpy(y).to(device).long())
            for x, y in work.batches
        ]
        compile_mode = "reduce-overhead" if on_gpu else "default"
        if mode == "compile":
            self.model.compile(mode=compile_mode)
            if on_gpu:  # on a CPU the compiled warp took longer than eager's grid_sample
                self.augmentation.compile(mode=compile_mode)
        self.optimizer = torch.optim.RMSprop(self.model.parameters(), 1e-3, alpha=0.9, eps=1e-7, foreach=True)
        self.squares = [torch.zeros_like(p) for p in self.model.parameters()]
        self.restart()

        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.device = torch.cuda.get_device_name() if on_gpu else "cpu"
        compiled = f", torch.compile {compile_mode}" if mode == "compile" else ""
        self.setup = f"channels_last, RMSprop foreach{', TF32' if on_gpu else ''}{compiled}"
        self.versions = {"torch": str(torch.__version__)}

    def loss(self, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        images = self.augmentation(images)
        with self.autocast:
            logits = self.model(images)
        if logits.shape[1] == 1:
            return functional.binary_cross_entropy_with_logits(logits[:, 0].float(), target.float())
        return functional.cross_entropy(logits.float(), target)

    def restart(self) -> None:
        self.model.load_state_dict(self.start)
        self.optimizer.state.clear()
        for square in self.squares:
            square.zero_()

    def checked_step(self, index: int) -> float:
        self.model.zero_grad(set_to_none=True)
        loss = self.loss(*self.batches[index % len(self.batches)])
        loss.backward()
        # Keras adds epsilon inside the square root and torch outside: to compare losses, Keras' form; to be timed,
        # torch's own optimizer.
        with torch.no_grad():
            for parameter, square in zip(self.model.parameters(), self.squares, strict=True):
                gradient = parameter.grad
                square.mul_(0.9).addcmul_(gradient, gradient, value=0.1)
                parameter.addcdiv_(gradient, torch.sqrt(square + 1e-7), value=-1e-3)
        return loss.item()

    def train(self, steps: int) -> None:
        for index in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            self.loss(*self.batches[index % len(self.batches)]).backward()
            self.optimizer.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()


def _as_torch(name: str, array: Any) -> torch.Tensor:
    """Convolutions HWIO -> OIHW, dense kernels (in, out) -> (out, in)."""
    tensor = torch.from_numpy(array)
    if name.endswith(".kernel"):
        return tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.t()
    return tensor


if __name__ == "__main__":
    serve(lambda work: Torch(work, sys.argv[1]))
