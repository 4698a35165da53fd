"""What the network is taught on a batch: a visit is one loss, with its own noise, t0 and window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..model.guide import Guide, Reading, start_time, template_mask, true_reading
from ..model.network import Condition, Memory, Network, log_native
from ..model.recurrence import Past, recall
from ..model.sampler import start, state
from .data import Batch
from .losses import decibel_weight, face_weight, guide_loss, restoring_loss, trajectory_weight

__all__ = ["CROP_TOKENS", "CROP_VISITS", "Lesson", "Visit"]

CROP_TOKENS, CROP_VISITS = 8, 4
ALONE, TAUGHT = 0.2, 0.3  # of clips: the last frame comes without a past, or with a true one
_PAST_NOISE = 0.03  # of a true past: none that the network makes is as clean


class Visit(NamedTuple):
    """x_hat, x and x_in (B, 3, H, W) in [-1, 1]; what a px counts, where (1, 1, H, W), and a face,
    weight (B,)."""

    x_hat: Tensor
    x: Tensor
    x_in: Tensor
    where: Tensor
    weight: Tensor

    def loss(self) -> Tensor:
        return restoring_loss(self.x_hat, self.x, self.where, self.weight)


class Lesson:
    """A batch on the device, with what the guide says of its frames and ought to say.

    cropped: visits look at windows of CROP_TOKENS tokens a side, CROP_VISITS of them, instead of once at
    whole faces. visits: how many are left. guiding: the guide's loss, to be taken once.
    """

    def __init__(self, guide: Guide, batch: Batch, device: torch.device, *, cropped: bool) -> None:
        self.size, self.cropped, self.visits = batch.size, cropped, CROP_VISITS if cropped else 1
        self.frames = batch.x.shape[1]
        self.x, self.x_in, self.y = (v.to(device) for v in (batch.x, batch.x_in, batch.y))
        self.flow, self.valid = batch.flow.to(device), batch.valid.to(device)
        self.camera, coding = batch.camera.to(device), batch.coding.to(device)
        mask = template_mask(self.size // 4, device)
        x, x_in, y = (_unit(v.flatten(0, 1)) for v in (self.x, self.x_in, self.y))
        quantiser = batch.quantiser.to(device).repeat_interleave(self.frames)
        with torch.no_grad():
            true = true_reading(x, x_in, y, mask, quantiser)
        with torch.autocast(device.type, torch.bfloat16):
            found = guide(x_in, log_native(self.camera.flatten(0, 1)), coding.flatten(0, 1), mask)
        self.guiding = guide_loss(found, true)
        self._true, self._found = (self._by_frame(reading) for reading in (true, found))

    def take_guiding(self) -> Tensor:
        """The guide's loss on the first visit, then zero."""
        guiding, self.guiding = self.guiding, torch.zeros((), device=self.x.device)
        return guiding

    def visit(self, network: Network, end_share: float, generator: torch.Generator) -> Visit:
        """The last frame restored, after a rollout of those before it as they are deployed.

        end_share: of samples, that start at tau = 1, the state a one-step run visits.
        """
        self.visits -= 1
        pictures, window = [self.x, self.x_in, self.y, self.flow, self.valid], (0, 0)
        pictures.append(face_weight(self.size, self.x.device))
        if self.cropped:
            pictures, window = _window(pictures, generator)
        x, x_in, y, flow, valid, where = pictures
        draw = float(torch.rand((), generator=generator))
        noise = torch.randn(x_in[:, 0].shape, generator=generator).to(x.device)  # one for all frames
        last = self.frames - 1
        past = None
        if draw >= ALONE:
            past = self._rolled_out(network, (x_in, y, flow, valid), last, noise, window)
        memory = None
        if past is not None:
            if draw < ALONE + TAUGHT:
                true = _unit(x[:, last - 1])
                past = past._replace(picture=true + _PAST_NOISE * torch.randn_like(true))
            memory = recall(past, _unit(y[:, last]), flow[:, last - 1], valid[:, last - 1])
        return self._taught(
            network,
            (_unit(x[:, last]), _unit(x_in[:, last]), _unit(y[:, last]), where),
            noise,
            memory,
            window,
            end_share,
            generator,
        )

    def deployed(self, network: Network, noise: Tensor, *, recurrent: bool) -> Tensor:
        """The output for the last frame (B, 3, S, S), one step a frame; recurrent: after those before it."""
        pictures = (self.x_in, self.y, self.flow, self.valid)
        if not recurrent:
            pictures = (self.x_in[:, -1:], self.y[:, -1:], self.flow[:, :0], self.valid[:, :0])
        begin = self.frames - pictures[0].shape[1]
        past = self._rolled_out(network, pictures, pictures[0].shape[1], noise, (0, 0), begin)
        assert past is not None, "at least one frame"
        return past.picture

    def _rolled_out(
        self,
        network: Network,
        pictures: tuple[Tensor, ...],
        count: int,
        noise: Tensor,
        window: tuple[int, int],
        begin: int = 0,
    ) -> Past | None:
        """What ``count`` frames leave behind; the first of ``pictures`` is frame ``begin`` of the lesson."""
        x_in, y, flow, valid = pictures
        past: Past | None = None
        with torch.no_grad():
            for k in range(count):
                seen = _unit(y[:, k])
                memory = None if past is None else recall(past, seen, flow[:, k - 1], valid[:, k - 1])
                past = self._deployed(network, begin + k, _unit(x_in[:, k]), seen, noise, memory, window)
        return past

    def _deployed(
        self,
        network: Network,
        k: int,
        x_in: Tensor,
        y: Tensor,
        noise: Tensor,
        memory: Memory | None,
        window: tuple[int, int],
    ) -> Past:
        """What frame ``k`` leaves behind: one step from the guide's own t0."""
        t0 = self._found[k].t0
        told = Condition(t0, t0, self._found[k].condition(), self.camera[:, k], torch.ones_like(t0))
        with torch.autocast(x_in.device.type, torch.bfloat16):
            predicted = network(start(x_in, t0, noise), x_in, y, told, memory, size=self.size, window=window)
        return Past(x_in + predicted.residual, y, predicted.features.float())

    def _taught(
        self,
        network: Network,
        pictures: tuple[Tensor, Tensor, Tensor, Tensor],
        noise: Tensor,
        memory: Memory | None,
        window: tuple[int, int],
        end_share: float,
        generator: torch.Generator,
    ) -> Visit:
        x, x_in, y, where = pictures
        b, device, true, found = len(x), x.device, self._true[-1], self._found[-1]
        t0 = _draw_t0(true.t0, found.t0, generator)
        inside = _uniform(b, generator, device) >= end_share
        tau = torch.where(inside, _uniform(b, generator, device), torch.ones(b, device=device))
        x_t, t = state(x, start(x_in, t0, noise), tau), tau * t0
        weight = torch.where(inside, trajectory_weight(t), torch.ones_like(t)) * decibel_weight(true.sigma)
        told = Condition(t, t0, found.condition(), self.camera[:, -1], torch.ones_like(t))
        with torch.autocast(device.type, torch.bfloat16):
            predicted = network(x_t, x_in, y, told, memory, size=self.size, window=window)
        return Visit(x_in + predicted.residual.float(), x, x_in, where, weight)

    def _by_frame(self, reading: Reading) -> list[Reading]:
        parts = [value.detach().unflatten(0, (-1, self.frames)) for value in reading]
        return [Reading(*(value[:, k] for value in parts)) for k in range(self.frames)]


def _unit(picture: Tensor) -> Tensor:
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


def _window(pictures: Sequence[Tensor], generator: torch.Generator) -> tuple[list[Tensor], tuple[int, int]]:
    """The same CROP_TOKENS x CROP_TOKENS out of 16 x 16 tokens of every picture, and its corner."""
    top, left = (int(torch.randint(0, 17 - CROP_TOKENS, (1,), generator=generator)) for _ in range(2))
    windows = []
    for picture in pictures:
        px = picture.shape[-1] // 16
        rows = slice(top * px, (top + CROP_TOKENS) * px)
        windows.append(picture[..., rows, left * px : (left + CROP_TOKENS) * px])
    return windows, (top, left)


def _uniform(b: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(b, generator=generator).to(device)
