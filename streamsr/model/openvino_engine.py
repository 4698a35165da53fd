"""The engine of CPUs: the torch modules, traced once and compiled by OpenVINO.

It fuses what torch runs one operation after another, keeps bfloat16 and int8 convolutions at the
processor's peak, and shares the work among its threads without waiting for one that has lost its core.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError
from ..face.motion import Motion
from ..machine import cpu_flags
from .coding import STATISTICS
from .compiled.cache import EngineCache
from .engine import Precision
from .guide import Guide, Reading, template_mask
from .int8 import rounded
from .network import EMBEDDED, Condition, Memory, Network, Prediction, sampling_phase
from .openvino_graph import Graph, Graphs
from .recurrence import RESCALING, Past
from .remap import Recaller
from .weights import Weights

__all__ = ["OpenVinoEngine", "cpu_precision"]

_VNNI = {"avx512_vnni", "avx_vnni"}  # without either, int8 is no faster


def cpu_precision(core: Any, weights: Weights) -> Precision:
    """The fastest: int8 where the processor has instructions for it and the weights have ranges, else bf16
    where it computes in that, else f32."""
    if weights.ranges and _VNNI & cpu_flags():
        return "int8"
    return _plain_precision(core)


def _plain_precision(core: Any) -> Precision:
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


class OpenVinoEngine:
    """threads: of its own, beside the caller's. precision: by default ``cpu_precision``. A level takes one
    or two seconds to prepare, a tenth of that if ``kept`` has it, and 60 MB of memory; engines of the same
    weights and threads share it, and then wait for each other. kept: what was compiled before, by default
    the user's cache, if there can be one. Raises DeviceError; ModelError for int8 without ranges."""

    device = torch.device("cpu")

    def __init__(
        self,
        weights: Weights,
        threads: int,
        precision: Precision | None = None,
        *,
        rescaling: int = RESCALING,
        kept: EngineCache | None = None,
    ) -> None:
        self._graphs = Graphs(weights, threads, kept)
        core = self._graphs.core
        self.precision: Precision = precision or cpu_precision(core, weights)
        if self.precision == "int8" and not weights.ranges:
            raise ModelError(f"weights {weights.path.name} have no ranges for int8: use bf16 or f32")
        self._plain = _plain_precision(core) if self.precision == "int8" else self.precision
        self._weights, self._config = weights, weights.network.config
        self._recaller = Recaller(self._config.width, self._config.grid, rescaling)
        self._networks: dict[tuple[int, float], Graph] = {}
        self._guides = {
            size: self._graphs.graph(
                "guide",
                size,
                "f32",
                partial(_GuideOf, weights.guide, size),
                [(1, size, size, 3), (1,), (1, STATISTICS)],
                "f32",
            )
            for size in self._config.sizes
        }

    def prepare(self, level: float) -> None:
        if (self._config.sizes[0], level) in self._networks:
            return
        grid, width = self._config.grid, self._config.width
        network = cache(partial(self._weights.at, level))  # made where there is something to compile
        for size in self._config.sizes:
            side = size // 4
            picture, small = (1, size, size, 3), (1, side, side, 3)
            shapes = [picture, picture, small, (1, EMBEDDED), (1, side, side, 8)]
            if self._weights.description.recurrent:
                shapes += [picture, (1, grid, grid, width), small, (1, side, side, 1)]
            module = partial(self._network_of, network, size)
            self._networks[size, level] = self._graphs.graph(
                level, size, self.precision, module, shapes, self._plain
            )

    def _network_of(self, network: Callable[[], Network], size: int) -> nn.Module:
        made = network()
        if self.precision == "int8":
            made = rounded(made, size, self._weights.ranges[size])
        return _NetworkOf(made, size)

    def read(self, x_in: Tensor, native: Tensor, coding: Tensor) -> tuple[Reading, Tensor]:
        run = self._guides[x_in.shape[-1]]
        pictures = _channels_last(x_in)
        rows = [run(*row) for row in zip(pictures.split(1), native.split(1), coding.split(1), strict=True)]
        bands, sigma_y, quantiser, energy = _stacked(rows)
        return Reading(bands, sigma_y, quantiser), energy

    def recall(self, pasts: Sequence[tuple[Past, Motion] | None], y: Tensor) -> Memory:
        """``recurrence.recall`` of each face, and how it moved since; None: a face seen for the first time.

        A past is of one face. Only with recurrent weights.
        """
        return self._recaller.recall(pasts, y)

    def evaluate(
        self, x_t: Tensor, x_in: Tensor, y: Tensor, condition: Condition, memory: Memory | None, level: float
    ) -> Prediction:
        size = x_in.shape[-1]
        self.prepare(level)
        run = self._networks[size, level]
        phase = sampling_phase(condition.camera, (size, size))
        told = condition.embedded().split(1)
        seen = [_channels_last(v).split(1) for v in (x_t, x_in, y)]
        rest = [_channels_last(v).split(1) for v in (phase, *(memory or ()))]
        # face by face: a batch takes no less time here, and would need a graph for every count
        rows = [run(*face) for face in zip(*seen, told, *rest, strict=True)]
        residual, *features = map(_channels_first, _stacked(rows))
        return Prediction(residual, features[0] if features else torch.empty(len(x_in), 0))


class _GuideOf(nn.Module):
    """The guide on pictures with channels last; its reading field by field, then the energy."""

    def __init__(self, guide: Guide, size: int) -> None:
        super().__init__()
        self.guide, self.mask = guide, template_mask(size // 4)

    def forward(self, x_in: Tensor, native: Tensor, coding: Tensor) -> tuple[Tensor, ...]:
        reading, energy = self.guide.read_with_energy(_channels_first(x_in), native, coding, self.mask)
        return (*reading, energy)


class _NetworkOf(nn.Module):
    """``Network.evaluate`` on pictures with channels last."""

    def __init__(self, network: Network, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size
        # without a convolution between the two, OpenVINO would compute all that leads to the features
        # in the precision of an output
        self.same = torch.eye(network.config.width)[:, :, None, None]

    def forward(
        self, x_t: Tensor, x_in: Tensor, y: Tensor, embedded: Tensor, phase: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        x_t, x_in, y, phase = (_channels_first(v) for v in (x_t, x_in, y, phase))
        memory = Memory(*map(_channels_first, past)) if past else None
        predicted = self.network.evaluate(x_t, x_in, y, embedded, phase, memory, size=self.size)
        features = (_channels_last(F.conv2d(predicted.features, self.same)),) if past else ()
        return _channels_last(predicted.residual), *features


def _stacked(rows: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Outputs of one face after another, output by output; of one face: as they are."""
    return list(rows[0]) if len(rows) == 1 else [torch.cat(each) for each in zip(*rows, strict=True)]


def _channels_first(pictures: Tensor) -> Tensor:
    return pictures.permute(0, 3, 1, 2)


def _channels_last(pictures: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C): no copy if they lie so in memory."""
    return pictures.permute(0, 2, 3, 1)
