"""Faces evaluated where their pictures are, on a GPU: motion, memory and all steps of the network at once.

On CUDA each size of batch is a graph: inputs are copied into tensors that stay, one launch does all, and
results are copied out before the next. On other devices the same code runs without graphs. A network that
was compiled meanwhile takes over between two batches, in a graph of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..face.motion import MOTION_PX
from ..kernels import flow, ogwm
from .backend import READ, Asked, Found, Told, camera_of, packed, roll_out, told_of, unit_pictures
from .coding import STATISTICS, coding_statistics
from .compiled.builds import Builds
from .compiled.part import Part
from .crop import Crop, DeviceCrop
from .cuda import Download, lanes
from .engine import Precision
from .network import GUIDE_OUTPUTS, Memory, log_native
from .noise import Noise
from .reading import Trace
from .recurrence import RESCALING, Past, left_behind
from .torch_engine import EAGER, TorchEngine
from .weights import Weights

__all__ = ["BUCKETS", "DeviceBackend"]

BUCKETS = (1, 2, 4, 8, 16, 32)  # faces of a batch: what is missing is computed, and not looked at
MOST_STEPS = 4  # of a graph; more steps, which nobody takes but on request, run one after another
AHEAD = 2  # batches that are queued at once: faces that come meanwhile share the next
_TOLD = (GUIDE_OUTPUTS, 1, 6, 1)  # columns: the guide's word, t0, camera, which past


class _Seen(NamedTuple):
    """A crop, and (STATISTICS,) of coding."""

    crop: Crop | DeviceCrop
    coding: np.ndarray


class _Tensors(NamedTuple):
    """That stay, of batches of B faces of one size. past: of those faces that have one, in any order."""

    x_in: Tensor  # (B, 3, S, S)
    y: Tensor  # (B, 3, S/4, S/4)
    asked: Tensor  # (B, 1 + STATISTICS): log2(n / S), coding
    told: Tensor  # (B, sum(_TOLD))
    past: Past
    reading: Tensor  # (B, READ)
    residual: Tensor  # (B, S, S, 3), in levels
    picture: Tensor  # (B, 3, S, S)
    features: Tensor  # (B, width, grid, grid)


class DeviceBackend:
    """Residuals of DeviceCrops stay on the device; those of Crops come back to the host. precision: bf16 or
    f32. builds: of compiled networks, by default none; closed with this. Raises DeviceError for another
    precision."""

    most = BUCKETS[-1]

    def __init__(
        self,
        weights: Weights,
        device: torch.device,
        precision: Precision,
        rescaling: int = RESCALING,
        builds: Builds | None = None,
    ) -> None:
        self.weights, self.device, self._rescaling = weights, device, rescaling
        self._lanes = lanes(device)
        self.steps_at_start: Sequence[int] = range(1, MOST_STEPS + 1) if device.type == "cuda" else (1,)
        self._tensors: dict[tuple[int, int], _Tensors] = {}
        self._eps: dict[int, tuple[int, Tensor]] = {}  # by S: the seed, and the noise where graphs read it
        self._runs: dict[tuple[object, ...], tuple[str, Callable[[], Any]]] = {}  # and what computes
        self._queued: deque[torch.cuda.Event] = deque()
        with self._lanes.working():
            self.engine = TorchEngine(weights, device, precision, builds)
            self._noise = Noise(device)

    def close(self) -> None:
        self.engine.close()

    @property
    def serving(self) -> str:
        return self.engine.serving

    @property
    def warnings(self) -> Sequence[str]:
        return self.engine.warnings

    @property
    def precision(self) -> Precision:
        return self.engine.precision

    def prepare(self, level: float) -> None:
        with self._lanes.working():
            self.engine.prepare(level)

    def seen(self, crop: Crop | DeviceCrop) -> _Seen:
        with torch.inference_mode():
            return _Seen(crop, coding_statistics(torch.from_numpy(crop.patch)).numpy())

    def read(self, seen: Sequence[_Seen]) -> list[Found]:
        return [found for part in _parts(seen) for found in self._read(part)]

    def restore(self, asked: Sequence[Asked], *, steps: int, seed: int, level: float) -> list[Found]:
        return [found for part in _parts(asked) for found in self._restore(part, steps, seed, level)]

    def _read(self, seen: Sequence[_Seen]) -> list[Found]:
        crops = [each.crop for each in seen]
        with self._lanes.working():
            native = log_native(camera_of(crops)).numpy()[:, None]
            tensors = self._tensors_of(crops[0].size, len(crops))
            self._take(tensors, crops)
            asked = np.concatenate([native, np.stack([each.coding for each in seen])], 1)
            self._lanes.send(asked, into=tensors.asked[: len(crops)])
            self._run(("guide", *tensors.x_in.shape), partial(self._ask_guide, tensors), EAGER)
            reading = self._lanes.download(tensors.reading[: len(crops)].clone())
        return [Found(row, reading.done) for row in reading.tensor.numpy()]

    def _ask_guide(self, tensors: _Tensors) -> None:
        native, coding = tensors.asked.split([1, STATISTICS], 1)
        reading, present = self.engine.read(tensors.x_in, native[:, 0], coding)
        packed(reading, present, coding, out=tensors.reading)

    def _restore(self, asked: Sequence[Asked], steps: int, seed: int, level: float) -> list[Found]:
        crops, count = [each.crop for each in asked], len(asked)
        readings, size = [each.reading for each in asked], asked[0].crop.size
        with self._lanes.working():
            tensors = self._tensors_of(size, count)
            x_in_y = self._take(tensors, crops)
            slots = self._take_pasts(tensors, [each.trace for each in asked])
            told = told_of(readings, camera_of(crops))
            columns = [told.guide, told.t0[:, None], told.camera.flatten(1), slots[:, None]]
            self._lanes.send(torch.cat(columns, 1).numpy(), into=tensors.told[:count])
            eps = self._noise_of(size, seed)
            part = Part(size, len(tensors.x_in), level)
            self._evaluate(part, steps, partial(self._roll_out, tensors, eps, steps, level))
            pasts: list[Past | None] = [None] * count
            if self.weights.description.recurrent:
                pasts = [
                    Past(tensors.picture[i : i + 1].clone(), y, tensors.features[i : i + 1].clone())
                    for i, (_, y) in enumerate(x_in_y)
                ]
            residuals: list[Any] = [tensors.residual[i].clone() for i in range(count)]
            done = self._lanes.mark()
            if done is not None:
                self._queued.append(done)
            if isinstance(crops[0], Crop):
                downloads: list[Download] = [self._lanes.download(each) for each in residuals]
                return [
                    Found(Trace(crop, each.tensor.numpy(), past), each.done)
                    for crop, each, past in zip(crops, downloads, pasts, strict=True)
                ]
        return [Found(Trace(*each), done) for each in zip(crops, residuals, pasts, strict=True)]

    def _roll_out(self, tensors: _Tensors, eps: Tensor, steps: int, level: float) -> None:
        guide, t0, camera, slots = tensors.told.split(_TOLD, 1)
        told = Told(guide, t0[:, 0], camera.unflatten(1, (2, 3)))
        memory = None
        if self.weights.description.recurrent:
            memory = self._recalled(tensors, slots[:, 0].int())
        x_in, y = tensors.x_in, tensors.y
        residual, features = roll_out(self.engine, x_in, y, eps, told, memory, steps=steps, level=level)
        tensors.residual.copy_(residual.permute(0, 2, 3, 1) * 127.5)
        if memory is not None:
            left = left_behind(x_in + residual, y, features)
            tensors.picture.copy_(left.picture)
            tensors.features.copy_(left.features)

    def _recalled(self, tensors: _Tensors, slots: Tensor) -> Memory:
        """What is left of each face's last frame, where it is now; zeros where there is nothing."""
        past = tensors.past
        found = flow.find(past.y, tensors.y, MOTION_PX, slots=slots)
        recalled = ogwm.recall(
            past.picture,
            past.features,
            past.y,
            tensors.y,
            found.flow,
            found.valid,
            self._rescaling,
            slots=slots,
        )
        return Memory(*recalled)

    def _evaluate(self, part: Part, steps: int, run: Callable[[], None]) -> None:
        """By what serves it now; by the modules, if that fails."""
        serving = self.engine.take(part)
        key = ("restore", part, steps)
        try:
            self._run(key, run, serving, steps)
        except RuntimeError as error:
            if serving == EAGER:
                raise
            self.engine.refuse(part, error)
            self._run(key, run, EAGER, steps)

    def _run(self, key: tuple[object, ...], run: Callable[[], None], serving: str, steps: int = 1) -> None:
        """Queue it, behind no more than AHEAD batches. serving: what computes in it."""
        self._wait(AHEAD - 1)
        if steps > MOST_STEPS:
            run()
            return
        if key in self._runs and self._runs[key][0] != serving:
            self._wait(0)  # a graph that runs cannot go
            del self._runs[key]
        if key not in self._runs:
            self._runs[key] = serving, self._lanes.captured(run)
        self._runs[key][1]()

    def _wait(self, most: int) -> None:
        """Until no more batches than that are queued."""
        while len(self._queued) > most:
            self._queued.popleft().synchronize()

    def _take(self, tensors: _Tensors, crops: Sequence[Crop | DeviceCrop]) -> list[tuple[Tensor, Tensor]]:
        """Crops into ``x_in`` and ``y``; and where they were."""
        there = self._there(crops)
        for into, parts in zip((tensors.x_in, tensors.y), zip(*there, strict=True), strict=True):
            torch.cat(parts, out=into[: len(crops)])
        return there

    def _there(self, crops: Sequence[Crop | DeviceCrop]) -> list[tuple[Tensor, Tensor]]:
        """x_in and y of each."""
        on_device = [crop for crop in crops if isinstance(crop, DeviceCrop)]
        if on_device:
            return [(crop.x_in, crop.y) for crop in on_device]
        x_in, y = (
            unit_pictures(self._lanes.send(np.stack(pictures))).split(1)
            for pictures in zip(*((crop.x_in, crop.y) for crop in crops), strict=True)
        )
        return list(zip(x_in, y, strict=True))

    def _take_pasts(self, tensors: _Tensors, traces: Sequence[Trace | None]) -> Tensor:
        """Pasts into ``past``; and (B,) float32 on the host: which of them is each face's, -1: none."""
        pasts = [None if trace is None else trace.past for trace in traces]
        there = [past for past in pasts if past is not None]
        if there:
            for into, parts in zip(tensors.past, zip(*there, strict=True), strict=True):
                torch.cat(parts, out=into[: len(there)])
        places = iter(range(len(there)))
        return torch.tensor([-1.0 if past is None else float(next(places)) for past in pasts])

    def _noise_of(self, size: int, seed: int) -> Tensor:
        noise = self._noise.of(size, seed)
        if size not in self._eps:
            self._eps[size] = seed, noise.clone()
        elif self._eps[size][0] != seed:
            self._eps[size] = seed, self._eps[size][1].copy_(noise)
        return self._eps[size][1]

    def _tensors_of(self, size: int, count: int) -> _Tensors:
        bucket = next(bucket for bucket in BUCKETS if bucket >= count)
        if (size, bucket) not in self._tensors:
            self._tensors[size, bucket] = self._made(size, bucket)
        return self._tensors[size, bucket]

    def _made(self, size: int, bucket: int) -> _Tensors:
        config, small = self.weights.network.config, size // 4
        remembered = bucket if self.weights.description.recurrent else 0

        def pictures(count: int, channels: int, side: int) -> Tensor:
            zeros = torch.zeros((count, channels, side, side), device=self.device)
            return zeros.to(memory_format=torch.channels_last)

        def left() -> tuple[Tensor, Tensor]:
            return pictures(remembered, 3, size), pictures(remembered, config.width, config.grid)

        picture, features = left()
        return _Tensors(
            pictures(bucket, 3, size),
            pictures(bucket, 3, small),
            torch.zeros((bucket, 1 + STATISTICS), device=self.device),
            torch.zeros((bucket, sum(_TOLD)), device=self.device),
            Past(picture, pictures(remembered, 3, small), features),
            torch.zeros((bucket, READ), device=self.device),
            torch.zeros((bucket, size, size, 3), device=self.device),
            *left(),
        )


def _parts(faces: Sequence[Any]) -> list[Sequence[Any]]:
    most = BUCKETS[-1]
    return [faces[first : first + most] for first in range(0, len(faces), most)]
