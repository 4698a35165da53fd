"""Where the guide and the network are evaluated: by OpenVINO on a CPU, by torch on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from ..face.motion import Motion
from .guide import Guide, Reading, template_mask
from .network import Condition, Memory, Network, Prediction
from .recurrence import RESCALING, Past, nothing, recall

__all__ = ["SIZES_PX", "Engine", "Precision", "TorchEngine"]

SIZES_PX = (256, 512)
Precision = Literal["bf16", "f32"]


class Engine(Protocol):
    """Evaluates batches of crops of one size S in SIZES_PX. Pictures are (B, 3, side, side) float32 in
    [-1, 1], channels last, on ``device``; so is what comes back, in memory of its own."""

    @property
    def device(self) -> torch.device: ...

    @property
    def precision(self) -> Precision:
        """In which the network computes; guide and warp always do in f32."""
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
        self, x_t: Tensor, x_in: Tensor, y: Tensor, condition: Condition, memory: Memory | None
    ) -> Prediction:
        """``Network.forward``. memory: with recurrent weights always, else never: features may be empty."""
        ...


class TorchEngine:
    """The modules themselves."""

    def __init__(
        self,
        network: Network,
        guide: Guide,
        device: torch.device,
        precision: Precision,
        *,
        rescaling: int = RESCALING,
    ) -> None:
        self.device, self.precision, self._rescaling = device, precision, rescaling
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._network = network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._guide = guide.to(device)
        self._masks = {size: template_mask(size // 4, device) for size in SIZES_PX}

    @torch.inference_mode()
    def read(self, x_in: Tensor, native: Tensor, coding: Tensor) -> tuple[Reading, Tensor]:
        return self._guide.read_with_energy(x_in, native, coding, self._masks[x_in.shape[-1]])

    @torch.inference_mode()
    def recall(self, pasts: Sequence[tuple[Past, Motion] | None], y: Tensor) -> Memory:
        config, memories = self._network.config, []
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
        self, x_t: Tensor, x_in: Tensor, y: Tensor, condition: Condition, memory: Memory | None
    ) -> Prediction:
        told = None if memory is None else Memory(*(v.to(self._network.dtype) for v in memory))
        predicted = self._network(x_t, x_in, y, condition, told, size=x_in.shape[-1])
        return Prediction(predicted.residual.float(), predicted.features.float())
