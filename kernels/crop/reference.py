"""Aligned crops in torch, as ``face.alignment.crop_aligned`` cuts them.

But in one way where it has two: a crop that grows much is looked up in the frame's px themselves. And nothing
is rounded on the way, neither colours nor positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..consistency.reference import cubic
from .faces import FACE, Nv12, Picture

__all__ = ["Crops", "cut"]


class Crops(NamedTuple):
    """Aligned faces in [-1, 1], RGB: x_in (N, 3, S, S), y (N, 3, S // 4, S // 4)."""

    x_in: Tensor
    y: Tensor


def cut(
    frames: Sequence[Picture],
    faces: Tensor,
    batches: Sequence[tuple[int, int]],
    dtype: torch.dtype = torch.float32,
) -> list[Crops]:
    """Cut ``faces``, a ``table`` of ``frames``, out of them.

    batches: N and S of each. What no face goes into is 0. Arithmetic is float32, or of a finer ``dtype``.

    The frame's px under a crop are averaged over cells as large as the crop's own px, if those are larger;
    between cells, weights are bicubic. Beyond the frame its border is repeated.
    """
    exact = torch.promote_types(dtype, torch.float32)
    crops = [
        Crops(
            *(
                torch.zeros((n, 3, side, side), dtype=dtype, device=faces.device).contiguous(
                    memory_format=torch.channels_last
                )
                for side in (size, size // 4)
            )
        )
        for n, size in batches
    ]
    for row in faces.cpu().numpy().view(FACE).reshape(-1):
        if not row["kind"]:
            continue
        for plan, out in zip(row["plans"], crops[row["batch"]], strict=True):
            (x0, y0), (wide, high) = plan["origin"].tolist(), plan["px"].tolist()
            region = _rgb(frames[row["frame"]], row["to_rgb"], (y0, y0 + high), (x0, x0 + wide), exact)
            picture = _aligned(region, plan, out.shape[-1])
            out[row["index"]] = picture.clamp(0, 255) / 127.5 - 1
    return crops


def _rgb(
    frame: Picture, to_rgb: np.ndarray, rows: tuple[int, int], columns: tuple[int, int], dtype: torch.dtype
) -> Tensor:
    """(3, h, w) in 0..255, of a part of a frame; chroma lies in the middle of 2 x 2 px, linear between."""
    y_part, x_part = slice(*rows), slice(*columns)
    if not isinstance(frame, Nv12):
        return frame[y_part, x_part].permute(2, 0, 1).to(dtype)
    luma = frame.y[y_part, x_part].to(dtype)
    chroma = frame.uv.permute(2, 0, 1).to(dtype)
    for axis, (first, end) in ((1, rows), (2, columns)):
        last = chroma.shape[axis] - 1
        at = ((torch.arange(first, end, dtype=dtype, device=luma.device) - 0.5) / 2).clamp(0, last)
        below = at.floor().long()
        share = at - below
        share = share[:, None] if axis == 1 else share
        above = (below + 1).clamp_max(last)
        chroma = (1 - share) * chroma.index_select(axis, below) + share * chroma.index_select(axis, above)
    table = torch.from_numpy(to_rgb).to(luma)
    mixed = torch.einsum("kc,chw->khw", table[:, :3], torch.cat([luma[None], chroma]))
    return (mixed + table[:, 3, None, None]).clamp(0, 255)


def _aligned(region: Tensor, plan: np.void, size: int) -> Tensor:
    """(3, size, size): ``region`` averaged over cells, and these looked up."""
    across, down = plan["cells"].tolist()
    cells = _shares(region, 1, down) @ region @ _shares(region, 2, across).T
    px = torch.arange(size, dtype=region.dtype, device=region.device)
    a, b, c, d, e, f = (float(value) for value in plan["to_cell"])
    columns, wide = _taps(a * px + b * px[:, None] + c, across)
    rows, high = _taps(d * px + e * px[:, None] + f, down)
    found = torch.zeros((3, size, size), dtype=region.dtype, device=region.device)
    for j in range(4):
        for i in range(4):
            found += high[..., j] * wide[..., i] * cells[:, rows[..., j], columns[..., i]]
    return found


def _shares(region: Tensor, axis: int, cells: int) -> Tensor:
    """(cells, px): what of each cell of a line each px is."""
    px = region.shape[axis]
    side = torch.tensor(px, dtype=region.dtype) / cells
    begin = torch.arange(cells + 1, dtype=region.dtype, device=region.device)[:, None] * side
    at = torch.arange(px, dtype=region.dtype, device=region.device)
    return ((begin[1:].minimum(at + 1) - begin[:-1].maximum(at)) / side).clamp_min(0)


def _taps(at: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """The four cells of a line around each position, and their weights, in a last dimension."""
    four = at.floor()[..., None] + torch.arange(-1, 3, device=at.device)
    return four.clamp(0, cells - 1).long(), cubic(four - at[..., None])
