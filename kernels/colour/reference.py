"""RGB to NV12 in torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...frame import Matrix, Range
from ...ycbcr import coefficients

__all__ = ["TAPS", "nv12", "planes"]

# A chroma sample lies in the middle of 2 x 2 px. The cubic of swscale (B = 0, C = 0.6) at the 8 px of a line
# that are nearest to it, at twice their distance: in 64ths, exact.
TAPS = tuple(k / 64 for k in (-0.9, -2.7, 7.7, 27.9, 27.9, 7.7, -2.7, -0.9))


def planes(rgb: Tensor, matrix: Matrix, span: Range, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """As ``nv12``, before it is rounded: of ``dtype``."""
    table = torch.tensor(coefficients(matrix, span), dtype=dtype, device=rgb.device)
    picture = rgb.permute(0, 3, 1, 2).to(dtype)
    height, width = picture.shape[2:]
    y = torch.einsum("bchw,c->bhw", picture, table[0, :3]) + table[0, 3]
    taps = torch.tensor(TAPS, dtype=dtype, device=rgb.device)
    wide = F.pad(picture, (3, 3 + width % 2, 3, 3 + height % 2), mode="replicate")
    wide = F.conv2d(wide, taps.view(1, 1, 1, 8).expand(3, 1, 1, 8), stride=(1, 2), groups=3)
    small = F.conv2d(wide, taps.view(1, 1, 8, 1).expand(3, 1, 8, 1), stride=(2, 1), groups=3)
    uv = torch.einsum("bchw,kc->bhwk", small, table[1:, :3]) + table[1:, 3]
    return y.clamp(0, 255), uv.clamp(0, 255)


def nv12(rgb: Tensor, matrix: Matrix = Matrix.BT709, span: Range = Range.LIMITED) -> tuple[Tensor, Tensor]:
    """rgb (B, H, W, 3) uint8, full range. Returns y (B, H, W) and uv (B, ceil(H/2), ceil(W/2), 2) uint8.

    Chroma is reduced by swscale's bicubic, sharper than the mean that ``ycbcr`` takes, around the middle of
    each 2 x 2 px; the border is repeated. Values are rounded to the nearest.
    """
    y, uv = planes(rgb, matrix, span, torch.float32)
    return y.round().to(torch.uint8), uv.round().to(torch.uint8)
