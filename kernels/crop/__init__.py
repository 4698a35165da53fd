"""Aligned crops cut out of frames on CUDA, ready for the network: all faces of all streams in one launch.

Frames are RGB or NV12, of any sizes, and lie anywhere; colour, antialiasing and normalising are one pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ...errors import KernelError
from ..launch import VIEW, check, count, launch, suffix, view
from .faces import TILE, WORDS, Nv12, Picture, Placed, table
from .reference import Crops

__all__ = ["Crops", "Nv12", "Picture", "Placed", "cut", "table"]

BATCHES = 2  # as many sizes as the weights have
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_CUT = np.dtype(
    [
        ("x_in", VIEW, BATCHES),
        ("y", VIEW, BATCHES),
        ("faces", np.uint64),
        ("x_in_blocks", np.int32),
    ],
    align=True,
)


def cut(
    frames: Sequence[Picture],
    faces: Tensor,
    batches: Sequence[tuple[int, int]],
    dtype: torch.dtype = torch.float32,
    *,
    out: Sequence[Crops] | None = None,
) -> list[Crops]:
    """``reference.cut``: faces, from ``table``, contiguous; dtype float32, float16 or bfloat16.

    out: of each batch, any strides, to write into; what no face goes into stays as it is. The kernel finds
    the frames by what ``table`` has written; ``frames`` keeps them in memory while this is launched. Faces of
    a table of other frames or batches lead outside of memory: nothing can check them here.
    Raises KernelError for tensors that do not fit, DeviceError without CUDA or CuPy.
    """
    device = faces.device
    check("faces", faces, (count(faces), WORDS), (torch.int64,), device, contiguous=True)
    if not 0 < len(batches) <= BATCHES:
        raise KernelError(f"there must be 1 to {BATCHES} batches, got {len(batches)}")
    if any(size < 4 for _, size in batches):
        raise KernelError(f"sizes must be at least 4 px, got {[size for _, size in batches]}")
    for frame in frames:
        where = (frame.y if isinstance(frame, Nv12) else frame).device
        if where != device:
            raise KernelError(f"frames must be on {device} as faces are, got {where}")
    if out is None:
        out = [Crops(*(_zeros(n, side, dtype, device) for side in (size, size // 4))) for n, size in batches]
    if len(out) != len(batches):
        raise KernelError(f"out must have {len(batches)} batches, got {len(out)}")
    for (n, size), crops in zip(batches, out, strict=True):
        for name, each, side in zip(Crops._fields, crops, (size, size // 4), strict=True):
            if dtype not in _DTYPES:
                raise KernelError(f"crops are float32, float16 or bfloat16, got {dtype}")
            check(f"out.{name}", each, (n, 3, side, side), (dtype,), device, written=True)
    largest = max(size for _, size in batches)
    x_in_blocks, y_blocks = ((-(-side // TILE)) ** 2 for side in (largest, largest // 4))
    values = (
        *([view(out[min(k, len(out) - 1)][part]) for k in range(BATCHES)] for part in range(2)),
        faces.data_ptr(),
        x_in_blocks,
    )
    grid = (x_in_blocks + y_blocks, len(faces), 1)
    launch("crop", f"cut_{suffix(dtype)}", grid, np.array(values, _CUT), device)
    return list(out)


def _zeros(n: int, side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    zeros = torch.zeros((n, 3, side, side), dtype=dtype, device=device)
    return zeros.contiguous(memory_format=torch.channels_last)
