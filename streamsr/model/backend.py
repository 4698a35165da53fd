"""What a Restorer evaluates faces with: ``HostBackend`` on a CPU, ``DeviceBackend`` on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from .coding import noise_level
from .crop import Crop, DeviceCrop
from .engine import Engine, Precision
from .guide import Reading, start_time
from .network import Condition, Memory
from .reading import GuideReading, Trace
from .sampler import sample, start
from .weights import Weights

__all__ = [
    "READ",
    "Asked",
    "Backend",
    "Found",
    "Told",
    "camera_of",
    "packed",
    "roll_out",
    "told_of",
    "unit_pictures",
]

READ = 11  # values of a reading


class Asked(NamedTuple):
    """A face to restore. trace: of its last frame, if there is one."""

    crop: Any
    reading: GuideReading
    trace: Trace | None


class Done(Protocol):
    def synchronize(self) -> None: ...


class Found(NamedTuple):
    """For one face. value: the guide's (10,) float32 on the host, as ``GuideReading``; or a Trace.
    done: what is to be waited for before its numbers are there; None where they are."""

    value: Any
    done: Done | None = None


class Backend(Protocol):
    """``read`` and ``restore`` are called on the restorer's thread, all else on any. Faces of a call share
    one size and one kind of crop; ``steps`` and ``seed`` are as of ``Restorer.restore``."""

    weights: Weights
    device: torch.device
    most: int  # faces that are worth evaluating together
    steps_at_start: Sequence[int]  # for which it is worth being ready

    @property
    def precision(self) -> Precision: ...

    @property
    def serving(self) -> str:
        """The engine that evaluates the network; more than one, while compiled ones take over."""
        ...

    @property
    def warnings(self) -> Sequence[str]:
        """Why an engine that was asked for does not serve."""
        ...

    def close(self) -> None:
        """May be called twice."""
        ...

    def prepare(self, level: float) -> None: ...

    def seen(self, crop: Any) -> Any:
        """A crop as ``read`` wants it; on the caller's thread."""
        ...

    def read(self, seen: Sequence[Any]) -> Sequence[Found]: ...

    def restore(self, asked: Sequence[Asked], *, steps: int, seed: int, level: float) -> Sequence[Found]: ...


class Told(NamedTuple):
    """guide (B, 9) and t0 (B,), of readings; camera (B, 2, 3). float32."""

    guide: Tensor
    t0: Tensor
    camera: Tensor


def told_of(readings: Sequence[GuideReading], camera: Tensor) -> Told:
    """On the host."""
    reading = Reading(
        torch.stack([torch.from_numpy(r.log_bands) for r in readings]),
        torch.tensor([r.log_sigma_y for r in readings]),
        torch.tensor([r.quantiser for r in readings]),
    )
    t0 = reading.t0.clamp(min=float(start_time(torch.tensor(1e-3))))
    return Told(reading.condition(), t0, camera)


def roll_out(
    engine: Engine,
    x_in: Tensor,
    y: Tensor,
    eps: Tensor,
    told: Told,
    memory: Memory | None,
    *,
    steps: int,
    level: float,
) -> tuple[Tensor, Tensor]:
    """The residual x_hat - x_in, and the stem's features, empty if there is no memory."""
    exact = torch.ones_like(told.t0)  # the levels are weights, not something they are told
    features = torch.empty(0)

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        nonlocal features
        condition = Condition(t, told.t0, told.guide, told.camera, exact)
        residual, features = engine.evaluate(x_t, x_in, y, condition, memory, level)
        return residual

    return sample(predict, x_in, start(x_in, told.t0, eps), told.t0, steps), features


def packed(reading: Reading, present: Tensor, coding: Tensor, out: Tensor | None = None) -> Tensor:
    """(B, READ): a row of ``Found`` for each face, of what ``Engine.read`` takes and gives."""
    scalars = torch.stack([reading.log_sigma_y, reading.quantiser, present, noise_level(coding)], 1)
    return torch.cat([reading.log_bands, scalars], 1, out=out)


def unit_pictures(images: Tensor) -> Tensor:
    """(B, S, S, 3) uint8 -> (B, 3, S, S) float32 in [-1, 1], channels last."""
    return images.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def camera_of(crops: Sequence[Crop | DeviceCrop]) -> Tensor:
    """(B, 2, 3) float32. Only the fraction of a px of the shift matters, and only it is precise."""
    maps = np.stack([c.camera for c in crops])
    maps[:, :, 2] %= 1
    return torch.from_numpy(maps).float()
