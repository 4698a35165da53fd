"""Pasting, projecting and the certificate in torch.

As ``face.composite`` does it, but each px of the output looks up the patch itself: none is resized before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .faces import BLOCK_AT_SCALE_1, FACE, block_px

__all__ = ["Pasted", "Patches", "certificate", "cubic", "paste"]

LUMA = (0.299, 0.587, 0.114)  # BT.601
TENT_FROM = 2.0  # from this shrink on a filter is a tent as wide as a px of the output; below, the cubic


class Patches(NamedTuple):
    """Restored faces of one size. residual (N, S, S, 3), mask (N, S, S) in [0, 1], float32."""

    residual: Tensor
    mask: Tensor


class Pasted(NamedTuple):
    """out (B, sH, sW, 3) uint8. sums (B, 4) int64: what ``certificate`` reads."""

    out: Tensor
    sums: Tensor


def paste(
    base: Tensor,
    camera: Tensor,
    patches: Sequence[Patches],
    faces: Tensor,
    first: Tensor,
    scale: int,
    *,
    dtype: torch.dtype = torch.float32,
) -> Pasted:
    """Add the faces of each frame to ``base``, one after another, then project each towards the camera's px.

    base (B, sH, sW, 3) uint8: the enlarged frames; camera (B, H, W, 3) uint8; patches: at most two sizes;
    faces, first: of ``faces.table``. dtype: of the arithmetic.

    Eq. (8), FLAIR: x <- x - gamma A+(A x - y), A the mean over a block of scale x scale px (at scale 1 of
    4 x 4, of both pictures), A+ its repetition. Px are rounded after each face, as they are in memory.
    """
    rows = faces.cpu().numpy().view(FACE).reshape(-1)
    begins = first.tolist()
    out, sums = torch.empty_like(base), torch.empty((len(base), 4), dtype=torch.int64, device=base.device)
    for b in range(len(base)):
        picture, seen = base[b].to(dtype), camera[b].to(dtype)
        there = [row for row in rows[begins[b] : begins[b + 1]] if _box_px(row)]
        for row in there:
            x0, y0, x1, y1 = row["box"].tolist()
            part = picture[y0:y1, x0:x1]
            part[:] = _level(part + _residual(row, patches[row["patches"]], dtype))
        sums[b, :2] = _tally(picture, seen, scale)
        for row in there:
            _project(picture, seen, row, patches[row["patches"]].mask, scale)
        sums[b, 2:] = _tally(picture, seen, scale)
        out[b] = picture.to(torch.uint8)
    return Pasted(out, sums)


def certificate(sums: Tensor, height: int, width: int, scale: int) -> Tensor:
    """(B, 2, 2) float64: rms and largest modulus of A out - camera, in levels, before and after projecting.

    sums (B, 4); height, width: of the output.
    """
    block = block_px(scale)
    count = 3 * -(-height // block) * -(-width // block)
    figures = sums.view(-1, 2, 2).double()
    return torch.stack([(figures[..., 0] / count).sqrt(), figures[..., 1]], -1) / _units(scale)


def _units(scale: int) -> int:
    """In a level: errors of blocks are whole numbers of them. A cut block has 1 to 4 px a side."""
    return 144 if scale == 1 else scale**2


def _level(values: Tensor) -> Tensor:
    return values.clamp(0, 255).round()


def _box_px(row: np.void) -> int:
    x0, y0, x1, y1 = row["box"].tolist()
    return int((x1 - x0) * (y1 - y0))


def _residual(row: np.void, patches: Patches, dtype: torch.dtype) -> Tensor:
    """mask x residual over the box of a face, in levels."""
    residual, mask = (each[row["index"]].to(dtype) for each in patches)
    x0, y0, x1, y1 = row["box"].tolist()
    shrink = float(row["shrink"])
    factor = float(row["gain"]) * float(row["weight"])
    patch = residual * mask[..., None]
    return factor * _sample(patch, row["to_patch"], (y1 - y0, x1 - x0), shrink, shrink >= TENT_FROM)


def _sample(patch: Tensor, matrix: np.ndarray, size: tuple[int, int], shrink: float, tents: bool) -> Tensor:
    """patch (S, S, C) as it lies under (h, w) px, which ``matrix`` takes to px of the patch; 0 around it."""
    rows = torch.arange(size[0], dtype=patch.dtype, device=patch.device)[:, None]
    columns = torch.arange(size[1], dtype=patch.dtype, device=patch.device)
    a, b, c, d, e, f = (float(value) for value in matrix)
    at = (d * columns + e * rows + f, a * columns + b * rows + c)
    (down, high), (across, wide) = (
        _weights(where, side, shrink, tents) for where, side in zip(at, patch.shape, strict=False)
    )
    found = torch.zeros((*size, patch.shape[2]), dtype=patch.dtype, device=patch.device)
    for j in range(down.shape[-1]):
        line = torch.zeros_like(found)
        for i in range(across.shape[-1]):
            line += wide[..., i, None] * patch[down[..., j], across[..., i]]
        found += high[..., j, None] * line
    return found


def _weights(at: Tensor, side: int, shrink: float, tents: bool) -> tuple[Tensor, Tensor]:
    """The px of a line of ``side`` px around each position, and what each counts, in a last dimension."""
    reach = max(int(np.ceil(shrink)), 1) if tents else 2
    px = at.floor()[..., None] + torch.arange(1 - reach, reach + 1, device=at.device)
    distance = px - at[..., None]
    tent = (1 - (distance / shrink).abs()).clamp_min(0)
    weight = tent / tent.sum(-1, keepdim=True) if tents else cubic(distance)
    inside = (px >= 0) & (px < side)
    return px.clamp(0, side - 1).long(), torch.where(inside, weight, 0.0)


def cubic(distance: Tensor) -> Tensor:
    """A px's weight by its distance, as OpenCV's bicubic has it: a = -0.75."""
    x, a = distance.abs(), -0.75
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _project(picture: Tensor, seen: Tensor, row: np.void, mask: Tensor, scale: int) -> None:
    """In place, where the box of a face has blocks."""
    luma, chroma = float(row["gamma_luma"]), float(row["gamma_chroma"])
    if luma <= 0 and chroma <= 0:
        return
    block = block_px(scale)
    x0, y0, x1, y1 = row["box"].tolist()
    left, top, right, bottom = x0 // block, y0 // block, -(-x1 // block), -(-y1 // block)
    part = picture[top * block : bottom * block, left * block : right * block]
    per = block if scale == 1 else 1
    error = _block_means(part, scale) - _camera_means(
        seen[top * per : bottom * per, left * per : right * per], scale
    )
    shown = _sample(
        mask[row["index"]].to(picture.dtype)[..., None],
        row["to_mask"],
        (bottom - top, right - left),
        float(row["mask_shrink"]),
        True,
    )
    mixed = error @ torch.tensor(LUMA, dtype=error.dtype, device=error.device)
    taken = float(row["weight"]) * shown * (chroma * error + (luma - chroma) * mixed[..., None])
    spread = taken.repeat_interleave(block, 0).repeat_interleave(block, 1)
    part[:] = _level(part - spread[: part.shape[0], : part.shape[1]])


def _block_means(picture: Tensor, scale: int) -> Tensor:
    """(h, w, 3) to its blocks'; those cut by the edge are means of what they have."""
    total, count = _block_sums(picture, block_px(scale))
    return total / count


def _camera_means(seen: Tensor, scale: int) -> Tensor:
    return _block_means(seen, 1) if scale == 1 else seen


def _block_sums(picture: Tensor, block: int) -> tuple[Tensor, Tensor]:
    height, width = picture.shape[:2]
    ones = torch.ones((height, width, 1), dtype=picture.dtype, device=picture.device)
    channels = torch.cat([picture, ones], 2).permute(2, 0, 1)[None]
    channels = F.pad(channels, (0, -width % block, 0, -height % block))
    total = F.avg_pool2d(channels, block, divisor_override=1)[0].permute(1, 2, 0)
    return total[..., :3], total[..., 3:]


def _tally(picture: Tensor, seen: Tensor, scale: int) -> Tensor:
    """(2,) int64: sum of squares and largest of the blocks' errors, in units."""
    total, count = _block_sums(picture.double(), block_px(scale))
    expected = _block_sums(seen.double(), BLOCK_AT_SCALE_1)[0] if scale == 1 else count * seen.double()
    errors = ((total - expected) * (_units(scale) / count)).round().long().abs()
    return torch.stack([errors.square().sum(), errors.max()])
