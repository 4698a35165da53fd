"""Faces evaluated on a CPU: pictures are numpy arrays, and motion is OpenCV's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..face.motion import Motion, MotionFinder, motion_picture
from .backend import Asked, Found, camera_of, packed, roll_out, told_of, unit_pictures
from .coding import coding_statistics
from .crop import Crop
from .engine import Precision
from .network import Memory, log_native
from .noise import Noise
from .openvino_engine import OpenVinoEngine
from .reading import Trace
from .recurrence import RESCALING, Past, left_behind
from .weights import Weights

__all__ = ["HostBackend"]


class HostBackend:
    """threads: of OpenVINO. Torch is left with small change on the thread that makes this, and is told to use
    no others: a team of its own would fight the engine's for the cores."""

    device = torch.device("cpu")
    serving = "openvino"
    warnings: Sequence[str] = ()
    most = 1
    steps_at_start: Sequence[int] = (1,)

    def __init__(
        self,
        weights: Weights,
        precision: Precision | None,
        threads: int,
        rescaling: int = RESCALING,
    ) -> None:
        torch.set_num_threads(1)
        self.weights = weights
        self.engine = OpenVinoEngine(weights, threads, precision, rescaling=rescaling)
        self._motion = MotionFinder()
        self._noise = Noise(self.device)

    @property
    def precision(self) -> Precision:
        return self.engine.precision

    def close(self) -> None:
        """Others may still use what is compiled."""

    def prepare(self, level: float) -> None:
        self.engine.prepare(level)

    def seen(self, crop: Crop) -> Crop:
        return crop

    def read(self, seen: Sequence[Crop]) -> list[Found]:
        with torch.inference_mode():
            x_in, native = _pictures([c.x_in for c in seen]), log_native(camera_of(seen))
            coding = torch.stack([coding_statistics(torch.from_numpy(c.patch)) for c in seen])
            reading, present = self.engine.read(x_in, native, coding)
            rows = packed(reading, present, coding).numpy()
        return [Found(row) for row in rows]

    def restore(self, asked: Sequence[Asked], *, steps: int, seed: int, level: float) -> list[Found]:
        crops, readings, traces = zip(*asked, strict=True)
        with torch.inference_mode():
            x_in, y = (_pictures(v) for v in ([c.x_in for c in crops], [c.y for c in crops]))
            told = told_of(readings, camera_of(crops))
            recurrent = self.weights.description.recurrent
            memory = self._recalled(crops, traces, y) if recurrent else None
            eps = self._noise.of(crops[0].size, seed)
            residual, features = roll_out(self.engine, x_in, y, eps, told, memory, steps=steps, level=level)
            pasts: list[Past | None] = [None] * len(crops)
            if recurrent:
                left = left_behind(x_in + residual, y, features)
                pasts = [Past(*each) for each in zip(*(v.split(1) for v in left), strict=True)]
            residuals = residual.permute(0, 2, 3, 1).mul_(127.5).contiguous().numpy()
        return [Found(Trace(*each)) for each in zip(crops, residuals, pasts, strict=True)]

    def _recalled(self, crops: Sequence[Crop], traces: Sequence[Trace | None], y: Tensor) -> Memory:
        """What is left of each face's last frame, where it is now."""
        pasts: list[tuple[Past, Motion] | None] = []
        for crop, trace in zip(crops, traces, strict=True):
            past: Past | None = None if trace is None else trace.past
            if trace is None or past is None:
                pasts.append(None)
            else:
                before, now = (motion_picture(each.x_in, each.y) for each in (trace.crop, crop))
                pasts.append((past, self._motion.find(before, now)))
        return self.engine.recall(pasts, y)


def _pictures(images: Sequence[np.ndarray]) -> Tensor:
    return unit_pictures(torch.from_numpy(np.stack(images)))
