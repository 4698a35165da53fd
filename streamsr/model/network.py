"""The network f(x_t, t, t0, c): conv stem, DiT trunk, conv tail, on a fixed space-to-depth grid.

Pictures are (B, 3, S, S) in [-1, 1], RGB, S = 256 or 512. Both resolutions share one body on the
S = 256 grid of 64 x 64 cells; S = 512 reaches it through a thin branch on its own 128 x 128 grid.
The network predicts x_hat, the clean face, as x_in plus a residual that starts at zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ModelError
from .ports import CELL, CELL_PX, CoarsePort, Film, FinePort, ResidualBlock, cell_means, zero

__all__ = [
    "EMBEDDED",
    "GUIDE_OUTPUTS",
    "PRESETS",
    "Condition",
    "Memory",
    "Network",
    "NetworkConfig",
    "Prediction",
    "log_native",
    "sampling_phase",
]

GUIDE_OUTPUTS = 9  # log sigma of seven Haar bands, log sigma_y, and the quantiser
_FOURIER = 16
EMBEDDED = 6 * _FOURIER + GUIDE_OUTPUTS + 2  # values that tell the condition
_GAIN = math.log(3)  # logit of K = .75 before training: measured best, and half the flicker
_PATCH = 4  # cells of the stem grid to a token


@dataclass(frozen=True)
class NetworkConfig:
    """Widths and depths of one preset. grid: cells of the body's side; side: tokens of it.

    sizes: the S it restores: that whose cells are the grid's, and on a grid of 64 also twice that.
    """

    width: int
    token_width: int
    depth: int
    heads: int
    stem_blocks: int
    tail_blocks: int
    grid: int = 64
    fine_width: int = 32
    fine_blocks: int = 6

    @property
    def side(self) -> int:
        return self.grid // _PATCH

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(size for size in (256, 512) if size // CELL_PX in (self.grid, 2 * self.grid))


PRESETS: dict[str, NetworkConfig] = {
    "tiny": NetworkConfig(width=16, token_width=32, depth=1, heads=2, stem_blocks=1, tail_blocks=1),
    "S": NetworkConfig(width=48, token_width=192, depth=4, heads=3, stem_blocks=2, tail_blocks=3),
    "M": NetworkConfig(width=64, token_width=256, depth=6, heads=4, stem_blocks=3, tail_blocks=5),
    "L": NetworkConfig(width=96, token_width=384, depth=8, heads=6, stem_blocks=4, tail_blocks=6),
    "G": NetworkConfig(width=96, token_width=320, depth=8, heads=5, stem_blocks=4, tail_blocks=6, grid=128),
}


class Condition(NamedTuple):
    """What the network is told of a face; float32, (B,) but for guide (B, 9) and camera (B, 2, 3).

    t: where on the trajectory; t0: where it starts; guide: the guide's GUIDE_OUTPUTS;
    camera: affine map from px of the S crop to px of the camera's picture; level: fidelity in [0, 1].
    """

    t: Tensor
    t0: Tensor
    guide: Tensor
    camera: Tensor
    level: Tensor

    def embedded(self) -> Tensor:
        """(B, EMBEDDED) float32: what the network's embedding reads, all about unit size."""
        native = log_native(self.camera)
        scalars = torch.stack([native, self.level], 1)
        return torch.cat([_fourier(self.t), _fourier(self.t0), _fourier(native / 4), self.guide, scalars], 1)


class Memory(NamedTuple):
    """The recurrent latent cache, warped to the current frame; see model.recurrence.

    picture (B, 3, S, S): previous output. features (B, width, grid, grid): previous stem features.
    difference (B, 3, S/4, S/4): low-passed y - W y_prev. mask (B, 1, S/4, S/4) in [0, 1]: where they fit.
    """

    picture: Tensor
    features: Tensor
    difference: Tensor
    mask: Tensor


class Prediction(NamedTuple):
    """residual (B, 3, S, S): x_hat - x_in, to be added in float32; features: the stem's output."""

    residual: Tensor
    features: Tensor


def log_native(camera: Tensor) -> Tensor:
    """(B,) log2(n / S) of ``camera`` (B, 2, 3), n / S kept in [1/16, 2]."""
    a, b, c, d = camera[:, :, :2].flatten(1).unbind(1)
    return (a * d - b * c).abs().sqrt().clamp(1 / 16, 2).log2()


class Attention(nn.Module):
    """Plain softmax attention: at 256 tokens twice as fast on a CPU as the fused operator, which takes over
    beyond them."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if n > 256:
            mixed = F.scaled_dot_product_attention(q, k, v)  # (B, heads, N, c / heads)
        else:
            scores = (q * (c // self.heads) ** -0.5) @ k.transpose(-1, -2)  # (B, heads, N, N)
            mixed = scores.softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(b, n, c))


class DiTBlock(nn.Module):
    """Transformer block under one shared modulation with a per-block offset (adaLN-single)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        offset = torch.zeros(6, width)
        offset[2] = offset[5] = 0.5  # gates start half open
        self.offset = nn.Parameter(offset)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = (modulation + self.offset).unsqueeze(2).unbind(1)
        x = x + gate1 * self.attention(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class Trunk(nn.Module):
    """Conv features on the grid -> tokens -> transformer -> conv features on the grid."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c, d = config.width, config.token_width
        self.patchify = nn.Conv2d(c, d, _PATCH, stride=_PATCH)
        self.positions = nn.Parameter(torch.randn(1, d, config.side, config.side) * 0.02)
        self.blocks = nn.ModuleList(DiTBlock(d, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(d)
        self.unpatchify = nn.Linear(d, c * _PATCH * _PATCH)

    def forward(self, features: Tensor, modulation: Tensor, window: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The features (B, width, grid, grid) and the mean token (B, d): what the whole face looks like."""
        tokens = self.patchify(features)  # (B, d, h, w)
        b, _, h, w = tokens.shape
        top, left = window
        tokens = tokens + self.positions[:, :, top : top + h, left : left + w]
        x = tokens.flatten(2).transpose(1, 2)  # (B, N, d)
        for block in self.blocks:
            x = block(x, modulation)
        x = self.norm(x)
        grid = self.unpatchify(x).view(b, h, w, -1).permute(0, 3, 1, 2)
        return F.pixel_shuffle(grid, _PATCH), x.mean(1)


class Network(nn.Module):
    """M is 7.3 M parameters with both ports, 6.8 M with one, and 9 GFLOP a step at S = 256; see PRESETS."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        c, d = config.width, config.token_width
        ports = {size: CoarsePort if size == config.grid * CELL_PX else FinePort for size in config.sizes}
        self.ports = nn.ModuleDict({str(size): port(config) for size, port in ports.items()})
        self.stem = nn.Sequential(*(ResidualBlock(c) for _ in range(config.stem_blocks)))
        self.trunk = Trunk(config)
        self.fuse = nn.Conv2d(2 * c, c, 1)
        self.tail = nn.Sequential(*(ResidualBlock(c) for _ in range(config.tail_blocks)))
        self.film = Film(d, c)
        self.gather = nn.Linear(d, d)
        zero(self.gather)
        self.embed = nn.Sequential(nn.Linear(EMBEDDED, d), nn.SiLU(), nn.Linear(d, d), nn.SiLU())
        self.modulate = nn.Linear(d, 6 * d)
        zero(self.modulate)
        for port in self.ports.values():
            zero(cast("CoarsePort | FinePort", port).leave)  # the residual starts at zero
        self.forget()

    def forget(self) -> None:
        """Make of a memory what serves a network that never had one: detail kept at one gain, no more."""
        for name, module in self.ports.named_modules():
            if name.endswith(("gain", "memory")):
                zero(module)
            if name.endswith("gain"):
                nn.init.constant_(cast(nn.Conv2d, module).bias, _GAIN)  # type: ignore[arg-type]

    @property
    def dtype(self) -> torch.dtype:
        return self.fuse.weight.dtype

    def forward(
        self,
        x_t: Tensor,
        x_in: Tensor,
        y: Tensor,
        condition: Condition,
        memory: Memory | None = None,
        *,
        size: int,
        window: tuple[int, int] = (0, 0),
    ) -> Prediction:
        """One evaluation. size: S, one of the preset's.

        x_t, x_in: (B, 3, S, S); y: (B, 3, S/4, S/4); any float dtype. While training, pictures
        may be crops: ``window`` is then the crop's first token (row, column) on the full grid.
        Raises ModelError for another size, or sides that are no multiple of a token.
        """
        if str(size) not in self.ports:
            raise ModelError(f"size must be one of {self.config.sizes}, got {size}")
        token_px = size // self.config.grid * _PATCH
        if x_t.shape != x_in.shape or x_in.shape[2] % token_px or x_in.shape[3] % token_px:
            raise ModelError(
                f"pictures must be equal and multiples of {token_px} px, got {tuple(x_in.shape)}"
            )
        corner = window[0] * token_px, window[1] * token_px
        phase = sampling_phase(condition.camera, (x_in.shape[2], x_in.shape[3]), corner)
        return self.evaluate(x_t, x_in, y, condition.embedded(), phase, memory, size=size, window=window)

    def evaluate(
        self,
        x_t: Tensor,
        x_in: Tensor,
        y: Tensor,
        embedded: Tensor,
        phase: Tensor,
        memory: Memory | None = None,
        *,
        size: int,
        window: tuple[int, int] = (0, 0),
    ) -> Prediction:
        """``forward`` with the condition worked out, which takes float32: the rest stands less.

        embedded: ``Condition.embedded``; phase (B, 8, S/4, S/4): ``sampling_phase``.
        """
        port = cast("CoarsePort | FinePort", self.ports[str(size)])
        grid_t, grid_in = (F.pixel_unshuffle(v.to(self.dtype), CELL_PX) for v in (x_t, x_in))
        told = self.embed(embedded.to(self.dtype))  # (B, d)
        modulation = self.modulate(told).view(-1, 6, self.config.token_width)
        entered, skip = port.stem(grid_t, grid_in, y.to(self.dtype), phase.to(self.dtype), memory)
        features = self.stem(entered)  # (B, c, grid, grid)
        trunk, seen = self.trunk(features, modulation, window)
        told = told + self.gather(seen)  # what the convolutions are told, the guide's word and its own
        body = self.tail(self.film(self.fuse(torch.cat([trunk, features], 1)), told))
        out = port.head(body, skip, told)
        change = port.leave(out) + port.direct(grid_in, y.to(self.dtype), told)  # (B, 48, S/4, S/4)
        if memory is not None:
            change = change + _kept_detail(memory, grid_in + change, port.gain(out))
        return Prediction(F.pixel_shuffle(change, CELL_PX), features)


def _kept_detail(memory: Memory, x_hat: Tensor, gain: Tensor) -> Tensor:
    """m (1 - K) HF(W prev - x_hat), after KEEP, in cells (B, 48, S/4, S/4); gain: logits of K.

    HF: what a cell's means leave, the six high Haar bands. The means never come from the past: colour
    and exposure cannot drift.
    """
    gap = F.pixel_unshuffle(memory.picture.to(x_hat.dtype), CELL_PX) - x_hat
    means = cell_means(gap)
    less_means = torch.eye(CELL, device=gap.device, dtype=gap.dtype) - means.T @ means * (CELL // 3)
    return memory.mask * (1 - gain.sigmoid()) * F.conv2d(gap, less_means[:, :, None, None])


def sampling_phase(camera: Tensor, sides_px: tuple[int, int], corner_px: tuple[int, int] = (0, 0)) -> Tensor:
    """(B, 8, H/4, W/4): cos and sin of 2 pi u and 2 pi v, and their products; (u, v) is the px of the
    camera's picture where a cell of the crop lies.

    With n / S and the turn that ``camera`` (B, 2, 3) also holds, the middle of a cell stands for all of
    it. sides_px: H and W of the crop; corner_px: where on the S x S px it begins.
    """
    rows, columns = (
        corner + (torch.arange(side // CELL_PX, device=camera.device) + 0.5) * CELL_PX - 0.5
        for corner, side in zip(corner_px, sides_px, strict=True)
    )
    a = 2 * math.pi * camera.float()
    across = a[:, :, 0, None, None] * columns + a[:, :, 2, None, None]  # (B, 2, 1, W)
    angles = across + a[:, :, 1, None, None] * rows[:, None]  # (B, 2, H, W)
    u = torch.stack([angles[:, 0].cos(), angles[:, 0].sin()], 1)
    v = torch.stack([angles[:, 1].cos(), angles[:, 1].sin()], 1)
    products = (u[:, :, None] * v[:, None]).flatten(1, 2)
    return torch.cat([u, v, products], 1).contiguous(memory_format=torch.channels_last)


def _fourier(t: Tensor) -> Tensor:
    """(B,) in [-1, 1] -> (B, 2 * _FOURIER)."""
    octaves = torch.arange(_FOURIER, device=t.device, dtype=torch.float32) * (6.0 / _FOURIER)
    angles = t.float()[:, None] * (2.0**octaves) * math.pi
    return torch.cat([angles.sin(), angles.cos()], 1)
