"""``face.steadiness`` where a face's crops are: motion and what fits by the kernels, the rest in torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..face.motion import MOTION_PX
from ..face.steadiness import COARSE, KEPT
from ..kernels import flow, ogwm
from ..model.guide import luma_of
from ..model.reading import Trace

__all__ = ["steadied"]


def steadied(before: Trace, now: Trace) -> Tensor:
    """(S, S, 3): see ``Pictures.steady``; for traces of DeviceCrops of one S. Waits for nothing."""
    y_past, y = before.crop.y, now.crop.y
    motion = flow.find(y_past, y, MOTION_PX)
    old, new = (luma_of(each.residual.permute(2, 0, 1)[None]) for each in (before, now))
    features = torch.zeros((1, 1, 1, 1), device=y.device)  # of which nothing is made
    recalled = ogwm.recall(old, features, y_past, y, motion.flow, motion.valid, 1.0)
    change = recalled.picture - new
    fits = F.interpolate(recalled.mask, size=change.shape[2:], mode="bilinear", align_corners=False)
    change = KEPT * fits * (change - _coarse(change))
    return now.residual + change[0, 0, :, :, None]


def _coarse(x: Tensor) -> Tensor:
    small = F.avg_pool2d(x, COARSE)
    small = F.avg_pool2d(small, 3, stride=1, padding=1, count_include_pad=False)
    return F.interpolate(small, size=x.shape[2:], mode="bilinear", align_corners=False)
