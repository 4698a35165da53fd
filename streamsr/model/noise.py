"""The noise of the process, fixed in face coordinates: fresh noise in every frame would flicker."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Noise"]

_KEPT = 16


class Noise:
    """For one thread."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: dict[tuple[int, int], Tensor] = {}

    def of(self, size: int, seed: int) -> Tensor:
        """(1, 3, S, S) standard normal, channels last, of this seed: the same on every device."""
        key = (size, seed)
        if key not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            generator = torch.Generator().manual_seed(seed)
            noise = torch.randn(1, 3, size, size, generator=generator).to(self._device)
            self._kept[key] = noise.to(memory_format=torch.channels_last)  # as the pictures are
        return self._kept[key]
