"""Network and guide ready to run on one device, on batches of aligned crops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..errors import DeviceError, ModelError
from ..machine import usable_cpus
from .backend import Asked, Backend, Found
from .batches import Batches
from .crop import Crop, DeviceCrop
from .engine import Precision
from .levels import Levels
from .reading import GuideReading, Trace
from .recurrence import RESCALING
from .weights import level_of, load_weights

__all__ = ["GuideReading", "Restorer", "Trace", "choose_device", "choose_engine"]

ENGINES = {"cpu": ("openvino",), "cuda": ("eager", "inductor", "tensorrt")}  # the first: by default


def choose_device(device: str) -> torch.device:
    """ "auto": cuda where there is one, else cpu. Raises DeviceError for a device that is not there."""
    if device not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"device must be auto, cpu or cuda, got {device}")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device cuda asked for, but torch sees no NVIDIA GPU: use --device cpu or auto")
    if device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def choose_engine(engine: str, device: torch.device) -> str:
    """ "auto": openvino on a CPU, eager on a GPU. Raises DeviceError for one that is not for this device."""
    known = ENGINES[device.type]
    if engine != "auto" and engine not in known:
        raise DeviceError(f"engine must be auto or {' or '.join(known)} on {device.type}, got {engine}")
    return known[0] if engine == "auto" else engine


class Restorer:
    """One model shared by every stream of a process, on one thread of its own, which is its lock.

    make: called on that thread, gives what it works with. On a GPU, calls that wait for the thread and are
    alike run as one, whichever streams they are of; on a CPU that would save nothing.
    """

    waited_ms = 0.0  # not known apart from the work: see session.FaceRestorer

    def __init__(self, make: Callable[[], Backend]) -> None:
        self._batches = Batches()
        self._levels = Levels(self.prepare_aside)
        try:
            self._backend = self._batches.alone(make)
        except BaseException:  # whatever it was, no thread stays behind
            self._batches.close()
            raise
        self._batches.most = self._backend.most
        weights = self._backend.weights
        self.sha256, self.description = weights.sha256, weights.description
        self.sizes = weights.network.config.sizes

    def close(self) -> None:
        """End the thread, and what is being built. May be called twice."""
        self._levels.close()
        self._batches.close()
        self._backend.close()

    @classmethod
    def load(
        cls,
        path: Path | None = None,
        *,
        device: str = "auto",
        engine: str = "auto",
        precision: Precision | None = None,
        threads: int | None = None,
        rescaling: int = RESCALING,
    ) -> Restorer:
        """The packaged weights, or those at ``path``. Raises ModelError, DeviceError, ConfigError.

        engine: see ``choose_engine``; inductor and tensorrt are built aside, while eager serves.
        precision: by default the fastest: bf16 on a GPU, on a CPU see ``openvino_engine.cpu_precision``.
        threads: of the CPU that the engine may use, by default all. rescaling: s of the cache's warp.
        """
        chosen = choose_device(device)
        named = choose_engine(engine, chosen)

        def make() -> Backend:
            weights = load_weights(path)
            if chosen.type == "cpu":
                from .host_backend import HostBackend

                return HostBackend(weights, precision, threads or usable_cpus(), rescaling)
            from .device_backend import DeviceBackend

            precise, builds = precision or "bf16", None
            if named != "eager":
                from .compiled.builds import Builds
                from .compiled.process import COMPILERS

                builds = Builds(COMPILERS[named](), weights, chosen, precise)
            return DeviceBackend(weights, chosen, precise, rescaling, builds)

        return cls(make)

    @property
    def device(self) -> torch.device:
        return self._backend.device

    @property
    def device_type(self) -> str:
        return self.device.type

    @property
    def engine(self) -> str:
        """That serves now: "openvino", "eager", "inductor", "tensorrt"; two, while one takes over."""
        return self._backend.serving

    @property
    def warnings(self) -> list[str]:
        """Why an engine that was asked for does not serve, a line for each reason."""
        return list(self._backend.warnings)

    @property
    def precision(self) -> Precision:
        return self._backend.precision

    def prepare(self, fidelity: float) -> None:
        """Have this level of fidelity at hand before the first frame asks for it."""
        self._batches.alone(partial(self.prepare_aside, fidelity))
        self._levels.ready(self.level(fidelity))

    def prepare_aside(self, fidelity: float) -> None:
        """``prepare`` on the caller's thread; meanwhile other levels may be used, but not this one."""
        self._backend.prepare(self.level(fidelity))

    def warm_up(self, fidelity: float = 1.0) -> None:
        """Run each size once: the first evaluation prepares kernels and takes several times as long."""
        for size in self.sizes:
            x_in, y = (np.zeros((side, side, 3), np.uint8) for side in (size, size // 4))
            crop = Crop(x_in, y, np.eye(2, 3) / 2, np.zeros((16, 16), np.float32))
            readings = self.guide([crop])
            for steps in self._backend.steps_at_start:
                first = self.restore([crop], readings, steps=steps, fidelity=fidelity)
                self.restore([crop], readings, first, steps=steps, fidelity=fidelity)

    def guide(self, crops: Sequence[Crop | DeviceCrop], deadline_ns: int | None = None) -> list[GuideReading]:
        """Ask the guide about crops of one size. deadline_ns: of no effect, all is done in turn."""
        seen = [self._backend.seen(crop) for crop in crops]
        kind = "guide", type(crops[0]), crops[0].size
        found = self._batches.evaluate(kind, seen, self._backend.read)
        _wait_for(found)
        return [GuideReading(row[:7], *row[7:].tolist()) for row, _ in found]

    def restore(
        self,
        crops: Sequence[Crop | DeviceCrop],
        readings: Sequence[GuideReading],
        traces: Sequence[Trace | None] | None = None,
        *,
        steps: int = 1,
        seed: int = 0,
        fidelity: float = 1.0,
        deadline_ns: int | None = None,
    ) -> list[Trace]:
        """Crops of one size and kind, restored.

        traces: what this gave for the last frame of each face, None for a face without one; without
        effect on weights that know no past. steps: network evaluations, uniform in t from each crop's t0.
        fidelity: 0 to 1, of which the nearest level is taken if the weights have levels. seed: of the noise,
        which stays fixed in face coordinates. Equal input gives equal output; a batch gives what its crops
        give alone. Raises ModelError.

        With a deadline a level that is not prepared yet is prepared aside, and meanwhile the last one serves;
        without, the call waits for it. On a GPU this returns as soon as the work is queued, with crops of the
        device and without a deadline; with one, when it is done, so that its caller learns what it takes.
        Else a deadline is of no effect.
        """
        if steps < 1:
            raise ModelError(f"steps must be at least 1, got {steps}")
        traces = [None] * len(crops) if traces is None else traces
        sizes = {c.size for c in crops} | {trace.crop.size for trace in traces if trace is not None}
        if len(sizes) != 1 or not sizes <= set(self.sizes):
            raise ModelError(f"crops must share one size of {self.sizes}, got {sorted(sizes)}")
        level = self.level(fidelity)
        if deadline_ns is not None:
            level = self._levels.take(level)
        asked = [Asked(*each) for each in zip(crops, readings, traces, strict=True)]
        kind = "restore", type(crops[0]), crops[0].size, steps, seed, level
        run = partial(self._backend.restore, steps=steps, seed=seed, level=level)
        found = self._batches.evaluate(kind, asked, run)
        if deadline_ns is not None or isinstance(crops[0], Crop):
            _wait_for(found)
        return [trace for trace, _ in found]

    def level(self, fidelity: float) -> float:
        """That is taken for this fidelity; 1.0 for all where the weights have no levels."""
        return level_of(fidelity) if self._backend.weights.change else 1.0


def _wait_for(found: Iterable[Found]) -> None:
    for each in found:
        if each.done is not None:
            each.done.synchronize()
