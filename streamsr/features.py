"""Features of an image network, for a distance that follows what people see better than pixels do.

SqueezeNet 1.1, trained on ImageNet: a data folder holds ``peers/squeezenet11_fp16.safetensors``. The
distance has no learned weights: it is a feature distance, and not LPIPS.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .errors import ConfigError

__all__ = ["TAPS", "SqueezeNet", "feature_distance", "load_squeezenet"]

FILE = Path("peers") / "squeezenet11_fp16.safetensors"
TAPS = (64, 128, 256, 384, 512)  # channels: after conv1 and every second fire module; strides 2, 4, 8, 16, 16
_MEAN_BGR = (104.0, 117.0, 123.0)
_FIRES = {2: (64, 16, 64), 3: (128, 16, 64), 4: (128, 32, 128), 5: (256, 32, 128),
          6: (256, 48, 192), 7: (384, 48, 192), 8: (384, 64, 256), 9: (512, 64, 256)}  # fmt: skip


class _Fire(nn.Module):
    def __init__(self, width: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(width, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze1x1(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """Pictures (B, 3, H, W) RGB in [-1, 1], sides at least 32 -> features at TAPS."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        for index, widths in _FIRES.items():
            self.add_module(f"fire{index}", _Fire(*widths))
        self.register_buffer("mean", torch.tensor(_MEAN_BGR).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.conv1(x.flip(1) * 127.5 + 127.5 - self.mean))
        taps = [x]
        for index in _FIRES:
            if index in (2, 4, 6):
                x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
            x = self.get_submodule(f"fire{index}")(x)
            if index % 2:
                taps.append(x)
        return taps


def load_squeezenet(data: Path) -> SqueezeNet:
    """Frozen, from the data folder. Raises ConfigError."""
    path = data / FILE
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    network = SqueezeNet()
    wanted = {name: tensors[name].float() for name in network.state_dict() if name in tensors}
    try:
        network.load_state_dict(wanted)
    except RuntimeError as error:
        raise ConfigError(f"{path} holds no SqueezeNet 1.1") from error
    return network.requires_grad_(False).eval()


def feature_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """(B,): squared distance of features of unit length, mean over places, then over the taps."""
    each = []
    for one, other in zip(a, b, strict=True):
        gap = F.normalize(one.float(), dim=1, eps=1e-6) - F.normalize(other.float(), dim=1, eps=1e-6)
        each.append(gap.square().sum(1).mean((1, 2)))
    return torch.stack(each).mean(0)
