"""The recurrent latent cache: what one frame's evaluation leaves for the next.

The previous output and stem features are warped to the current frame after DGAF-VSR's optical guided
warping module (OGWM), and masked where the camera's picture says that they no longer fit.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .network import Memory

__all__ = ["Past", "blend", "recall", "warp"]

MISFIT = 0.06  # of [-1, 1]: a difference at which the mask has fallen to 1/e
_RESCALING = 2  # OGWM's s


class Past(NamedTuple):
    """picture (B, 3, S, S): the last output, y (B, 3, S/4, S/4): what was seen then, both in [-1, 1];
    features (B, width, grid, grid): the stem's."""

    picture: Tensor
    y: Tensor
    features: Tensor


def warp(x: Tensor, flow: Tensor, s: int = _RESCALING) -> Tensor:
    """x (B, C, H, W) moved by ``flow`` (B, 2, h, w), px of its own grid: out(p) = x(p + flow(p)).

    OGWM: nearest enlargement by s, bilinear warp, reduction by s. Enlarged by repetition, a bilinear
    lookup blends two pixels only in the middle 1/s between them; so all three steps are one lookup
    with the fraction of the position steepened, and s = 1 is the plain bilinear warp.
    """
    height, width = x.shape[2:]
    scale = torch.tensor([width / flow.shape[3], height / flow.shape[2]], device=x.device)
    moved = F.interpolate(flow.float(), size=(height, width), mode="bilinear", align_corners=False)
    columns = torch.arange(width, device=x.device) + moved[:, 0] * scale[0]
    rows = torch.arange(height, device=x.device)[:, None] + moved[:, 1] * scale[1]
    at = torch.stack([_steep(columns, s) / (width - 1), _steep(rows, s) / (height - 1)], 3)
    grid = (at * 2 - 1).to(x.dtype)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=True)


def _steep(position: Tensor, s: int) -> Tensor:
    whole = position.floor()
    return whole + ((position - whole - 0.5) * s + 0.5).clamp(0, 1)


def recall(past: Past, y: Tensor, flow: Tensor, valid: Tensor, s: int = _RESCALING) -> Memory:
    """``past`` as it is to be seen now. y: the current one; flow (B, 2, h, w), valid (B, 1, h, w): motion.

    mask = valid exp(-(|lowpass(y - W y_prev)| / MISFIT)^2).
    """
    difference = F.avg_pool2d(y - warp(past.y, flow, s), 3, stride=1, padding=1, count_include_pad=False)
    misfit = difference.abs().mean(1, keepdim=True) / MISFIT
    mask = F.interpolate(valid, size=difference.shape[2:], mode="area") * (-misfit.square()).exp()
    return Memory(warp(past.picture, flow, s), warp(past.features, flow, s), difference, mask)


def blend(x_hat: Tensor, memory: Memory, gain: Tensor) -> Tensor:
    """x_hat + m (1 - K) HF(W prev - x_hat), after KEEP; gain: logits of K (B, 1, S/4, S/4).

    HF: what 4 x 4 block means leave, the six high Haar bands. The block means never come from the past:
    colour and exposure cannot drift.
    """
    gap = memory.picture - x_hat
    high = gap - F.interpolate(F.avg_pool2d(gap, 4), scale_factor=4, mode="nearest")
    share = memory.mask * (1 - gain.sigmoid())
    return x_hat + F.interpolate(share, scale_factor=4, mode="bilinear", align_corners=False) * high
