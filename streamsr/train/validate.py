"""The validation table: PSNR-Y of the face region over bicubic, on held-out faces.

Three conditions for each size: clean x4 (block means), call x2 and call x4 (x264 CRF 30 inside a
320-px frame). One seed, so that every run of it sees the same pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ..model.guide import Guide, template_mask
from ..model.network import Network
from .clips import animate, load_trajectories
from .data import Batch, FacePack, degrade_clips, degrade_stills, make_batch
from .degrade import Degradation
from .lesson import Lesson
from .losses import psnr

__all__ = ["CONDITIONS", "ClipSet", "Score", "Seen", "ValidationSet", "clip_set", "psnr_y", "validation_set"]


class Seen(NamedTuple):
    """How a camera saw a face: n = S / reduce; coded: codec and quality; read_noise: of 255."""

    reduce: int
    coded: tuple[str, int] | None = None
    read_noise: float = 0.0


CONDITIONS = {"clean x4": Seen(4), "call x2": Seen(2, ("h264", 30)), "call x4": Seen(4, ("h264", 30))}


@dataclass(frozen=True)
class Score:
    """bicubic, output: PSNR-Y in dB. t0_error: mean |log ratio|."""

    bicubic: float
    output: float
    t0_error: float


@dataclass(frozen=True)
class ValidationSet:
    """name -> a batch of stills, of one size."""

    size: int
    conditions: Mapping[str, Batch]

    @torch.inference_mode()
    def score(self, network: Network, guide: Guide, device: torch.device, batch: int = 4) -> dict[str, Score]:
        """One step from the guide's own t0, as deployed."""
        fine = template_mask(self.size, device)[0, 0]
        scores = {}
        for name, stills in self.conditions.items():
            before, after, gap = [], [], []
            for i in range(0, len(stills.x), batch):
                lesson = Lesson(guide, stills.part(i, i + batch), device, cropped=False)
                x, x_in = lesson.last_frame()
                x_hat = lesson.deployed(network, _noise(x_in, i), recurrent=False)
                gap.append((lesson.found[0].t0 / lesson.true[0].t0).log().abs().mean().item())
                before += psnr_y(x_in, x, fine)
                after += psnr_y(x_hat, x, fine)
            means = (float(np.mean(v)) for v in (before, after, gap))
            scores[name] = Score(*means)
        return scores


def validation_set(
    data: Path, cache: Path, size: int, count: int, seen: Mapping[str, Seen] = CONDITIONS
) -> ValidationSet:
    """``count`` validation faces of ``size`` px, evenly chosen, in each condition."""
    pack = FacePack(data, cache, "val", size)
    keep = np.linspace(0, len(pack.images) - 1, min(count, len(pack.images))).astype(int)
    faces = [np.ascontiguousarray(pack.images[i]) for i in keep]
    conditions = {}
    for name, how in ((name, _plain(size, each)) for name, each in seen.items()):
        rng = np.random.default_rng(7)
        samples = [degrade_stills([face], [how], rng) for face in faces]
        conditions[name] = make_batch([[face] for face in faces], samples, [how] * len(faces))
    return ValidationSet(size, conditions)


@dataclass(frozen=True)
class ClipSet:
    """Validation faces in motion: name of the condition -> a batch of clips."""

    size: int
    conditions: Mapping[str, Batch]

    def score(self, network: Network, guide: Guide, device: torch.device) -> dict[str, tuple[float, float]]:
        """PSNR-Y over bicubic of each clip's last frame, in dB: by itself, and with its past."""
        fine = template_mask(self.size, device)[0, 0]
        scores = {}
        for name, batch in self.conditions.items():
            lesson = Lesson(guide, batch, device, cropped=False)
            x, x_in = lesson.last_frame()
            noise = _noise(x_in, 0)
            bicubic = np.mean(psnr_y(x_in, x, fine))
            outputs = [lesson.deployed(network, noise, recurrent=recurrent) for recurrent in (False, True)]
            alone, after = (float(np.mean(psnr_y(out, x, fine)) - bicubic) for out in outputs)
            scores[name] = alone, after
        return scores


def clip_set(data: Path, cache: Path, size: int, count: int, frames: int = 6) -> ClipSet:
    """The first ``count`` validation faces of ``size`` px, each set in motion, in each condition."""
    pack = FacePack(data, cache, "val", size)
    pack.find_meshes()
    trajectories = load_trajectories(data / "motion")
    rng = np.random.default_rng(11)
    clips = [
        animate(np.asarray(image), mesh, trajectories[k % len(trajectories)], frames, rng)
        for k, (image, mesh) in enumerate(zip(pack.images[:count], pack.meshes[:count], strict=True))
    ]
    conditions = {}
    for name, seen in CONDITIONS.items():
        hows = [_plain(size, seen)] * len(clips)
        samples = degrade_clips(clips, hows, np.random.default_rng(12))
        conditions[name] = make_batch(clips, samples, hows)
    return ClipSet(size, conditions)


def _plain(size: int, seen: Seen) -> Degradation:
    """So and no more."""
    return Degradation(
        kind="clean",
        native=size / seen.reduce,
        roll_deg=0.0,
        shift=(0.0, 0.0),
        drift=(0.7, 0.4),
        blur=(0.0, 0.0, 0.0),
        read_noise=seen.read_noise,
        shot_noise=0.0,
        sharpen=0.0,
        grey=False,
        jpeg=None,
        coded=seen.coded,
    )


def _noise(like: torch.Tensor, seed: int) -> torch.Tensor:
    generator = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=generator, device=like.device)


def psnr_y(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor) -> list[float]:
    """BT.601 luma (219 levels) of pictures rounded to 8 bits, inside the mask."""
    rgb = [((v.clamp(-1, 1) + 1) * 127.5).round() / 255 for v in (a, b)]
    weights = torch.tensor([65.481, 128.553, 24.966], device=a.device) / 255
    d = ((rgb[0] - rgb[1]) * weights.view(1, 3, 1, 1)).sum(1)
    mse = (d.square() * mask).sum((1, 2)) / mask.sum()
    return [psnr(float(m)) for m in mse]
