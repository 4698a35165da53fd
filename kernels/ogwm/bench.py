"""The memory of one and of many faces moved, at both sizes of face: preset L at 256 px, G at 512."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..measured import Case, size_bytes
from . import recall, reference, warp

__all__ = ["cases"]

_MOTION_PX = 64  # side of the flow's grid
_FLOPS_LOOKUP, _FLOPS_BLEND = 60, 6


def cases(device: torch.device) -> Iterator[Case]:
    for dtype in (torch.float32, torch.bfloat16):
        for size, width, grid in ((256, 96, 64), (512, 96, 128)):
            for count in (1, 32):
                yield _recall(device, dtype, size, width, grid, count)
    yield _warp(device, 3, 1080, 1920)


def _recall(device: torch.device, dtype: torch.dtype, size: int, width: int, grid: int, count: int) -> Case:
    g = torch.Generator().manual_seed(size)

    def field(channels: int, side: int) -> torch.Tensor:
        x = torch.randn(count, channels, side, side, generator=g)
        return x.to(device, dtype, memory_format=torch.channels_last)

    picture, features, y_past, y = (
        field(3, size),
        field(width, grid),
        field(3, size // 4),
        field(3, size // 4),
    )
    flow = torch.randn(count, 2, _MOTION_PX, _MOTION_PX, generator=g).to(device)
    valid = torch.ones(count, 1, _MOTION_PX, _MOTION_PX, device=device)
    mask = torch.empty(count, 1, size // 4, size // 4, dtype=dtype, device=device)
    like = torch.empty_like
    out = reference.Recalled(like(picture), like(features), like(y), mask)
    given = (picture, features, y_past, y, flow, valid)
    groups = size**2 + grid**2 * -(-width // 8) + 9 * (size // 4) ** 2
    values = 3 * size**2 + width * grid**2 + 27 * (size // 4) ** 2
    return Case(
        f"recall {size} px x {count}, {str(dtype).removeprefix('torch.')}",
        lambda: recall(*given, out=out),
        lambda: tuple(reference.recall(*given)),
        given,
        tuple(out),
        size_bytes(*given, *out),
        count * (_FLOPS_LOOKUP * groups + _FLOPS_BLEND * values),
    )


def _warp(device: torch.device, channels: int, height: int, width: int) -> Case:
    x = torch.randn(1, channels, height, width, device=device)
    flow = torch.randn(1, 2, height // 8, width // 8, device=device)
    out = torch.empty_like(x)
    return Case(
        f"warp {width}x{height}, float32",
        lambda: warp(x, flow, out=out),
        lambda: (reference.warp(x, flow),),
        (x, flow),
        (out,),
        size_bytes(x, flow, out),
        height * width * (_FLOPS_LOOKUP + _FLOPS_BLEND * channels),
    )
