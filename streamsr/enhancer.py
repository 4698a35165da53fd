"""Frame -> faces -> model -> composite: weights on a device, and a ``Session`` for each stream."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from .clock import MONOTONIC, Clock
from .errors import ConfigError
from .face.tracker import MediaPipeTracker, Tracker
from .machine import usable_cpus
from .model.restorer import Restorer
from .pictures import HostPictures, Pictures
from .session import DEFAULT_FIDELITY, Session

__all__ = ["Enhancer", "Session", "pictures_on"]


def pictures_on(device: torch.device, scale: int) -> Pictures:
    """For a session whose restorer is on ``device`` and in this process. scale: of the output."""
    if device.type == "cpu":
        return HostPictures(scale)
    from .gpu.pictures import DevicePictures

    return DevicePictures(scale, device)


class Enhancer:
    """Weights on a device, shared by all sessions.

    weights: a safetensors file; the packaged ones by default. device: "auto" (cuda where there is
    one, else cpu), "cpu" or "cuda". engine: what evaluates the network. "auto": "openvino" on a CPU; on a
    GPU "eager", torch with CUDA graphs. There "inductor" and "tensorrt" are compiled in the background
    while eager serves, and kept on disk; what keeps one from serving stands in ``warnings``. threads: of
    the CPU that the network may use; by default all. Raises ModelError, DeviceError, ConfigError.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        device: str = "auto",
        engine: str = "auto",
        threads: int | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise ConfigError(f"threads must be at least 1, got {threads}")
        self._restorer = Restorer.load(
            None if weights is None else Path(weights),
            device=device,
            engine=engine,
            threads=threads or usable_cpus(),
        )
        self._restorer.warm_up(DEFAULT_FIDELITY)

    def close(self) -> None:
        """End the model's thread; sessions cannot enhance afterwards. May be called twice."""
        self._restorer.close()

    def __enter__(self) -> Enhancer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def device(self) -> str:
        return self._restorer.device_type

    @property
    def engine(self) -> str:
        """That serves now; two, while a compiled one takes over."""
        return self._restorer.engine

    @property
    def warnings(self) -> list[str]:
        return self._restorer.warnings

    @property
    def model_sha256(self) -> str:
        return self._restorer.sha256

    def session(
        self,
        *,
        scale: int = 2,
        fidelity: float | None = None,
        steps: int | Literal["auto"] | None = None,
        seed: int | None = None,
        tracker: Tracker | None = None,
        clock: Clock = MONOTONIC,
    ) -> Session:
        """Per-stream state: tracks, noise, caches.

        scale: of the output, 1, 2, 4 or 8. fidelity: 0 (perceptual) to 1, in five levels, see
        ``model.weights``; the first session at a level takes a second to begin. steps: network evaluations a
        face, or "auto": on a CPU one, on a GPU what each face needs. seed: of the noise. tracker: by default
        mediapipe's. Raises ConfigError.
        """
        return Session(
            self._restorer,
            scale=scale,
            fidelity=DEFAULT_FIDELITY if fidelity is None else fidelity,
            steps="auto" if steps is None else steps,
            seed=seed or 0,
            tracker=MediaPipeTracker() if tracker is None else tracker,
            clock=clock,
            pictures=pictures_on(self._restorer.device, scale),
        )
