"""Where the guide and the network are evaluated: by OpenVINO on a CPU, by torch on a GPU."""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor

from .guide import Reading
from .network import Condition, Memory, Prediction

__all__ = ["Engine", "Precision"]

Precision = Literal["int8", "bf16", "f32"]


class Engine(Protocol):
    """Evaluates batches of crops of one size S, of those of the weights' preset. Pictures are
    (B, 3, side, side) float32 in [-1, 1], channels last, on ``device``; so is what comes back, in memory
    of its own."""

    @property
    def device(self) -> torch.device: ...

    @property
    def precision(self) -> Precision:
        """In which the network computes; guide and warp always do in f32. int8: its heavy layers, see
        model.int8, and the rest in bf16 where the processor has that."""
        ...

    def prepare(self, level: float) -> None:
        """Have the network of this fidelity at hand: the first ``evaluate`` at a level does it otherwise."""
        ...

    def read(self, x_in: Tensor, native: Tensor, coding: Tensor) -> tuple[Reading, Tensor]:
        """``Guide.read_with_energy`` under the template's mask."""
        ...

    def evaluate(
        self, x_t: Tensor, x_in: Tensor, y: Tensor, condition: Condition, memory: Memory | None, level: float
    ) -> Prediction:
        """``Network.forward`` of the weights at fidelity ``level``. memory: with recurrent weights always,
        else never: features may be empty."""
        ...
