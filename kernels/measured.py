"""What a micro-benchmark of a kernel measures. Each ``<op>/bench.py`` has ``cases(device)``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Case", "size_bytes"]


@dataclass(frozen=True, slots=True)
class Case:
    """One launch, with all it reads and writes already there.

    launch writes ``outputs``; twin computes the same, in their order, into new tensors. bytes: read and
    written at least, each once; flops: floating-point operations, roughly.
    """

    name: str
    launch: Callable[[], object]
    twin: Callable[[], tuple[Tensor, ...]]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    bytes: int
    flops: int


def size_bytes(*tensors: Tensor) -> int:
    """Of what they hold, not of what lies between."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
