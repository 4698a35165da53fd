"""Network and guide ready to run on one device, on batches of aligned crops."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import DeviceError, ModelError
from ..face.motion import MOTION_PX, Motion, MotionFinder
from ..machine import usable_cpus
from .coding import coding_statistics
from .crop import Crop
from .engine import Engine, Precision, TorchEngine
from .guide import Reading, start_time
from .network import Condition, Memory, log_native
from .reading import GuideReading, Trace
from .recurrence import RESCALING, Past, left_behind
from .sampler import sample, start
from .weights import level_of, load_weights

__all__ = ["GuideReading", "Restorer", "Trace", "choose_device"]


def choose_device(device: str) -> torch.device:
    """ "auto": cuda where there is one, else cpu. Raises DeviceError for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise DeviceError(f"device must be auto, cpu or cuda, got {device}")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device cuda asked for, but torch sees no NVIDIA GPU: use --device cpu or auto")
    return torch.device(device)


class Restorer:
    """One model shared by every stream of a process, on one thread of its own, which is its lock.

    threads: of the CPU that the engine may use, by default all. Torch is left with small change on that
    thread, and is told to use no others: a team of its own would fight the engine's for the cores.
    """

    waited_ms = 0.0  # not known apart from the work: see session.FaceRestorer

    def __init__(
        self,
        path: Path | None,
        device: torch.device,
        precision: Precision | None = None,
        threads: int | None = None,
        rescaling: int = RESCALING,
    ) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="restorer")
        try:
            self._thread.submit(self._set_up, path, device, precision, threads, rescaling).result()
        except BaseException:  # whatever it was, no thread stays behind
            self.close()
            raise

    def close(self) -> None:
        """End the thread. May be called twice."""
        self._thread.shutdown()

    def _set_up(
        self,
        path: Path | None,
        device: torch.device,
        precision: Precision | None,
        threads: int | None,
        rescaling: int,
    ) -> None:
        weights = load_weights(path)
        self.sha256, self.description = weights.sha256, weights.description
        self._noise: dict[tuple[int, int], Tensor] = {}
        self._motion = MotionFinder()
        self._engine: Engine
        if device.type == "cpu":
            from .openvino_engine import OpenVinoEngine

            torch.set_num_threads(1)
            self._engine = OpenVinoEngine(weights, threads or usable_cpus(), precision, rescaling=rescaling)
        else:
            self._engine = TorchEngine(weights, device, precision or "bf16", rescaling=rescaling)
        self.sizes = weights.network.config.sizes
        self._has_levels = bool(weights.change)

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        *,
        device: str = "auto",
        precision: Precision | None = None,
        threads: int | None = None,
        rescaling: int = RESCALING,
    ) -> Restorer:
        """The packaged weights, or those at ``path``. Raises ModelError, DeviceError.

        precision: by default the fastest: bf16 on a GPU, on a CPU see ``openvino_engine.cpu_precision``.
        rescaling: s of the cache's warp.
        """
        return cls(path, choose_device(device), precision, threads, rescaling)

    @property
    def device(self) -> torch.device:
        return self._engine.device

    @property
    def device_type(self) -> str:
        return self.device.type

    @property
    def precision(self) -> Precision:
        return self._engine.precision

    def prepare(self, fidelity: float) -> None:
        """Have this level of fidelity at hand before the first frame asks for it."""
        self._thread.submit(self.prepare_aside, fidelity).result()

    def prepare_aside(self, fidelity: float) -> None:
        """``prepare`` on the caller's thread; meanwhile other levels may be used, but not this one."""
        self._engine.prepare(self.level(fidelity))

    def warm_up(self, fidelity: float = 1.0) -> None:
        """Run each size once: the first evaluation prepares kernels and takes several times as long."""
        for size in self.sizes:
            x_in, y = (np.zeros((side, side, 3), np.uint8) for side in (size, size // 4))
            crop = Crop(x_in, y, np.eye(2, 3) / 2, np.zeros((16, 16), np.float32))
            readings = self.guide([crop])
            first = self.restore([crop], readings, fidelity=fidelity)
            self.restore([crop], readings, first, fidelity=fidelity)

    def guide(self, crops: Sequence[Crop], deadline_ns: int | None = None) -> list[GuideReading]:
        """Ask the guide about crops of one size. deadline_ns: of no effect, all is done in turn."""
        return self._thread.submit(self._guided, crops).result()

    def _guided(self, crops: Sequence[Crop]) -> list[GuideReading]:
        with torch.inference_mode():
            x_in, native = self._pictures([c.x_in for c in crops]), log_native(self._camera(crops))
            coding = torch.stack([coding_statistics(torch.from_numpy(c.patch)) for c in crops])
            reading, present = self._engine.read(x_in, native, coding.to(self.device))
            scalars = reading.log_sigma_y.tolist(), reading.quantiser.tolist(), present.tolist()
        return [GuideReading(*row) for row in zip(reading.log_bands.cpu().numpy(), *scalars, strict=True)]

    def restore(
        self,
        crops: Sequence[Crop],
        readings: Sequence[GuideReading],
        traces: Sequence[Trace | None] | None = None,
        *,
        steps: int = 1,
        seed: int = 0,
        fidelity: float = 1.0,
        deadline_ns: int | None = None,
    ) -> list[Trace]:
        """Crops of one size, restored.

        traces: what this gave for the last frame of each face, None for a face without one; without
        effect on weights that know no past. steps: network evaluations, uniform in t from each crop's t0.
        fidelity: 0 to 1, of which the nearest level is taken if the weights have levels. seed: of the noise,
        which stays fixed in face coordinates. Equal input gives equal output; a batch gives what its crops
        give alone. deadline_ns: as for ``guide``. Raises ModelError.
        """
        if steps < 1:
            raise ModelError(f"steps must be at least 1, got {steps}")
        traces = [None] * len(crops) if traces is None else traces
        sizes = {c.size for c in crops} | {trace.crop.size for trace in traces if trace is not None}
        if len(sizes) != 1 or not sizes <= set(self.sizes):
            raise ModelError(f"crops must share one size of {self.sizes}, got {sorted(sizes)}")
        level = self.level(fidelity)
        return self._thread.submit(self._restored, crops, readings, traces, steps, seed, level).result()

    def _restored(
        self,
        crops: Sequence[Crop],
        readings: Sequence[GuideReading],
        traces: Sequence[Trace | None],
        steps: int,
        seed: int,
        level: float,
    ) -> list[Trace]:
        with torch.inference_mode():
            x_in, y = (self._pictures(v) for v in ([c.x_in for c in crops], [c.y for c in crops]))
            camera = self._camera(crops)
            reading = Reading(
                torch.from_numpy(np.stack([r.log_bands for r in readings])).to(self.device),
                torch.tensor([r.log_sigma_y for r in readings], device=self.device),
                torch.tensor([r.quantiser for r in readings], device=self.device),
            )
            told, t0 = reading.condition(), reading.t0.clamp(min=float(start_time(torch.tensor(1e-3))))
            exact = torch.ones_like(t0)  # the levels are weights, not something they are told
            recurrent = self.description.recurrent
            memory = self._recalled(crops, traces, y) if recurrent else None
            features = torch.empty(0)

            def predict(x_t: Tensor, t: Tensor) -> Tensor:
                nonlocal features
                condition = Condition(t, t0, told, camera, exact)
                residual, features = self._engine.evaluate(x_t, x_in, y, condition, memory, level)
                return residual

            x_s = start(x_in, t0, self._eps(crops[0].size, seed))
            residual = sample(predict, x_in, x_s, t0, steps)
            pasts: list[Past | None] = [None] * len(crops)
            if recurrent:
                left = left_behind(x_in + residual, y, features)
                pasts = [Past(*each) for each in zip(*(v.split(1) for v in left), strict=True)]
            residuals = residual.permute(0, 2, 3, 1).mul_(127.5).contiguous().cpu().numpy()
        return [Trace(*each) for each in zip(crops, residuals, pasts, strict=True)]

    def _recalled(self, crops: Sequence[Crop], traces: Sequence[Trace | None], y: Tensor) -> Memory:
        """What is left of each face's last frame, where it is now."""
        pasts: list[tuple[Past, Motion] | None] = []
        for crop, trace in zip(crops, traces, strict=True):
            past: Past | None = None if trace is None else trace.past
            if trace is None or past is None:
                pasts.append(None)
            else:
                pasts.append((past, self._motion.find(_seen(trace.crop), _seen(crop))))
        return self._engine.recall(pasts, y)

    def _eps(self, size: int, seed: int) -> Tensor:
        """(1, 3, S, S) standard normal noise of this seed, the same on every device."""
        key = (size, seed)
        if key not in self._noise:
            if len(self._noise) >= 16:
                self._noise.clear()
            generator = torch.Generator().manual_seed(seed)
            noise = torch.randn(1, 3, size, size, generator=generator).to(self.device)
            self._noise[key] = noise.to(memory_format=torch.channels_last)  # as the pictures are
        return self._noise[key]

    def level(self, fidelity: float) -> float:
        """That is taken for this fidelity; 1.0 for all where the weights have no levels."""
        return level_of(fidelity) if self._has_levels else 1.0

    def _pictures(self, images: Sequence[np.ndarray]) -> Tensor:
        """(B, 3, S, S) float32 in [-1, 1], channels last."""
        batch = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2)
        return batch.float().div_(127.5).sub_(1)

    def _camera(self, crops: Sequence[Crop]) -> Tensor:
        """(B, 2, 3) float32. Only the fraction of a px of the shift matters, and only it is precise."""
        maps = np.stack([c.camera for c in crops])
        maps[:, :, 2] %= 1
        return torch.from_numpy(maps).float().to(self.device)


def _seen(crop: Crop) -> np.ndarray:
    """The smallest picture of the crop in which motion is found."""
    return crop.y if len(crop.y) >= MOTION_PX else crop.x_in
