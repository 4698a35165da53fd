"""The motion of one and of many faces, as it is looked for at both sizes of face."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from ..measured import Case, size_bytes
from . import Found, find, reference

__all__ = ["cases"]

_GRID = 128
_FLOPS_READ, _FLOPS_WINDOW, _FLOPS_STEP, _FLOPS_OUT = 6, 500, 24, 60  # of a px


def cases(device: torch.device) -> Iterator[Case]:
    for dtype in (torch.float32, torch.bfloat16):
        for side in (128, 256):
            for count in (1, 32):
                yield _case(device, dtype, side, count)


def _case(device: torch.device, dtype: torch.dtype, side: int, count: int) -> Case:
    g = torch.Generator().manual_seed(side)
    smooth = F.interpolate(torch.randn(count, 3, 16, 16, generator=g), side + 4, mode="bicubic") / 2
    before, now = (
        part.clamp(-1, 1).to(device, dtype, memory_format=torch.channels_last)
        for part in (smooth[..., 2:-2, 2:-2], smooth[..., 1:-3, 4:])
    )
    out = Found(*(torch.empty(count, n, _GRID, _GRID, device=device) for n in (2, 1)))
    searched = sum(2 * warps * level**2 for level, warps in reference.LEVELS)
    flops_px = _FLOPS_WINDOW + _FLOPS_STEP * len(reference.STEPS)
    return Case(
        f"flow {side} px x {count}, {str(dtype).removeprefix('torch.')}",
        lambda: find(before, now, _GRID, out=out),
        lambda: tuple(reference.find(before, now, _GRID)),
        (before, now),
        tuple(out),
        size_bytes(before, now, *out),
        count * (_FLOPS_READ * 2 * side**2 + flops_px * searched + _FLOPS_OUT * _GRID**2),
    )
