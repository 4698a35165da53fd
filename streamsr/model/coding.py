"""How coarsely a picture was coded, as its own pixels tell: statistics of block transforms.

Codecs round transform coefficients, block by block, on a grid that starts at the frame's corner. In
the camera's own pixels and on that grid the rounding shows as coefficients near zero; once the face
is warped into its crop it hardly shows any more.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["STATISTICS", "coding_statistics", "noise_level"]

_NEAR = (0.5, 1.0, 2.0, 4.0, 8.0)  # what counts as near zero, in 1/255
_BLOCKS = ((4, 0), (4, 2), (8, 0))  # side in px, and offset: off its grid a block shows no rounding
_GROUPS = 6  # of frequencies
STATISTICS = len(_BLOCKS) * _GROUPS * (2 + len(_NEAR))
_FINEST = 2 * _GROUPS * (2 + len(_NEAR)) + 2 * _GROUPS - 1  # log modulus of 8 x 8 blocks' finest
_GAUSSIAN = 0.635  # log sigma - E log |z| of z ~ N(0, sigma^2): (gamma + log 2) / 2


def coding_statistics(luma: Tensor) -> Tensor:
    """(STATISTICS,) of luma (H, W) float32 in [0, 255], cut on multiples of 8 px, both sides at least 8.

    For each kind of block and group of frequencies: mean log modulus, log rms, and the shares that
    are not near zero; all shifted and scaled to about unit size.
    """
    found = []
    for side, offset in _BLOCKS:
        transform, groups = _transform(side)
        if min(luma.shape) < side + offset:
            offset = 0
        part = luma[offset:, offset:]
        rows, columns = part.shape[0] // side, part.shape[1] // side
        blocks = part[: rows * side, : columns * side].reshape(rows, side, columns, side)
        values = blocks.transpose(1, 2).reshape(-1, side * side) @ transform  # (N, side^2)
        square = values.square()
        shares = [(square / (square + near * near)).mean(0) * 3 - 1.5 for near in _NEAR]
        log_modulus = (values.abs() + 0.05).log().mean(0)
        each = torch.stack([log_modulus, *shares]) @ groups  # (1 + len(_NEAR), _GROUPS)
        log_rms = ((square.mean(0) @ groups).sqrt() + 0.05).log()
        found += [log_rms, each.flatten()]
    return torch.cat(found)


def noise_level(coding: Tensor) -> Tensor:
    """(...) of coding_statistics (..., STATISTICS): standard deviation of the noise, in 1/255.

    An estimate from above: fine texture counts as noise, in a small picture more than in a large one.
    """
    return (coding[..., _FINEST] + _GAUSSIAN).exp()


@lru_cache(maxsize=2)
def _transform(side: int) -> tuple[Tensor, Tensor]:
    """The orthonormal 2-D DCT as (side^2, side^2), and (side^2, _GROUPS) that averages frequencies."""
    at = torch.arange(side, dtype=torch.float64)
    dct = torch.cos(math.pi / side * (at[None] + 0.5) * at[:, None]) * math.sqrt(2 / side)
    dct[0] /= math.sqrt(2)
    frequency = at[:, None] + at[None]
    group = frequency if side == 4 else torch.div(frequency + 1, 2, rounding_mode="floor")
    member = torch.stack([(group == k + 1) & (frequency > 0) for k in range(_GROUPS)]).double()
    member = (member.flatten(1) / member.sum((1, 2))[:, None]).T
    return torch.kron(dct, dct).T.float().contiguous(), member.float().contiguous()
