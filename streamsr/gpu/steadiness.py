"""``face.steadiness`` where a face's crops are: motion and what fits by the kernels, the rest in torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..face.motion import MOTION_PX
from ..face.steadiness import COARSE, KEPT
from ..kernels import flow, ogwm
from ..model.crop import DeviceCrop
from ..model.guide import luma_of
from ..model.reading import Trace

__all__ = ["carried", "steadied"]


def steadied(before: Trace, now: Trace) -> Tensor:
    """(S, S, 3): see ``Pictures.steady``; for traces of DeviceCrops of one S. Waits for nothing."""
    old, new = (luma_of(_channels_first(each.residual)) for each in (before, now))
    moved, fits = _moved(old, before.crop.y, now.crop.y)
    change = moved - new
    change = KEPT * fits * (change - _coarse(change))
    return now.residual + change[0, 0, :, :, None]


def carried(before: Trace, crop: DeviceCrop) -> Tensor:
    """(S, S, 3): see ``Pictures.carry``. Waits for nothing."""
    moved, fits = _moved(_channels_first(before.residual), before.crop.y, crop.y)
    return (fits * moved)[0].permute(1, 2, 0).contiguous()


def _moved(detail: Tensor, y_past: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """detail (1, C, S, S) of the frame of ``y_past``, as of that of ``y``; (1, 1, S, S): where it fits."""
    motion = flow.find(y_past, y, MOTION_PX)
    features = torch.zeros((1, 1, 1, 1), device=y.device)  # of which nothing is made
    recalled = ogwm.recall(detail, features, y_past, y, motion.flow, motion.valid, 1.0)
    fits = F.interpolate(recalled.mask, size=detail.shape[2:], mode="bilinear", align_corners=False)
    return recalled.picture, fits


def _channels_first(residual: Tensor) -> Tensor:
    return residual.permute(2, 0, 1)[None]


def _coarse(x: Tensor) -> Tensor:
    small = F.avg_pool2d(x, COARSE)
    small = F.avg_pool2d(small, 3, stride=1, padding=1, count_include_pad=False)
    return F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=False)
