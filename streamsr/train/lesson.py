"""What the network is taught on a batch: a visit is one loss, with its own noise, t0 and window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.guide import Guide, Reading, start_time, template_mask, true_reading
from ..model.network import Condition, Memory, Network, Prediction, log_native
from ..model.recurrence import Past, left_behind, recall, warp
from ..model.sampler import start, state
from .data import Batch
from .losses import (
    decibel_weight,
    face_weight,
    guide_loss,
    restoring_loss,
    steadiness_loss,
    trajectory_weight,
)

__all__ = ["CROP_VISITS", "Before", "Lesson", "Visit", "unit"]

CROP_VISITS = 4
ALONE = 0.2  # of clips: the last frame comes without a past; a true one would teach it to trust too much


class Before(NamedTuple):
    """The frame before, moved to where this one's is: x_hat and x (B, 3, H, W), fits (B, 1, H, W)."""

    x_hat: Tensor
    x: Tensor
    fits: Tensor


class Visit(NamedTuple):
    """x_hat, x and x_in (B, 3, H, W) in [-1, 1]; what a px counts, where (1, 1, H, W), and a face,
    weight (B,). before: None for a frame without a past."""

    x_hat: Tensor
    x: Tensor
    x_in: Tensor
    where: Tensor
    weight: Tensor
    before: Before | None

    def loss(self, steady: float = 0.0) -> Tensor:
        """steady: weight of the change of the error from frame to frame."""
        loss = restoring_loss(self.x_hat, self.x, self.where, self.weight)
        if steady > 0 and self.before is not None:
            change = (self.x_hat - self.x) - (self.before.x_hat - self.before.x)
            loss = loss + steady * steadiness_loss(change, self.before.fits * self.where, self.weight)
        return loss


class _Clip(NamedTuple):
    """Of T frames, uint8: x, x_in (B, T, 3, H, W), y (B, T, 3, H/4, W/4); float32: flow, valid
    (B, T - 1, ...), where (1, 1, H, W)."""

    x: Tensor
    x_in: Tensor
    y: Tensor
    flow: Tensor
    valid: Tensor
    where: Tensor


class _Frame(NamedTuple):
    """Frame ``k`` as the network sees it: x_in (B, 3, H, W) and y (B, 3, H/4, W/4) in [-1, 1].

    noise: like x_in. window: corner in tokens. memory: None for a frame without a past.
    """

    k: int
    x_in: Tensor
    y: Tensor
    noise: Tensor
    window: tuple[int, int]
    memory: Memory | None


@dataclass(frozen=True, slots=True)
class _View:
    """A clip under one noise for all its frames. window: the corner, in tokens, of what it shows."""

    clip: _Clip
    noise: Tensor
    window: tuple[int, int] = (0, 0)

    def frame(self, k: int, past: Past | None) -> _Frame:
        """past: what frame ``k - 1`` left behind."""
        x_in, y, memory = unit(self.clip.x_in[:, k]), unit(self.clip.y[:, k]), None
        if past is not None:
            memory = recall(past, y, self.clip.flow[:, k - 1], self.clip.valid[:, k - 1])
        return _Frame(k, x_in, y, self.noise, self.window, memory)


class Lesson:
    """A batch on the device, with what the guide says of its frames and ought to say.

    cropped: visits look at quarters of the faces, CROP_VISITS of them, instead of once at whole faces.
    visits: how many are left. guiding: the guide's loss, to be taken once.
    """

    def __init__(self, guide: Guide, batch: Batch, device: torch.device, *, cropped: bool) -> None:
        self.size, self.cropped, self.visits = batch.size, cropped, CROP_VISITS if cropped else 1
        self.device, self.frames = device, batch.x.shape[1]
        maps = (batch.x, batch.x_in, batch.y, batch.flow, batch.valid, face_weight(self.size, device))
        self._clip = _Clip(*(v.to(device) for v in maps))
        self._camera, coding = batch.camera.to(device), batch.coding.to(device)
        mask = template_mask(self.size // 4, device)
        x, x_in, y = (unit(v.flatten(0, 1)) for v in self._clip[:3])
        quantiser = batch.quantiser.to(device).repeat_interleave(self.frames)
        with torch.no_grad():
            true = true_reading(x, x_in, y, mask, quantiser)
        with torch.autocast(device.type, torch.bfloat16):
            found = guide(x_in, log_native(self._camera.flatten(0, 1)), coding.flatten(0, 1), mask)
        self.guiding = guide_loss(found, true)
        self.true, self.found = (self._by_frame(reading) for reading in (true, found))

    def take_guiding(self) -> Tensor:
        """The guide's loss on the first visit, then zero."""
        guiding, self.guiding = self.guiding, torch.zeros((), device=self.device)
        return guiding

    def visit(
        self, network: Network, end_share: float, generator: torch.Generator, *, recurrent: bool = True
    ) -> Visit:
        """The last frame restored, after a rollout of those before it as they are deployed.

        end_share: of samples, that start at tau = 1, the state a one-step run visits. recurrent: the network
        remembers; one that does not is only compared with what it made of the frame before.
        """
        self.visits -= 1
        clip, window = self._clip, (0, 0)
        if self.cropped:
            clip, window = _window(clip, network.config.side, generator)
        draw = float(torch.rand((), generator=generator))
        noise = torch.randn(clip.x_in[:, 0].shape, generator=generator).to(self.device)
        view, last = _View(clip, noise, window), self.frames - 1
        rollout = range(0 if recurrent else max(0, last - 1), last)
        past = None if draw < ALONE else self._rolled_out(network, view, rollout)
        frame, x, before = view.frame(last, past), unit(clip.x[:, last]), None
        if frame.memory is not None:
            fits = F.interpolate(frame.memory.mask, scale_factor=4, mode="nearest")
            moved = warp(unit(clip.x[:, last - 1]), clip.flow[:, last - 1])
            before = Before(frame.memory.picture, moved, fits)
        if not recurrent:
            frame = frame._replace(memory=None)
        x_hat, weight = self._taught(network, frame, x, end_share, generator)
        return Visit(x_hat, x, frame.x_in, clip.where, weight, before)

    def deployed(self, network: Network, noise: Tensor, *, recurrent: bool) -> Tensor:
        """The output for the last frame (B, 3, S, S), one step a frame; recurrent: after those before it."""
        frames = range(self.frames) if recurrent else range(self.frames - 1, self.frames)
        past = self._rolled_out(network, _View(self._clip, noise), frames)
        assert past is not None, "at least one frame"
        return past.picture

    def last_frame(self) -> tuple[Tensor, Tensor]:
        """x and x_in (B, 3, S, S) in [-1, 1] of it."""
        return unit(self._clip.x[:, -1]), unit(self._clip.x_in[:, -1])

    def _rolled_out(self, network: Network, view: _View, frames: range) -> Past | None:
        """What ``frames``, one after another, leave behind; None if there are none."""
        past: Past | None = None
        with torch.no_grad():
            for k in frames:
                past = self._deployed(network, view.frame(k, past))
        return past

    def _deployed(self, network: Network, frame: _Frame) -> Past:
        """What it leaves behind: one step from the guide's own t0."""
        t0 = self.found[frame.k].t0
        predicted = self._predicted(network, frame, start(frame.x_in, t0, frame.noise), t0, t0)
        return left_behind(frame.x_in + predicted.residual, frame.y, predicted.features.float())

    def _taught(
        self, network: Network, frame: _Frame, x: Tensor, end_share: float, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """x_hat of a frame whose truth is ``x`` (B, 3, H, W), and what each face counts (B,)."""
        b, true = len(x), self.true[frame.k]
        t0 = _draw_t0(true.t0, self.found[frame.k].t0, generator)
        inside = _uniform(b, generator, self.device) >= end_share
        tau = torch.where(inside, _uniform(b, generator, self.device), torch.ones(b, device=self.device))
        x_t, t = state(x, start(frame.x_in, t0, frame.noise), tau), tau * t0
        weight = torch.where(inside, trajectory_weight(t), torch.ones_like(t)) * decibel_weight(true.sigma)
        return frame.x_in + self._predicted(network, frame, x_t, t, t0).residual.float(), weight

    def _predicted(self, network: Network, frame: _Frame, x_t: Tensor, t: Tensor, t0: Tensor) -> Prediction:
        """At ``x_t``, where ``t`` is on the trajectory from ``t0``; told what the guide found."""
        k = frame.k
        told = Condition(t, t0, self.found[k].condition(), self._camera[:, k], torch.ones_like(t))
        with torch.autocast(self.device.type, torch.bfloat16):
            return network(x_t, frame.x_in, frame.y, told, frame.memory, size=self.size, window=frame.window)

    def _by_frame(self, reading: Reading) -> list[Reading]:
        parts = [value.detach().unflatten(0, (-1, self.frames)) for value in reading]
        return [Reading(*(value[:, k] for value in parts)) for k in range(self.frames)]


def unit(picture: Tensor) -> Tensor:
    """uint8 -> [-1, 1] float32, channels last."""
    return picture.contiguous(memory_format=torch.channels_last).float().div_(127.5).sub_(1)


def _draw_t0(true: Tensor, guided: Tensor, generator: torch.Generator) -> Tensor:
    """t0* e^N(0, .2^2) 60 %, the guide's own 25 %, U(t0*, 1) 15 %."""
    b, device = len(true), true.device
    jitter = (0.2 * torch.randn(b, generator=generator).to(device)).exp()
    choice = _uniform(b, generator, device)
    upper = true + (1 - true) * _uniform(b, generator, device)
    t0 = torch.where(choice < 0.6, true * jitter, torch.where(choice < 0.85, guided, upper))
    return t0.clamp(float(start_time(torch.tensor(1e-3))), 0.98)


def _window(pictures: _Clip, side: int, generator: torch.Generator) -> tuple[_Clip, tuple[int, int]]:
    """The same quarter of every picture, and its corner in tokens, of which the whole has ``side`` a side."""
    top, left = (int(torch.randint(0, side // 2 + 1, (1,), generator=generator)) for _ in range(2))
    windows = []
    for picture in pictures:
        height, width = picture.shape[-2:]
        row, column = top * height // side, left * width // side
        windows.append(picture[..., row : row + height // 2, column : column + width // 2])
    return _Clip(*windows), (top, left)


def _uniform(b: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(b, generator=generator).to(device)
