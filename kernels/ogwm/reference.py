"""OGWM in torch: what the kernel computes, on any device, with gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ...misfit import MISFIT

__all__ = ["RESCALING", "Recalled", "recall", "warp"]

RESCALING = 2  # OGWM's s


class Recalled(NamedTuple):
    """What is remembered of a face, as it is to be seen now. picture, features (B, C, H, W): moved;
    difference (B, C, h, w): low-passed y - W y_past; mask (B, 1, h, w) in [0, 1]: where they fit."""

    picture: Tensor
    features: Tensor
    difference: Tensor
    mask: Tensor


def warp(x: Tensor, flow: Tensor, s: float = RESCALING, *, slots: Tensor | None = None) -> Tensor:
    """x (N, C, H, W) moved by ``flow`` (B, 2, h, w), px of its own grid: out(p) = x(p + flow(p)).

    OGWM (DGAF-VSR): nearest enlargement by s, bilinear warp, reduction by s. Enlarged by repetition, a
    bilinear lookup blends two pixels only in the middle 1/s between them; so all three steps are one lookup
    with the fraction of the position steepened, and s = 1 is the plain bilinear warp.

    slots (B,) int: which of x each of the batch is, below 0 none: that gives zeros. By default its own, and
    N is B. Pictures of 16 bits are moved in float32.
    """
    given = x.dtype
    dtype = torch.promote_types(given, torch.float32)
    x, flow = _chosen(x, slots).to(dtype), flow.to(dtype)
    height, width = x.shape[2:]
    moved = F.interpolate(flow, size=(height, width), mode="bilinear", align_corners=False)
    columns = torch.arange(width, device=x.device) + moved[:, 0] * (width / flow.shape[3])
    rows = torch.arange(height, device=x.device)[:, None] + moved[:, 1] * (height / flow.shape[2])
    at = torch.stack([_steep(columns, s) / max(width - 1, 1), _steep(rows, s) / max(height - 1, 1)], 3)
    out = F.grid_sample(x, at * 2 - 1, mode="bilinear", padding_mode="border", align_corners=True)
    return out.to(given)


def _steep(position: Tensor, s: float) -> Tensor:
    whole = position.floor()
    return whole + ((position - whole - 0.5) * s + 0.5).clamp(0, 1)


def _chosen(x: Tensor, slots: Tensor | None) -> Tensor:
    if slots is None:
        return x
    return x[slots.long().clamp_min(0)] * (slots >= 0).to(x.dtype)[:, None, None, None]


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
) -> Recalled:
    """``picture``, ``features`` and ``y_past`` (N, C, H, W each), left by an earlier frame, as of now.

    y (B, C, h, w): what is seen now, as y_past was then; flow (B, 2, ., .), valid (B, 1, ., .): motion.
    slots: as of ``warp``; the mask of none is 0.

    mask = valid exp(-(|lowpass(y - W y_past)| / MISFIT)^2).
    """
    given = y.dtype
    dtype = torch.promote_types(given, torch.float32)
    now = y if slots is None else y * (slots >= 0).to(y.dtype)[:, None, None, None]
    change = now.to(dtype) - warp(y_past.to(dtype), flow, s, slots=slots)
    difference = F.avg_pool2d(change, 3, stride=1, padding=1, count_include_pad=False)
    misfit = difference.abs().mean(1, keepdim=True) / MISFIT
    seen = F.interpolate(valid.to(dtype), size=y.shape[2:], mode="area")
    if slots is not None:
        seen = seen * (slots >= 0).to(dtype)[:, None, None, None]
    mask = seen * (-misfit.square()).exp()
    return Recalled(
        warp(picture, flow, s, slots=slots),
        warp(features, flow, s, slots=slots),
        difference.to(given),
        mask.to(given),
    )
