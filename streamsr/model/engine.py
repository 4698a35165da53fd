"""Where the guide and the network are evaluated: by OpenVINO on a CPU, by torch on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..errors import DeviceError
from ..face.motion import Motion
from .guide import Reading, template_mask
from .network import Condition, Memory, Network, Prediction
from .recurrence import RESCALING, Past, nothing, recall
from .weights import Weights

__all__ = ["Engine", "Precision", "TorchEngine"]

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

    def recall(self, pasts: Sequence[tuple[Past, Motion] | None], y: Tensor) -> Memory:
        """``recurrence.recall`` of each face, and how it moved since; None: a face seen for the first time.

        A past is of one face. Only with recurrent weights.
        """
        ...

    def evaluate(
        self, x_t: Tensor, x_in: Tensor, y: Tensor, condition: Condition, memory: Memory | None, level: float
    ) -> Prediction:
        """``Network.forward`` of the weights at fidelity ``level``. memory: with recurrent weights always,
        else never: features may be empty."""
        ...


class TorchEngine:
    """The modules themselves, in bf16 or f32. Raises DeviceError for another precision."""

    def __init__(
        self,
        weights: Weights,
        device: torch.device,
        precision: Precision,
        *,
        rescaling: int = RESCALING,
    ) -> None:
        if precision == "int8":
            raise DeviceError(f"precision int8 is for device cpu: on {device.type} use bf16 or f32")
        self.device, self.precision, self._rescaling = device, precision, rescaling
        self._weights, self._config = weights, weights.network.config
        self._networks: dict[float, Network] = {}
        self._guide = weights.guide.to(device)
        self._masks = {size: template_mask(size // 4, device) for size in self._config.sizes}

    def prepare(self, level: float) -> None:
        if level not in self._networks:
            dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
            network = self._weights.at(level).to(self.device, dtype)
            self._networks[level] = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def read(self, x_in: Tensor, native: Tensor, coding: Tensor) -> tuple[Reading, Tensor]:
        return self._guide.read_with_energy(x_in, native, coding, self._masks[x_in.shape[-1]])

    @torch.inference_mode()
    def recall(self, pasts: Sequence[tuple[Past, Motion] | None], y: Tensor) -> Memory:
        config, memories = self._config, []
        for found, seen in zip(pasts, y.split(1), strict=True):
            if found is None:
                size = 4 * seen.shape[-1]
                memories.append(nothing(1, size, config.width, config.grid, self.device))
                continue
            past, motion = found
            flow = torch.from_numpy(motion.flow).to(self.device).permute(2, 0, 1)[None]
            valid = torch.from_numpy(motion.valid).to(self.device)[None, None]
            memories.append(recall(past, seen, flow, valid, self._rescaling))
        return Memory(*(torch.cat(each) for each in zip(*memories, strict=True)))

    @torch.inference_mode()
    def evaluate(
        self, x_t: Tensor, x_in: Tensor, y: Tensor, condition: Condition, memory: Memory | None, level: float
    ) -> Prediction:
        self.prepare(level)
        network = self._networks[level]
        told = None if memory is None else Memory(*(v.to(network.dtype) for v in memory))
        predicted = network(x_t, x_in, y, condition, told, size=x_in.shape[-1])
        return Prediction(predicted.residual.float(), predicted.features.float())
