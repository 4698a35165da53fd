"""What is compiled: the network of one fidelity as one graph, for batches of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from ..engine import Precision
from ..network import GUIDE_OUTPUTS, Condition, Memory, Network, NetworkConfig
from ..weights import Weights

__all__ = ["DTYPES", "Compiler", "Part", "PartNetwork", "Run", "example", "inputs_of", "network_of"]

DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}

Run = Callable[..., Sequence[Tensor]]
"""Takes ``inputs_of``; gives the residual and, with a memory, the features, both float32."""


class Part(NamedTuple):
    """size: S. faces: of a batch. level: of fidelity."""

    size: int
    faces: int
    level: float

    def __str__(self) -> str:
        return f"S = {self.size}, batch {self.faces}, fidelity {self.level:g}"


class Compiler(Protocol):
    """name: that of the engine. file: what ``build`` writes is called so."""

    name: str
    file: str

    def versions(self) -> dict[str, str]:
        """Of what it takes part in, by distribution. Raises DeviceError where something is missing."""
        ...

    def build(self, program: ExportedProgram, arguments: Sequence[Tensor], path: Path) -> str:
        """Compile for the device of ``arguments`` and write it. Returns what is to be said of it, or ""."""
        ...

    def load(self, path: Path, device: torch.device) -> Run: ...


class PartNetwork(nn.Module):
    """``Network.forward`` on plain tensors, see ``inputs_of``."""

    def __init__(self, network: Network, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(
        self,
        x_t: Tensor,
        x_in: Tensor,
        y: Tensor,
        t: Tensor,
        t0: Tensor,
        guide: Tensor,
        camera: Tensor,
        level: Tensor,
        *past: Tensor,
    ) -> tuple[Tensor, ...]:
        memory = Memory(*(v.to(self.network.dtype) for v in past)) if past else None
        condition = Condition(t, t0, guide, camera, level)
        predicted = self.network(x_t, x_in, y, condition, memory, size=self.size)
        residual = predicted.residual.float()
        return (residual, predicted.features.float()) if past else (residual,)


def inputs_of(
    x_t: Tensor, x_in: Tensor, y: Tensor, condition: Condition, memory: Memory | None
) -> list[Tensor]:
    """As ``example`` gives them: a compiled network looks at neither strides nor alignment."""
    pictures = [v.contiguous(memory_format=torch.channels_last) for v in (x_t, x_in, y, *(memory or ()))]
    told = [v.clone(memory_format=torch.contiguous_format) for v in condition]  # columns of a table
    return [*pictures[:3], *told, *pictures[3:]]


def example(part: Part, config: NetworkConfig, recurrent: bool, device: torch.device) -> list[Tensor]:
    """Faces that are none, the same every time, of all inputs that a part has."""
    g, small = torch.Generator().manual_seed(0), part.size // 4

    def smooth(channels: int, side: int) -> Tensor:
        coarse = torch.randn(part.faces, channels, 16, 16, generator=g)
        picture = nn.functional.interpolate(coarse, side, mode="bicubic").mul_(0.4).clamp_(-1, 1)
        return picture.to(device)

    x_in = smooth(3, part.size)
    y = nn.functional.avg_pool2d(x_in, 4)
    x_t = 0.9 * x_in + 0.02 * torch.randn(x_in.shape, generator=g).to(device)
    t = torch.linspace(0.1, 0.2, part.faces, device=device)
    camera = torch.tensor([[0.43, 0.01, 0.3], [-0.01, 0.43, 0.2]], device=device).expand(part.faces, 2, 3)
    guide = torch.randn(part.faces, GUIDE_OUTPUTS, generator=g).to(device)
    condition = Condition(t, t, guide, camera, torch.ones_like(t))
    memory = None
    if recurrent:
        fits = smooth(1, small).abs_()
        memory = Memory(x_in.flip(3), smooth(config.width, config.grid), 0.1 * smooth(3, small), fits)
    return inputs_of(x_t, x_in, y, condition, memory)


def network_of(weights: Weights, part: Part, precision: Precision, device: torch.device) -> PartNetwork:
    network = weights.at(part.level).to(device, DTYPES[precision]).eval()
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PartNetwork(network, part.size)
