"""The network's memory, as tests want it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from streamsr.model.network import Memory
from streamsr.model.weights import load_weights, save_weights

__all__ = ["loud_weights", "nothing"]


def loud_weights(path: Path) -> Path:
    """The packaged weights with a memory at random, loud enough to be seen in every frame."""
    weights = load_weights()
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in weights.network.named_parameters():
            if "memory" in name or name.endswith("gain.weight"):
                parameter.copy_(0.01 * torch.randn(parameter.shape, generator=g))
            if name.endswith("gain.bias"):
                parameter.fill_(1.0)
    save_weights(path, weights.network, weights.guide, replace(weights.description, recurrent=True))
    return path


def nothing(count: int, size: int, width: int, grid: int, device: torch.device) -> Memory:
    """The memory of ``count`` faces seen for the first time: for the network the same as none."""

    def zeros(channels: int, side: int) -> Tensor:
        empty = torch.zeros(count, channels, side, side, device=device)
        return empty.to(memory_format=torch.channels_last)

    return Memory(zeros(3, size), zeros(width, grid), zeros(3, size // 4), zeros(1, size // 4))
