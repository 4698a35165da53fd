"""Frames on their way to an encoder."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..measured import Case, size_bytes
from . import nv12, reference

__all__ = ["cases"]

_FLOPS = 2 * (8 * 3 / 2 * 22 / 16 + 3 + 2 * 8 / 4)  # a px: filtered across, luma, filtered down


def cases(device: torch.device) -> Iterator[Case]:
    for count, height, width in ((1, 720, 1280), (1, 1080, 1920), (16, 1080, 1920), (1, 2160, 3840)):
        yield _case(device, count, height, width)


def _case(device: torch.device, count: int, height: int, width: int) -> Case:
    rgb = torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, device=device)
    y = torch.empty((count, height, width), dtype=torch.uint8, device=device)
    uv = torch.empty((count, height // 2, width // 2, 2), dtype=torch.uint8, device=device)
    return Case(
        f"nv12 {width}x{height} x {count}",
        lambda: nv12(rgb, out=(y, uv)),
        lambda: reference.nv12(rgb),
        (rgb,),
        (y, uv),
        size_bytes(rgb, y, uv),
        int(count * height * width * _FLOPS),
    )
