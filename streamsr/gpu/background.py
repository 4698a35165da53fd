"""``face.background`` in torch: bicubic, then one back-projection where the camera's picture bears it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..face.background import AROUND_PX, NOISE, STRENGTH
from ..model.guide import luma_of

__all__ = ["Cover", "enlarged"]


class Cover(NamedTuple):
    """``face.background.Cover``: weight (y1 - y0, x1 - x0) float32 in [0, 1]."""

    weight: Tensor
    area: tuple[int, int, int, int]


def enlarged(image: Tensor, scale: int, faces: Sequence[Cover] = ()) -> Tensor:
    """As ``Background.enlarge``: image (H, W, 3) uint8 -> (scale H, scale W, 3) uint8, contiguous.

    Borders are repeated, where OpenCV mirrors those of the error's energy.
    """
    if scale == 1:
        return image.clone(memory_format=torch.contiguous_format)
    picture = image.permute(2, 0, 1)[None].float()
    luma = luma_of(picture).round()
    error = luma - F.avg_pool2d(_bicubic(luma, scale), scale)  # y - A U y
    reach = AROUND_PX // 2
    around = F.pad(error.square(), (reach,) * 4, mode="replicate")
    energy = F.avg_pool2d(around, AROUND_PX, stride=1)
    error = STRENGTH * error * (energy / (energy + NOISE**2))
    for weight, (x0, y0, x1, y1) in faces:
        error[0, 0, y0:y1, x0:x1] *= 1 - weight
    sharpened = (picture + error).round_().clamp_(0, 255)
    levels = _bicubic(sharpened, scale).round_().clamp_(0, 255)
    return levels[0].permute(1, 2, 0).to(torch.uint8, memory_format=torch.contiguous_format)


def _bicubic(x: Tensor, scale: int) -> Tensor:
    """OpenCV's, a = -0.75."""
    return F.interpolate(x, scale_factor=scale, mode="bicubic", align_corners=False)
