"""Losses of the restorer and of the guide."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.guide import QP_SCALE, Reading, luma_of, template_mask

__all__ = [
    "charbonnier",
    "decibel_weight",
    "face_weight",
    "guide_loss",
    "psnr",
    "restoring_loss",
    "steadiness_loss",
    "trajectory_weight",
]


def restoring_loss(x_hat: Tensor, x: Tensor, where: Tensor, weight: Tensor) -> Tensor:
    """Charbonnier on RGB and on luma, mean over ``where`` (1, 1, H, W), samples weighed by ``weight`` (B,).

    The eye resolves luma; and coded chroma, of which little is left to restore, would else drown it.
    """
    error = x_hat - x
    each = charbonnier(error).mean(1, keepdim=True) + charbonnier(luma_of(error))
    return ((each * where).mean((1, 2, 3)) / where.mean() * weight).mean()


def steadiness_loss(change: Tensor, where: Tensor, weight: Tensor) -> Tensor:
    """Charbonnier on luma of ``change`` (B, 3, H, W), that of the error since the frame before.

    The warp loss of DGAF-VSR asks the output to stay as it was; what the truth itself changes, and what
    the motion got wrong, is not counted against it here. where (B, 1, H, W); weight (B,).
    """
    each = (charbonnier(luma_of(change)) * where).sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp_min(1.0)
    return (each * weight).mean()


def charbonnier(error: Tensor, eps: float = 2e-3) -> Tensor:
    """sqrt(e^2 + eps^2) - eps, element by element."""
    return (error.square() + eps * eps).sqrt() - eps


def face_weight(size: int, device: torch.device) -> Tensor:
    """(1, 1, size, size): what a pixel of the crop counts: all that is ever pasted 1, the rest a tenth."""
    return 0.1 + 0.9 * template_mask(size, device, reach=1.6)


def guide_loss(predicted: Reading, true: Reading) -> Tensor:
    """Huber on every log and the quantiser, and 0.5 pinball_0.6 on logit t0.

    Too little noise leaves artefacts, so it leans up.
    """
    huber = F.huber_loss(predicted.log_bands, true.log_bands, delta=0.5)
    huber = huber + F.huber_loss(predicted.log_sigma_y, true.log_sigma_y, delta=0.5)
    huber = huber + F.huber_loss(predicted.quantiser / QP_SCALE, true.quantiser / QP_SCALE, delta=0.5)
    # logit t0 = log sigma - log kappa: kappa cancels in the difference
    gap = true.sigma.log() - predicted.sigma.log()
    pinball = torch.maximum(0.6 * gap, -0.4 * gap).mean()
    return huber + 0.5 * pinball


def trajectory_weight(t: Tensor) -> Tensor:
    """w = min(1, (0.2 / t)^2) for states inside the path."""
    return (0.2 / t.clamp_min(1e-3)).square().clamp_max(1.0)


def decibel_weight(sigma: Tensor) -> Tensor:
    """Weight of a sample whose input lies sigma from the truth: about 1 / sigma, bounded.

    A decibel is a relative error. Unweighted, hopeless samples drown those that can still be won.
    """
    return 0.05 / (sigma + 0.02)


def psnr(mse: float) -> float:
    """dB of a picture in [0, 1]."""
    return -10 * math.log10(max(mse, 1e-12))
