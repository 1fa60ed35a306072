"""PyTorch as a peer: `torch_peer eager` or `torch_peer compile`."""

import math
import sys
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch._inductor import config as inductor_config
from torch.nn import functional

from jaxvision.bench.peers.serve import Work, serve
from jaxvision.bench.peers.torch_models import MODELS
from jaxvision.config import Augment


class Augmentation(nn.Module):
    """Flip, rotation and zoom as one warp, each picture by a matrix of its own."""

    def __init__(self, settings: Augment):
        super().__init__()
        self.settings = settings

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        settings = self.settings
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
    """Channels last, and `torch.compile` where asked for: what training and inference share."""

    seconds_choosing = 0.0

    def __init__(self, work: Work, mode: str):
        torch.set_num_threads(work.threads)
        torch.manual_seed(0)
        self.on_gpu = torch.cuda.is_available()
        device = torch.device("cuda" if self.on_gpu else "cpu")
        if self.on_gpu:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=work.precision == "bfloat16")
        self.model = cast(Any, MODELS[work.case.model](work.case))
        self.model.to(device, memory_format=torch.channels_last)
        self.start = {_torch_name(name): _as_torch(name, array) for name, array in work.weights.items()}
        self.model.load_state_dict(self.start)
        # NHWC arrays seen as NCHW: channels_last without a copy. All pictures stay on the device.
        self.batches = [
            (torch.from_numpy(x).to(device).permute(0, 3, 1, 2), torch.from_numpy(y).to(device).long())
            for x, y in work.batches
        ]
        self.compile_mode = "reduce-overhead" if self.on_gpu else "default"
        if mode == "compile":
            self.model.compile(mode=self.compile_mode)
        self.device = torch.cuda.get_device_name() if self.on_gpu else "cpu"
        self.parameters = sum(p.numel() for p in self.model.parameters())
        self.setup = f"channels_last{', TF32' if self.on_gpu else ''}"
        self.setup += f", torch.compile {self.compile_mode}" if mode == "compile" else ""
        self.versions = {"torch": str(torch.__version__)}


class Training(Torch):
    """Training steps with torch's own RMSprop; what is frozen requires no gradient."""

    def __init__(self, work: Work, mode: str):
        super().__init__(work, mode)
        self.augmentation = Augmentation(work.case.augment)
        if mode == "compile" and self.on_gpu:  # on a CPU the compiled warp took longer than eager's grid_sample
            self.augmentation.compile(mode=self.compile_mode)
        trained = {_torch_name(name) for name in work.trained}
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in trained)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.learning_rate = work.case.learning_rate
        self.optimizer = torch.optim.RMSprop(self.trained, self.learning_rate, alpha=0.9, eps=1e-7, foreach=True)
        self.squares = [torch.zeros_like(p) for p in self.trained]
        self.parameters = sum(p.numel() for p in self.trained)
        self.setup += ", RMSprop foreach"

    def loss(self, images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        images = self.augmentation(images.float())
        with self.autocast:
            logits = self.model(images)
        # A class for each pixel: logits (B, K, H, W), target (B, H, W).
        if logits.shape[1] == 1:
            return functional.binary_cross_entropy_with_logits(logits[:, 0].float(), target.float())
        return functional.cross_entropy(logits.float(), target)

    def restart(self) -> None:
        self.model.load_state_dict(self.start)
        self.optimizer.state.clear()
        for square in self.squares:
            square.zero_()

    def check(self, index: int) -> np.ndarray:
        self.model.zero_grad(set_to_none=True)
        loss = self.loss(*self.batches[index % len(self.batches)])
        loss.backward()
        # Keras adds epsilon inside the square root and torch outside: to compare losses, Keras' form; to be timed,
        # torch's own optimizer.
        with torch.no_grad():
            for parameter, square in zip(self.trained, self.squares, strict=True):
                gradient = cast(torch.Tensor, parameter.grad)
                square.mul_(0.9).addcmul_(gradient, gradient, value=0.1)
                parameter.addcdiv_(gradient, torch.sqrt(square + 1e-7), value=-self.learning_rate)
        return loss.detach().cpu().numpy()

    def run(self, steps: int) -> None:
        for index in range(steps):
            self.optimizer.zero_grad(set_to_none=True)
            self.loss(*self.batches[index % len(self.batches)]).backward()
            self.optimizer.step()
        if self.on_gpu:
            torch.cuda.synchronize()


class Inference(Torch):
    """Features under `torch.inference_mode`, brought to the host batch by batch."""

    def __init__(self, work: Work, mode: str):
        if mode == "compile":
            # Weights as constants, laid out for the kernels beforehand: what Inductor's guide says for inference.
            inductor_config.freezing = True
        super().__init__(work, mode)
        self.model.eval()
        self.setup += ", inference_mode" + (", freezing" if mode == "compile" else "")

    def check(self, index: int) -> np.ndarray:
        with torch.inference_mode(), self.autocast:
            features = self.model(self.batches[index % len(self.batches)][0].float())
        return features.float().cpu().numpy()

    def restart(self) -> None:
        """Nothing has changed."""

    def run(self, steps: int) -> None:
        for index in range(steps):
            self.check(index)


def _torch_name(name: str) -> str:
    """base.conv1.kernel -> base.conv1.weight, and what torch calls the tensors of a BatchNorm."""
    layer, _, tensor = name.rpartition(".")
    names = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    return f"{layer}.{names.get(tensor, tensor)}"


def _as_torch(name: str, array: Any) -> torch.Tensor:
    """Convolutions HWIO -> OIHW (transposed ones HWOI -> IOHW), dense kernels (in, out) -> (out, in)."""
    tensor = torch.from_numpy(array)
    if name.endswith(".kernel"):
        return tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.t()
    return tensor


def make(work: Work, mode: str) -> Training | Inference:
    """The peer that the case asks for."""
    return Inference(work, mode) if work.case.is_inference else Training(work, mode)


if __name__ == "__main__":
    serve(lambda work: make(work, sys.argv[1]))
