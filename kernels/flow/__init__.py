"""How faces moved from one crop to the next, on CUDA: all faces of all streams in one launch.

A block finds the motion of one face, there and back, with both pictures in its own memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...errors import KernelError
from ..launch import VIEW, check, count, launch, suffix, view
from .reference import AGREES_PX, MISFIT, SMOOTHNESS, STEPS, Found

__all__ = ["Found", "find"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_FLOW = np.dtype(
    [
        *((name, VIEW) for name in ("before", "now", "flow", "valid")),
        ("slots", np.uint64),
        ("smoothness", np.float32),
        ("misfit", np.float32),
        ("agrees", np.float32),
        ("steps", np.float32, len(STEPS)),
    ],
    align=True,
)


def find(
    before: Tensor,
    now: Tensor,
    grid: int = 128,
    *,
    slots: Tensor | None = None,
    out: Found | None = None,
) -> Found:
    """``reference.find``: crops of one dtype, float32, float16 or bfloat16, any strides; slots int32.

    out: to write into, float32, any strides. Slots beyond N lead outside of memory: nothing can check them
    here. Raises KernelError for tensors that do not fit, DeviceError without CUDA or CuPy.
    """
    device, batch = now.device, count(now)
    check("now", now, (batch, 3, None, None), _DTYPES, device)
    check("before", before, (batch if slots is None else None, 3, None, None), (now.dtype,), device)
    if slots is not None:
        check("slots", slots, (batch,), (torch.int32,), device, contiguous=True)
    if grid < 1:
        raise KernelError(f"grid must be at least 1 px, got {grid}")
    if out is None:
        out = Found(*(torch.empty((batch, n, grid, grid), device=device) for n in (2, 1)))
    check("out.flow", out.flow, (batch, 2, grid, grid), (torch.float32,), device, written=True)
    check("out.valid", out.valid, (batch, 1, grid, grid), (torch.float32,), device, written=True)
    values = (
        *(view(each) for each in (before, now, *out)),
        0 if slots is None else slots.data_ptr(),
        SMOOTHNESS,
        MISFIT,
        AGREES_PX,
        STEPS,
    )
    launch("flow", f"find_{suffix(now.dtype)}", (1, batch, 1), np.array(values, _FLOW), device)
    return out
