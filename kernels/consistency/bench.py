"""Output frames with one face or several, as they come from 540p and 1080p cameras."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ..measured import Case, size_bytes
from . import Pasted, Patches, Placed, paste, reference, table

__all__ = ["cases"]

_SIZE = 512
_FLOPS_PX, _FLOPS_FACE_PX = 6, 16 * 9 + 120


def cases(device: torch.device) -> Iterator[Case]:
    for count, height, width, faces in (
        (1, 540, 960, 1), (1, 540, 960, 8), (16, 540, 960, 1), (1, 1080, 1920, 1), (1, 1080, 1920, 8),
    ):  # fmt: skip
        yield _case(device, count, height, width, faces)


def _case(device: torch.device, count: int, height: int, width: int, faces: int) -> Case:
    scale, native = 2, height / 3
    g = torch.Generator().manual_seed(height)
    camera = torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=g).to(device)
    base = camera.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    patches = [
        Patches(
            torch.randn(count * faces, _SIZE, _SIZE, 3, generator=g).to(device),
            torch.full((count * faces, _SIZE, _SIZE), 0.7, device=device),
        )
    ]
    k = 512 / native
    placed = [
        [
            Placed(
                np.array([[k, 0, -k * 0.1 * width * f], [0, k, -k * 0.3 * height]]), _SIZE, b * faces + f, 0.5
            )
            for f in range(faces)
        ]
        for b in range(count)
    ]
    rows, first = (
        torch.from_numpy(x).to(device) for x in table(placed, scale * height, scale * width, scale)
    )
    sums = torch.empty((count, 4), dtype=torch.int64, device=device)
    out = Pasted(torch.empty_like(base), sums)
    return Case(
        f"paste {scale * width}x{scale * height} x {count}, {faces} faces",
        lambda: paste(base, camera, patches, rows, first, scale, out=out),
        lambda: tuple(reference.paste(base, camera, patches, rows, first, scale)),
        (base, camera, *(x for pair in patches for x in pair), rows, first),
        tuple(out),
        size_bytes(base, camera, *out, *(x for pair in patches for x in pair)),
        int(out.out.numel() / 3 * _FLOPS_PX + count * faces * (scale * native) ** 2 * _FLOPS_FACE_PX),
    )
