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

__all__ = ["MISFIT", "RESCALING", "Past", "left_behind", "nothing", "recall", "warp"]

MISFIT = 0.06  # of [-1, 1]: a difference at which the mask has fallen to 1/e
RESCALING = 2  # OGWM's s


class Past(NamedTuple):
    """picture (B, 3, S, S): the last output, y (B, 3, S/4, S/4): what was seen then, both in [-1, 1];
    features (B, width, grid, grid): the stem's, of unit rms."""

    picture: Tensor
    y: Tensor
    features: Tensor


def nothing(count: int, size: int, width: int, grid: int, device: torch.device) -> Memory:
    """The memory of ``count`` faces seen for the first time: for the network the same as none."""

    def zeros(channels: int, side: int) -> Tensor:
        empty = torch.zeros(count, channels, side, side, device=device)
        return empty.to(memory_format=torch.channels_last)

    return Memory(zeros(3, size), zeros(width, grid), zeros(3, size // 4), zeros(1, size // 4))


def left_behind(picture: Tensor, y: Tensor, features: Tensor) -> Past:
    """What an evaluation leaves for the next frame: its output, what it saw, and its stem's features.

    Features of features of features would grow without end: they are kept at unit size, face by face.
    """
    size = features.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
    return Past(picture, y, features / size)


def warp(x: Tensor, flow: Tensor, s: int = RESCALING) -> Tensor:
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


def recall(past: Past, y: Tensor, flow: Tensor, valid: Tensor, s: int = RESCALING) -> Memory:
    """``past`` as it is to be seen now. y: the current one; flow (B, 2, h, w), valid (B, 1, h, w): motion.

    mask = valid exp(-(|lowpass(y - W y_prev)| / MISFIT)^2).
    """
    difference = F.avg_pool2d(y - warp(past.y, flow, s), 3, stride=1, padding=1, count_include_pad=False)
    misfit = difference.abs().mean(1, keepdim=True) / MISFIT
    mask = F.interpolate(valid, size=difference.shape[2:], mode="area") * (-misfit.square()).exp()
    return Memory(warp(past.picture, flow, s), warp(past.features, flow, s), difference, mask)
