"""OGWM on CUDA: a warp that does not blur, and the memory of a face moved to where the face is now.

Arguments and values are those of the twins in reference.py, without gradients. Everything lies on one CUDA
device, with any strides; x and out are float32, float16 or bfloat16, and arithmetic is float32.
Raises KernelError for tensors that do not fit, DeviceError without CUDA or CuPy.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...misfit import MISFIT
from ..launch import VIEW, blocks, check, count, launch, suffix, view
from .reference import RESCALING, Recalled

__all__ = ["Recalled", "recall", "warp"]

_CHANNELS = 8  # that one thread of ogwm.cu moves
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_WARP = np.dtype(
    [("x", VIEW), ("flow", VIEW), ("out", VIEW), ("slots", np.uint64), ("s", np.float32)], align=True
)
_RECALL = np.dtype(
    [
        *((name, VIEW) for name in ("picture", "features", "y_past", "y", "flow", "valid")),
        *((f"out_{name}", VIEW) for name in Recalled._fields),
        ("slots", np.uint64),
        ("s", np.float32),
        ("misfit", np.float32),
        ("picture_blocks", np.int32),
        ("features_blocks", np.int32),
    ],
    align=True,
)


def warp(
    x: Tensor,
    flow: Tensor,
    s: float = RESCALING,
    *,
    slots: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """``reference.warp``: x (N, C, H, W), flow (B, 2, h, w) float32, slots (B,) int32.

    out: (B, C, H, W) of x's dtype, to write into; it must not be x.
    """
    device, batch = flow.device, count(flow)
    _check_field("x", x, batch, slots, device)
    check("flow", flow, (batch, 2, None, None), (torch.float32,), device)
    if out is None:
        out = _like(x, batch)
    check("out", out, (batch, *x.shape[1:]), (x.dtype,), device, written=True)
    arguments = np.array((view(x), view(flow), view(out), _pointer(slots), s), _WARP)
    launch("ogwm", f"warp_{suffix(x.dtype)}", (_warp_blocks(x), batch, 1), arguments, device)
    return out


def recall(
    picture: Tensor,
    features: Tensor,
    y_past: Tensor,
    y: Tensor,
    flow: Tensor,
    valid: Tensor,
    s: float = RESCALING,
    *,
    slots: Tensor | None = None,
    out: Recalled | None = None,
) -> Recalled:
    """``reference.recall`` in one launch; flow, valid float32, slots int32, all else of one dtype."""
    device, batch = flow.device, count(flow)
    for name, x in (("picture", picture), ("features", features), ("y_past", y_past)):
        _check_field(name, x, batch, slots, device)
    dtypes = (picture.dtype,)
    check("features", features, (None,) * 4, dtypes, device)
    check("y_past", y_past, (None,) * 4, dtypes, device)
    check("y", y, (batch, *y_past.shape[1:]), dtypes, device)
    check("flow", flow, (batch, 2, None, None), (torch.float32,), device)
    check("valid", valid, (batch, 1, None, None), (torch.float32,), device)
    if out is None:
        out = Recalled(_like(picture, batch), _like(features, batch), _like(y, batch), _like(y[:, :1], batch))
    shapes = (picture.shape[1:], features.shape[1:], y.shape[1:], (1, *y.shape[2:]))
    for name, each, shape in zip(Recalled._fields, out, shapes, strict=True):
        check(f"out.{name}", each, (batch, *shape), dtypes, device, written=True)
    parts = (_warp_blocks(picture), _warp_blocks(features), blocks(y.shape[2] * y.shape[3]))
    tensors = (picture, features, y_past, y, flow, valid, *out)
    values = (*(view(each) for each in tensors), _pointer(slots), s, MISFIT, *parts[:2])
    arguments = np.array(values, _RECALL)
    launch("ogwm", f"recall_{suffix(picture.dtype)}", (sum(parts), batch, 1), arguments, device)
    return out


def _check_field(name: str, x: Tensor, batch: int, slots: Tensor | None, device: torch.device) -> None:
    check(name, x, (batch if slots is None else None, None, None, None), _DTYPES, device)
    if slots is not None:
        check("slots", slots, (batch,), (torch.int32,), device, contiguous=True)


def _like(x: Tensor, batch: int) -> Tensor:
    channels_last = x.stride(1) == 1 and x.shape[1] > 1
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty((batch, *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=memory_format)


def _pointer(slots: Tensor | None) -> int:
    return 0 if slots is None else slots.data_ptr()


def _warp_blocks(x: Tensor) -> int:
    return blocks(x.shape[2] * x.shape[3] * -(-x.shape[1] // _CHANNELS))
