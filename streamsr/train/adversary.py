"""Stage D: adversarial post-training on the deployed rollout, after APT and LADD: onto real data.

The discriminator is small heads on frozen SqueezeNet features (projected GAN) and one head of its own on
the picture beside the input. Pairs are relativistic and its gradient is penalised at real and at restored
pictures (R3GAN), by finite differences, safe in bfloat16, every few steps.

All of it sees luma alone, so that no colour is invented, and a face counts the less the less of it can be
known: what is hopeless would else be made up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..features import TAPS, SqueezeNet, feature_distance
from ..model.guide import haar_stack, luma_of

__all__ = ["Adversary", "Judged", "Seen"]

WARM_UP, RAMP = 300, 1000  # steps of the discriminator alone; then of its weight growing
MOST = 0.08  # weight of the adversarial loss
USUAL = 0.63  # weight of a face in an ordinary call, which counts 1
MOST_COUNTED = 1.5
LR = 2e-4
_PENALTY, _NUDGE, _PENALTY_EVERY = 1.0, 0.01, 4
_HEAD_TAPS = (1, 2, 3, 4)
_FEATURES, _MATCHING, _HAAR, _STRUCTURE, _SPECTRUM = 0.05, 0.02, 0.02, 0.1, 0.05


class Judged(NamedTuple):
    """What the network made, what it should be, and what it saw: (B, C, H, W) in [-1, 1]; what a face
    counts, (B,)."""

    x_hat: Tensor
    x: Tensor
    x_in: Tensor
    weight: Tensor


class Seen(NamedTuple):
    """pictures: luma, as it was judged; the features of x_hat and x among them, as ``SqueezeNet`` gives."""

    pictures: Judged
    taps_hat: list[Tensor]
    taps: list[Tensor]


class Discriminator(nn.Module):
    """(B, places) logits, high for real."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(TAPS[tap], width, 1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, width, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 1, 1),
            )
            for tap in _HEAD_TAPS
        )
        self.own = nn.Sequential(
            nn.Conv2d(32, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, taps: list[Tensor], picture: Tensor, x_in: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Also the heads' hidden features, to be matched."""
        with torch.autocast(picture.device.type, torch.bfloat16):
            logits, hidden = self._heads(taps, picture, x_in)
        return torch.cat(logits, 1).float(), [features.float() for features in hidden]

    def _heads(self, taps: list[Tensor], picture: Tensor, x_in: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        logits, hidden = [], []
        for head, tap in zip(self.heads, _HEAD_TAPS, strict=True):
            inner = head[:4](F.normalize(taps[tap].float(), dim=1, eps=1e-6))  # type: ignore[index]
            hidden.append(inner)
            logits.append(head[4](inner).flatten(1))  # type: ignore[index]
        logits.append(self.own(F.pixel_unshuffle(torch.cat([picture, x_in], 1), 4)).flatten(1))
        return logits, hidden


class Adversary:
    """The discriminator with its optimiser. A step: ``look`` at a visit, add ``loss`` to the generator's,
    and after its update give the discriminator its own turn, ``update``."""

    def __init__(self, squeezenet: SqueezeNet, device: torch.device, seed: int) -> None:
        self.backbone = squeezenet.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator = Discriminator().to(device)
        self.optimiser = torch.optim.AdamW(self.discriminator.parameters(), LR, (0.0, 0.99), weight_decay=0.0)
        self.step = 0
        self.accuracy = 0.5  # running: pairs told apart
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def weight(self) -> float:
        return MOST * min(max(self.step - WARM_UP, 0) / RAMP, 1.0)

    def state(self) -> dict[str, object]:
        return {
            "discriminator": self.discriminator.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def load(self, saved: dict[str, object]) -> None:
        self.discriminator.load_state_dict(saved["discriminator"])  # type: ignore[arg-type]
        self.optimiser.load_state_dict(saved["optimiser"])  # type: ignore[arg-type]
        self.step = int(saved["step"])  # type: ignore[call-overload]

    def look(self, judged: Judged) -> Seen:
        """Luma of RGB pictures, changed alike, and its features; the restored one's carry gradients."""
        x_hat, x, x_in, weight = judged
        changed = self._changed(Judged(luma_of(x_hat), luma_of(x), luma_of(x_in), weight))
        taps_hat = self._taps(changed.x_hat)
        with torch.no_grad():
            taps = self._taps(changed.x)
        return Seen(changed, taps_hat, taps)

    def loss(self, seen: Seen) -> Tensor:
        """Feature distance, feature matching, Haar bands, structure, spectrum, and the adversarial term."""
        x_hat, x, x_in, weight = seen.pictures
        each = _FEATURES * feature_distance(seen.taps_hat, seen.taps) + _SPECTRUM * _spectrum_loss(x_hat, x)
        loss = _HAAR * _haar_loss(x_hat, x) + _STRUCTURE * (1 - _structure(x_hat, x))
        if self.weight > 0:
            hat, hidden_hat = self.discriminator(seen.taps_hat, x_hat, x_in)
            with torch.no_grad():
                real, hidden = self.discriminator(seen.taps, x, x_in)
            gaps = [
                (one - other).abs().mean((1, 2, 3)) for one, other in zip(hidden_hat, hidden, strict=True)
            ]
            each = each + _MATCHING * torch.stack(gaps).mean(0)
            each = each + self.weight * F.softplus(real - hat).mean(1)
        return loss + (each * _counted(weight)).mean()

    def update(self, seen: Seen) -> None:
        """One step of the discriminator on a visit that has been learned from."""
        x_hat, x, x_in, weight = (v.detach() for v in seen.pictures)
        pairs = ((x, seen.taps), (x_hat, [tap.detach() for tap in seen.taps_hat]))
        real, hat = (self.discriminator(taps, picture, x_in)[0] for picture, taps in pairs)
        loss = (F.softplus(hat - real).mean(1) * _counted(weight)).mean()
        if self.step % _PENALTY_EVERY == 0:
            for picture, logits in ((x, real), (x_hat, hat)):
                nudged = picture + _NUDGE * torch.randn_like(picture)
                there = self.discriminator(self._taps(nudged), nudged, x_in)[0]
                loss = loss + _PENALTY_EVERY * _PENALTY * (there - logits).square().mean()
        self.optimiser.zero_grad(set_to_none=True)  # the generator's turn left gradients here
        loss.backward()
        nn.utils.clip_grad_norm_(self.discriminator.parameters(), 1.0)
        self.optimiser.step()
        told = float((real.mean(1) > hat.mean(1)).float().mean())
        self.accuracy = 0.98 * self.accuracy + 0.02 * told
        self.step += 1

    def _taps(self, picture: Tensor) -> list[Tensor]:
        with torch.autocast(picture.device.type, torch.bfloat16):
            grey = picture.expand(-1, 3, -1, -1)
            return self.backbone(grey.contiguous(memory_format=torch.channels_last))

    def _changed(self, judged: Judged) -> Judged:
        """The same flip, shift and cutout for all three: few stills are soon known by heart."""
        whole = torch.cat(judged[:3], 1)
        draw = torch.rand(6, generator=self._generator).tolist()
        if draw[0] < 0.5:
            whole = whole.flip(3)
        side = whole.shape[3]
        shift = [int((u - 0.5) * side / 8) for u in draw[1:3]]
        whole = torch.roll(whole, shift, (2, 3))
        if draw[3] < 0.5:
            top, left = (int(u * side * 3 / 4) for u in draw[4:6])
            kept = torch.ones_like(whole[:1, :1])
            kept[..., top : top + side // 4, left : left + side // 4] = 0
            whole = whole * kept
        x_hat, x, x_in = whole.split(1, 1)
        return Judged(x_hat, x, x_in, judged.weight)


def _counted(weight: Tensor) -> Tensor:
    return (weight / USUAL).square().clamp_max(MOST_COUNTED)


def _haar_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """L1 of the seven Haar bands, each over its own usual size: fine ones are small, and count as much."""
    b, c, h, w = x.shape
    bands_hat, bands = (haar_stack(v).view(b, 16, c, h // 4, w // 4) for v in (x_hat, x))
    gap, size = (_by_band(v.abs().mean((0, 2, 3, 4))) for v in (bands_hat - bands, bands))
    return (gap / (size.detach() + 0.01)).mean()


def _by_band(sixteen: Tensor) -> Tensor:
    """Means of the 16 parts of ``haar_stack`` -> of the seven bands."""
    return torch.cat([sixteen[:12].view(3, 4).mean(1), sixteen[12:]])


def _structure(x_hat: Tensor, x: Tensor, scales: int = 3) -> Tensor:
    """Mean contrast-structure term of SSIM over scales, in windows of 8 x 8 px, 4 px apart."""
    both = torch.cat([x_hat, x], 1)
    terms = []
    for _ in range(scales):
        a, b = both[:, :1], both[:, 1:]
        means = F.avg_pool2d(torch.cat([both, both.square(), a * b], 1), 8, stride=4)
        mean_a, mean_b, square_a, square_b, product = means.split(1, 1)
        covariance = product - mean_a * mean_b
        variances = square_a - mean_a.square() + square_b - mean_b.square()
        terms.append(((2 * covariance + 0.0036) / (variances + 0.0036)).mean())  # (0.03 * 2)^2
        both = F.avg_pool2d(both, 2)
    return torch.stack(terms).mean()


def _spectrum_loss(x_hat: Tensor, x: Tensor) -> Tensor:
    """(B,): L1 of the amplitudes of the Fourier transform: how much detail, wherever it lies."""
    there, true = (torch.fft.rfft2(v.float(), norm="ortho").abs() for v in (x_hat, x))
    return (there - true).abs().mean((1, 2, 3))
