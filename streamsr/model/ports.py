"""The ways of a picture into and out of the network's body, one for each size.

x_t and x_in come to a port as cells of 4 x 4 px, (B, 48, S/4, S/4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from .network import Memory, NetworkConfig

__all__ = [
    "CELL",
    "CELL_PX",
    "CoarsePort",
    "Film",
    "FinePort",
    "ResidualBlock",
    "Skip",
    "cell_means",
    "zero",
]

CELL_PX = 4  # side of a cell of the S/4 grid
CELL = 3 * CELL_PX**2  # values in it
_FILTERS = 6  # of the linear path


class Skip(NamedTuple):
    """What a port's head gets of its stem: features (B, thin, S/4, S/4), and the phase's scale."""

    features: Tensor | None
    scale: Tensor


def zero(module: nn.Module) -> None:
    """Set every parameter of ``module`` to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)


def cell_means(like: Tensor) -> Tensor:
    """(3, 48): a cell's pixels, three colours one after another, to the mean of each."""
    eye = torch.eye(3, device=like.device, dtype=like.dtype)
    return eye.repeat_interleave(CELL // 3, 1) / (CELL // 3)


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        zero(self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x)))


class Deconvolution(nn.Module):
    """A linear filter straight to the residual: a mixture of _FILTERS, weighed by the condition.

    Undoing blur is mostly linear, and differs with n and the codec; this path learns it long before the
    rest does. It sees x_in and y - A x_in, what one back-projection would put back. The kernels are mixed,
    not their outputs: a face costs one convolution.
    """

    def __init__(self, token_width: int) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.zeros(_FILTERS * CELL, CELL + 3, 3, 3))
        self.mix = nn.Linear(token_width, _FILTERS)

    def forward(self, grid: Tensor, y: Tensor, told: Tensor) -> Tensor:
        """grid (B, 48, S/4, S/4): x_in in cells; y (B, 3, S/4, S/4)."""
        seen = torch.cat([grid, y - F.conv2d(grid, cell_means(grid)[:, :, None, None])], 1)
        kernels = self.mix(told) @ self.filters.reshape(_FILTERS, -1)
        each = [
            F.conv2d(one, kernel.view(CELL, CELL + 3, 3, 3), padding=1)  # faster than groups
            for one, kernel in zip(seen.split(1), kernels, strict=True)
        ]
        return torch.cat(each)


class Film(nn.Module):
    """Feature-wise scale and shift by the condition: convolutions that know what they look at."""

    def __init__(self, token_width: int, width: int) -> None:
        super().__init__()
        self.to_scale_shift = nn.Linear(token_width, 2 * width)
        zero(self.to_scale_shift)

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        scale, shift = self.to_scale_shift(told)[:, :, None, None].chunk(2, 1)
        return x * (1 + scale) + shift


class SamplingPhase(nn.Module):
    """Scales and shifts features by where the camera's pixels lie under the crop's.

    x_in is interpolated. How a pixel of it ought to be sharpened depends on how far from the camera's
    samples it was taken, which the alignment knows and the picture does not show.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 3 * width, 3, padding=1)
        zero(self.conv)

    def forward(self, phase: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """phase (B, 8, S/4, S/4) -> scale and shift on the way in, scale on the way out."""
        scale, shift, out = self.conv(phase).chunk(3, 1)
        return 1 + scale, shift, 1 + out


class CoarsePort(nn.Module):
    """The way of S = 256 into and out of the body: its pixels unshuffled by 4 are the grid."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c = config.width
        self.enter = nn.Conv2d(2 * CELL + 3, c, 3, padding=1)
        self.enter_memory = nn.Conv2d(CELL + c + 3 + 1, c, 3, padding=1, bias=False)
        self.leave = nn.Conv2d(c, CELL, 3, padding=1)
        self.gain = nn.Conv2d(c, 1, 3, padding=1)
        self.direct = Deconvolution(config.token_width)
        self.film = Film(config.token_width, c)
        self.phase = SamplingPhase(c)

    def stem(
        self, x_t: Tensor, x_in: Tensor, y: Tensor, phase: Tensor, memory: Memory | None
    ) -> tuple[Tensor, Skip]:
        x = self.enter(torch.cat([x_t, x_in, y], 1))
        if memory is not None:
            mask = memory.mask
            picture = F.pixel_unshuffle(memory.picture, CELL_PX)
            past = [picture * mask, memory.features * mask, torch.cat([memory.difference, mask], 1)]
            kernels = self.enter_memory.weight.split([part.shape[1] for part in past], 1)
            for part, kernel in zip(past, kernels, strict=True):  # one tensor of them takes longer to lay out
                x = x + F.conv2d(part, kernel, padding=1)
        scale, shift, out = self.phase(phase)
        return x * scale + shift, Skip(None, out)

    def head(self, x: Tensor, skip: Skip, told: Tensor) -> Tensor:
        return self.film(x * skip.scale, told)  # (B, c, S/4, S/4)


class FinePort(nn.Module):
    """The way of S = 512: a thin branch on the 128 grid, kept as a skip beside the body."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c, thin = config.width, config.fine_width
        self.enter = nn.Conv2d(2 * CELL, thin, 3, padding=1)
        self.enter_memory = nn.Conv2d(CELL, thin, 3, padding=1, bias=False)
        self.down = nn.Conv2d(thin, c, 4, stride=2, padding=1)
        self.side = nn.Conv2d(12, c, 3, padding=1)
        self.side_memory = nn.Conv2d(c + 12 + 1, c, 3, padding=1, bias=False)
        self.up = nn.Conv2d(c, 4 * thin, 3, padding=1)
        self.fuse = nn.Conv2d(2 * thin, thin, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(thin) for _ in range(config.fine_blocks)))
        self.leave = nn.Conv2d(thin, CELL, 3, padding=1)
        self.gain = nn.Conv2d(thin, 1, 3, padding=1)
        self.direct = Deconvolution(config.token_width)
        self.film = Film(config.token_width, thin)
        self.phase = SamplingPhase(thin)

    def stem(
        self, x_t: Tensor, x_in: Tensor, y: Tensor, phase: Tensor, memory: Memory | None
    ) -> tuple[Tensor, Skip]:
        fine = self.enter(torch.cat([x_t, x_in], 1))
        side = self.side(F.pixel_unshuffle(y, 2))
        if memory is not None:
            mask = F.avg_pool2d(memory.mask, 2)
            fine = fine + self.enter_memory(F.pixel_unshuffle(memory.picture, CELL_PX) * memory.mask)
            past = [memory.features * mask, F.pixel_unshuffle(memory.difference, 2), mask]
            side = side + self.side_memory(torch.cat(past, 1))
        scale, shift, out = self.phase(phase)
        fine = F.relu(fine * scale + shift)  # (B, thin, S/4, S/4)
        return self.down(fine) + side, Skip(fine, out)

    def head(self, x: Tensor, skip: Skip, told: Tensor) -> Tensor:
        up = F.pixel_shuffle(self.up(x), 2)  # (B, thin, S/4, S/4)
        x = self.fuse(torch.cat([up, cast(Tensor, skip.features)], 1)) * skip.scale
        return self.blocks(self.film(x, told))  # (B, thin, S/4, S/4)
