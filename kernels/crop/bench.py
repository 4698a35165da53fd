"""Faces of one and of many cameras, from NV12 and from RGB, at both sizes of face."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ..measured import Case, size_bytes
from . import Crops, Nv12, Placed, cut, reference, table

__all__ = ["cases"]

_FLOPS_PX, _FLOPS_CELL_PX = 60 + 16 * 7, 8  # of a crop; of the frame's px under it
_FLOPS_NV12_PX = 40


def cases(device: torch.device) -> Iterator[Case]:
    for dtype, coded, count, height, width, size in (
        (torch.bfloat16, True, 1, 720, 1280, 256),
        (torch.bfloat16, True, 32, 720, 1280, 256),
        (torch.bfloat16, True, 1, 1080, 1920, 512),
        (torch.bfloat16, True, 32, 1080, 1920, 512),
        (torch.float16, False, 32, 720, 1280, 256),
        (torch.float32, False, 1, 2160, 3840, 512),
    ):
        yield _case(device, dtype, coded, count, height, width, size)


def _case(
    device: torch.device, dtype: torch.dtype, coded: bool, count: int, height: int, width: int, size: int
) -> Case:
    native, g = 0.4 * height, torch.Generator().manual_seed(height)

    def plane(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=g).to(device)

    frames = [
        Nv12(plane(height, width), plane(height // 2, width // 2, 2)) if coded else plane(height, width, 3)
        for _ in range(count)
    ]
    k, angle = 512 / native, np.radians(5)
    linear = k * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.column_stack([linear, 255.5 - linear @ (width / 2, height / 2)])
    placed = [Placed(i, matrix, i) for i in range(count)]
    batches = [(count, size)]
    faces = torch.from_numpy(table(frames, placed, batches)).to(device)
    out = [
        Crops(
            *(
                torch.empty(count, 3, side, side, dtype=dtype, device=device).to(
                    memory_format=torch.channels_last
                )
                for side in (size, size // 4)
            )
        )
    ]
    under = native**2 * count
    flops_px = _FLOPS_CELL_PX + _FLOPS_NV12_PX * coded
    return Case(
        f"crop {size} px x {count} of {width}x{height} {'NV12' if coded else 'RGB'}, "
        f"{str(dtype).removeprefix('torch.')}",
        lambda: cut(frames, faces, batches, dtype, out=out),
        lambda: tuple(reference.cut(frames, faces, batches, dtype)[0]),
        tuple(x for frame in frames for x in (frame[:2] if isinstance(frame, Nv12) else (frame,))),
        tuple(out[0]),
        size_bytes(*out[0]) + int(under * (1.5 if coded else 3)),
        int(count * _FLOPS_PX * size**2 * 17 / 16 + 2 * under * flops_px),
    )
