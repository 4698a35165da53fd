"""How faces moved between two crops, in torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["AGREES_PX", "LEVELS", "MISFIT", "SMOOTHNESS", "STEPS", "Found", "find", "returned_px"]

LEVELS = ((16, 3), (32, 2))  # sides of the pictures that are compared, and how often; finer ones follow noise
SMOOTHNESS = 450.0  # what a change of 1 px from px to px counts, in squared levels
MISFIT = 10.0  # levels, rms of a window: a difference at which the window counts half
AGREES_PX = 1.0  # of the motion's grid: how far there and back may end from where it began
LUMA = (0.299, 0.587, 0.114)  # BT.601
_RADIUS = 0.97  # of Jacobi's iteration, about: what Chebyshev's is told


def _steps(count: int) -> tuple[float, ...]:
    """Weights of Chebyshev's semi-iteration, which takes Jacobi's steps further (Golub and Varga, 1961)."""
    weights = [1.0]
    for _ in range(count - 1):
        weights.append(1 / (1 - _RADIUS**2 * (weights[-1] / 4 if len(weights) > 1 else 0.5)))
    return tuple(weights)


STEPS = _steps(10)  # after each warp


class Found(NamedTuple):
    """flow (B, 2, G, G), px of that grid: what is at p now was at p + flow(p) before. valid (B, 1, G, G), 0
    or 1: where going there and back agrees."""

    flow: Tensor
    valid: Tensor


def find(before: Tensor, now: Tensor, grid: int = 128, *, slots: Tensor | None = None) -> Found:
    """Between crops of the same faces: before (N, 3, H, W), now (B, 3, h, w), RGB in [-1, 1].

    slots (B,) int: which of ``before`` each of the batch is, below 0 none: that gives zeros. By default its
    own, and N is B. Crops of 16 bits are compared in float32. grid: G.

    Lucas and Kanade's least squares in windows of 5 x 5 px, their means taken away, with Horn and Schunck's
    smoothness between them (Bruhn, Weickert and Schnörr, 2005), from coarse to fine. A window counts less
    where it does not fit, and nothing where it comes from outside.
    """
    dtype = torch.promote_types(now.dtype, torch.float32)
    pictures = [_small_luma(_chosen(before, slots).to(dtype)), _small_luma(now.to(dtype))]
    there, back = (_motion(pictures[1 - k], pictures[k]) for k in range(2))
    factor = grid / LEVELS[-1][0]
    flow = factor * F.interpolate(there, size=(grid, grid), mode="bilinear")
    valid = (returned_px(there, back, grid) < AGREES_PX).to(dtype)
    if slots is not None:
        known = (slots >= 0).to(dtype)[:, None, None, None]
        flow, valid = flow * known, valid * known
    return Found(flow, valid)


def returned_px(there: Tensor, back: Tensor, grid: int) -> Tensor:
    """(B, 1, grid, grid): how far from its beginning going there and back ends, in px of that grid."""
    factor = grid / LEVELS[-1][0]
    flow = F.interpolate(there, size=(grid, grid), mode="bilinear")
    at = (torch.arange(grid, dtype=flow.dtype, device=flow.device) + 0.5) / factor - 0.5
    ends = flow + torch.stack([at.expand(grid, grid), at[:, None].expand(grid, grid)])
    apart = flow + _look_up(back, ends)
    return factor * torch.linalg.vector_norm(apart, dim=1, keepdim=True)


def _chosen(x: Tensor, slots: Tensor | None) -> Tensor:
    return x if slots is None else x[slots.long().clamp_min(0)]


def _small_luma(picture: Tensor) -> Tensor:
    """(B, 1, L, L) in 0..255 at the finest level."""
    weights = torch.tensor(LUMA, dtype=picture.dtype, device=picture.device)
    luma = torch.einsum("bchw,c->bhw", picture, weights)[:, None]
    return F.interpolate((luma + 1) * 127.5, size=(LEVELS[-1][0],) * 2, mode="area")


def _motion(now: Tensor, before: Tensor) -> Tensor:
    """(B, 2, L, L), px of the finest level."""
    coarsest = LEVELS[0][0]
    flow = torch.zeros((len(now), 2, coarsest, coarsest), dtype=now.dtype, device=now.device)
    for side, warps in LEVELS:
        flow = F.interpolate(flow, size=(side, side), mode="bilinear") * (side / flow.shape[-1])
        first, second = (_blurred(F.interpolate(x, size=(side, side), mode="area")) for x in (now, before))
        flow = _refined(first, second, flow, warps)
    return flow


def _blurred(x: Tensor) -> Tensor:
    """By (1, 2, 1) / 4: what a picture reduced by areas has of finer detail leads astray."""
    wide = F.pad(x, (1, 1, 1, 1), mode="replicate")
    wide = (wide[:, :, :-2] + 2 * wide[:, :, 1:-1] + wide[:, :, 2:]) / 4
    return (wide[..., :-2] + 2 * wide[..., 1:-1] + wide[..., 2:]) / 4


def _refined(now: Tensor, before: Tensor, flow: Tensor, warps: int) -> Tensor:
    """In each px, (A + 4 s) u = A flow - b + s sum(u of its neighbours): A and b of its window."""
    side = now.shape[-1]
    across, down = _gradient(now)
    px = torch.arange(side, dtype=now.dtype, device=now.device)
    grid = torch.stack([px.expand(side, side), px[:, None].expand(side, side)])
    stiff = 4 * SMOOTHNESS
    for _ in range(warps):
        at = grid + flow
        change = _look_up(before, at) - now
        outside = (at - at.clamp(0, side - 1)).abs()
        weight = (1 - outside).clamp_min(0).prod(1, keepdim=True)
        weight = weight / (1 + _moment(change, change) / MISFIT**2)
        xx, xy, yy = (weight * _moment(a, b) for a, b in ((across, across), (across, down), (down, down)))
        u, v = flow[:, :1], flow[:, 1:]
        right_data = xx * u + xy * v - weight * _moment(across, change)
        down_data = xy * u + yy * v - weight * _moment(down, change)
        scale = 1 / ((xx + stiff) * (yy + stiff) - xy * xy)
        last = flow
        for step in STEPS:
            around = SMOOTHNESS * _neighbours(flow)
            p, q = right_data + around[:, :1], down_data + around[:, 1:]
            solved = torch.cat([((yy + stiff) * p - xy * q) * scale, ((xx + stiff) * q - xy * p) * scale], 1)
            last, flow = flow, last + step * (solved - last)
    return flow


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    wide = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return (wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2]) / 2, (
        wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]
    ) / 2


def _neighbours(x: Tensor) -> Tensor:
    """Sum of the four."""
    wide = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return wide[:, :, 1:-1, 2:] + wide[:, :, 1:-1, :-2] + wide[:, :, 2:, 1:-1] + wide[:, :, :-2, 1:-1]


def _moment(a: Tensor, b: Tensor) -> Tensor:
    """Of two pictures in each window of 5 x 5 px: mean of the product less product of the means."""
    return _window_mean(a * b) - _window_mean(a) * _window_mean(b)


def _window_mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, stride=1)


def _look_up(picture: Tensor, at: Tensor) -> Tensor:
    """picture (B, C, h, w) at positions (B, 2, H, W) in its px, bilinear; its border is repeated."""
    height, width = picture.shape[2:]
    x, y = at[:, :1].clamp(0, width - 1), at[:, 1:].clamp(0, height - 1)
    left, top = x.floor().long(), y.floor().long()
    right, bottom = (left + 1).clamp_max(width - 1), (top + 1).clamp_max(height - 1)
    share, down = x - left, y - top

    def px(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).flatten(2).expand(-1, picture.shape[1], -1)
        return picture.flatten(2).gather(2, index).unflatten(2, at.shape[2:])

    above = (1 - share) * px(top, left) + share * px(top, right)
    below = (1 - share) * px(bottom, left) + share * px(bottom, right)
    return (1 - down) * above + down * below
