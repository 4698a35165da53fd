"""The recurrent latent cache: what one frame's evaluation leaves for the next.

The previous output and stem features are warped to the current frame after DGAF-VSR's optical guided
warping module (OGWM), and masked where the camera's picture says that they no longer fit.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..kernels.ogwm import reference
from ..kernels.ogwm.reference import RESCALING, warp
from .network import Memory

__all__ = ["RESCALING", "Past", "left_behind", "recall", "warp"]


class Past(NamedTuple):
    """picture (B, 3, S, S): the last output, y (B, 3, S/4, S/4): what was seen then, both in [-1, 1];
    features (B, width, grid, grid): the stem's, of unit rms."""

    picture: Tensor
    y: Tensor
    features: Tensor


def left_behind(picture: Tensor, y: Tensor, features: Tensor) -> Past:
    """What an evaluation leaves for the next frame: its output, what it saw, and its stem's features.

    Features of features of features would grow without end: they are kept at unit size, face by face.
    """
    size = features.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
    return Past(picture, y, features / size)


def recall(past: Past, y: Tensor, flow: Tensor, valid: Tensor, s: int = RESCALING) -> Memory:
    """``past`` as it is to be seen now. y: the current one; flow (B, 2, h, w), valid (B, 1, h, w): motion."""
    return Memory(*reference.recall(past.picture, past.features, past.y, y, flow, valid, s))
