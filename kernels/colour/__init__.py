"""RGB to NV12 or yuv420p on CUDA, for encoders: one pass, several pictures in a launch, any pitch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...errors import KernelError
from ...frame import Matrix, Range
from ...ycbcr import coefficients
from ..launch import VIEW, blocks, check, count, launch, view
from .reference import TAPS

__all__ = ["nv12", "yuv420p"]

_STRIP = 8  # chroma rows of one thread of colour.cu
_NV12 = np.dtype(
    [
        ("rgb", VIEW),
        ("y", VIEW),
        ("uv", VIEW),
        ("table", np.float32, (3, 4)),
        ("taps", np.float32, len(TAPS)),
        ("words", np.int32),
        ("pairs", np.int32),
    ],
    align=True,
)


def nv12(
    rgb: Tensor,
    matrix: Matrix = Matrix.BT709,
    span: Range = Range.LIMITED,
    *,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """``reference.nv12``: rgb (B, H, W, 3) uint8, any strides. Returns y and uv, which ``out`` may bring.

    out: y (B, H, W) and uv (B, ceil(H/2), ceil(W/2), 2) uint8, any strides: an encoder's planes.
    Fastest where lines of rgb are packed and begin at multiples of four bytes, those of y and uv of two.
    Raises KernelError for tensors that do not fit, DeviceError without CUDA or CuPy.
    """
    device = rgb.device
    check("rgb", rgb, (count(rgb), None, None, 3), (torch.uint8,), device)
    batch, height, width, _ = rgb.shape
    shapes = (batch, height, width), (batch, -(-height // 2), -(-width // 2), 2)
    if out is None:
        y, uv = (torch.empty(shape, dtype=torch.uint8, device=device) for shape in shapes)
    else:
        y, uv = out
    for name, plane, shape in zip(("y", "uv"), (y, uv), shapes, strict=True):
        check(name, plane, shape, (torch.uint8,), device, written=True)
    words = rgb.stride(2) == 3 and rgb.stride(3) == 1 and _lines_at(rgb, 4)
    pairs = (
        y.stride(2) == 1 and uv.stride(2) == 2 and uv.stride(3) == 1 and _lines_at(y, 2) and _lines_at(uv, 2)
    )
    table = coefficients(matrix, span)
    arguments = np.array((view(rgb), view(y), view(uv), table, TAPS, words, pairs), _NV12)
    strips = -(-shapes[1][1] // _STRIP)
    launch("colour", "nv12", (blocks(strips * shapes[1][2]), batch, 1), arguments, device)
    return y, uv


def yuv420p(rgb: Tensor, matrix: Matrix = Matrix.BT709, span: Range = Range.LIMITED) -> Tensor:
    """``nv12`` with Cb and Cr in planes of their own: rgb (B, H, W, 3) uint8, H and W even.

    Returns (B, 3 H / 2, W) uint8: Y, then Cb, then Cr, without gaps. Raises KernelError, DeviceError.
    """
    check("rgb", rgb, (count(rgb), None, None, 3), (torch.uint8,), rgb.device)
    batch, height, width, _ = rgb.shape
    if height % 2 or width % 2:
        raise KernelError(f"H and W must be even, got {height} and {width}")
    planes = torch.empty((batch, height // 2 * 3, width), dtype=torch.uint8, device=rgb.device)
    chroma = planes[:, height:].view(batch, 2, height // 2, width // 2).permute(0, 2, 3, 1)
    nv12(rgb, matrix, span, out=(planes[:, :height], chroma))
    return planes


def _lines_at(plane: Tensor, multiple: int) -> bool:
    """Whether each line of (B, H, ...) begins at a multiple of so many bytes."""
    return all(step % multiple == 0 for step in (plane.data_ptr(), plane.stride(0), plane.stride(1)))
