"""The engine of GPUs: the torch modules themselves, or what a compiler made of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import DeviceError
from .compiled.builds import Builds
from .compiled.part import DTYPES, Part, Run, inputs_of
from .engine import Precision
from .guide import Reading, template_mask
from .network import Condition, Memory, Network, Prediction
from .weights import Weights

__all__ = ["EAGER", "TorchEngine"]

EAGER = "eager"


class TorchEngine:
    """In bf16 or f32. builds: where compiled networks come from, closed with this; until one is there, and
    where there will be none, the modules serve. Raises DeviceError for another precision."""

    def __init__(
        self, weights: Weights, device: torch.device, precision: Precision, builds: Builds | None = None
    ) -> None:
        if precision not in DTYPES:
            raise DeviceError(f"precision {precision} is for device cpu: on {device.type} use bf16 or f32")
        self.device, self.precision = device, precision
        self._weights, self._config = weights, weights.network.config
        self._builds = builds
        self._networks: dict[float, Network] = {}
        self._taken: dict[Part, Run] = {}
        self._serving: dict[Part, str] = {}
        self._guide = weights.guide.to(device)
        self._masks = {size: template_mask(size // 4, device) for size in self._config.sizes}

    def prepare(self, level: float) -> None:
        if level not in self._networks:
            network = self._weights.at(level).to(self.device, DTYPES[self.precision])
            self._networks[level] = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def serving(self) -> str:
        """EAGER, the compiler's name, or both: some parts have their network, others not yet."""
        return " and ".join(sorted(set(self._serving.values()))) or EAGER

    @property
    def warnings(self) -> Sequence[str]:
        return () if self._builds is None else self._builds.warnings

    def take(self, part: Part) -> str:
        """What evaluates batches of it from now on, until this is called again: EAGER, or the name of the
        compiler. Never waits: what is not built yet is asked for."""
        run = None if self._builds is None else self._builds.ask(part)
        if self._builds is None or run is None:
            self._taken.pop(part, None)
            self._serving[part] = EAGER
        else:
            self._taken[part] = run
            self._serving[part] = self._builds.name
        return self._serving[part]

    def refuse(self, part: Part, error: RuntimeError) -> None:
        """What was taken fails: from now on, and for good, the modules serve instead."""
        assert self._builds is not None
        self._builds.refuse(part, error)
        self.take(part)

    def close(self) -> None:
        """No more is built. May be called twice."""
        if self._builds is not None:
            self._builds.close()

    @torch.inference_mode()
    def read(self, x_in: Tensor, native: Tensor, coding: Tensor) -> tuple[Reading, Tensor]:
        return self._guide.read_with_energy(x_in, native, coding, self._masks[x_in.shape[-1]])

    @torch.inference_mode()
    def evaluate(
        self, x_t: Tensor, x_in: Tensor, y: Tensor, condition: Condition, memory: Memory | None, level: float
    ) -> Prediction:
        run = self._taken.get(Part(x_in.shape[-1], len(x_in), level))
        if run is not None:
            residual, *features = run(*inputs_of(x_t, x_in, y, condition, memory))
            return Prediction(residual, features[0] if features else torch.empty(0))
        self.prepare(level)
        network = self._networks[level]
        told = None if memory is None else Memory(*(v.to(network.dtype) for v in memory))
        predicted = network(x_t, x_in, y, condition, told, size=x_in.shape[-1])
        return Prediction(predicted.residual.float(), predicted.features.float())
