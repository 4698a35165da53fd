"""Where the tests of a GPU's session run: there, and on CPU tensors with the host's build of the kernels."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kernel_host import run
from memories import loud_weights

from streamsr.clock import MONOTONIC, Clock
from streamsr.face.tracker import MediaPipeTracker
from streamsr.frame import Frame
from streamsr.gpu.pictures import DevicePictures
from streamsr.kernels import launch
from streamsr.model.device_backend import DeviceBackend
from streamsr.model.restorer import Restorer, choose_device
from streamsr.model.weights import load_weights
from streamsr.session import Session

__all__ = [
    "DeviceEnhancer",
    "device",
    "device_session",
    "frame_of",
    "launches",
    "on_device",
    "restorer",
    "weights",
]

_one_at_a_time = threading.Lock()  # the host's threadIdx is one for all threads
_launches: Counter[str] = Counter()


def _counted(inner: Callable[..., None]) -> Callable[..., None]:
    def runner(op: str, *arguments: Any) -> None:
        with _one_at_a_time:
            _launches[op] += 1
            inner(op, *arguments)

    return runner


@pytest.fixture(scope="module", params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    with pytest.MonkeyPatch.context() as patch:
        inner = run if request.param == "cpu" else launch.RUNNERS["cuda"]
        patch.setitem(launch.RUNNERS, request.param, _counted(inner))
        yield choose_device(request.param)


@pytest.fixture
def launches() -> Counter[str]:
    """By op, of this test."""
    _launches.clear()
    return _launches


@contextmanager
def on_device(path: Path | None, device: torch.device) -> Iterator[Restorer]:
    restorer = Restorer(lambda: DeviceBackend(load_weights(path), device, "f32"))
    yield restorer
    restorer.close()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loud_weights(tmp_path_factory.mktemp("weights") / "recurrent.safetensors")


@pytest.fixture(scope="module")
def restorer(weights: Path, device: torch.device) -> Iterator[Restorer]:
    with on_device(weights, device) as restorer:
        yield restorer


def frame_of(image: np.ndarray, index: int, cut: bool = False) -> Frame:
    return Frame(image, index, Fraction(1, 25), 0, index, discontinuity=cut or index == 0)


@contextmanager
def device_session(
    restorer: Restorer, scale: int, *, steps: Any = 1, seed: int = 0, clock: Clock = MONOTONIC
) -> Iterator[Session]:
    session = _session(restorer, scale, steps, seed, clock)
    yield session
    session.close()


def _session(restorer: Restorer, scale: int, steps: Any, seed: int, clock: Clock) -> Session:
    return Session(
        restorer,
        scale=scale,
        fidelity=0.4,
        steps=steps,
        seed=seed,
        tracker=MediaPipeTracker(),
        clock=clock,
        pictures=DevicePictures(scale, restorer.device),
    )


class DeviceEnhancer:
    """``stages.Enhancer``, for a pipeline."""

    engine, model_sha256, warnings = "eager", "0" * 64, ()

    def __init__(self, restorer: Restorer) -> None:
        self._restorer, self.device = restorer, restorer.device_type

    def session(self, *, scale: int = 2, clock: Clock = MONOTONIC) -> Session:
        return _session(self._restorer, scale, 1, 0, clock)
