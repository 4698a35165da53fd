"""Where the processes of ``streamsr watch`` run, and what their supervisor asks of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Literal, Protocol, Self

from ..errors import ModelError
from ..machine import usable_cpus
from .camera_config import CameraConfig
from .camera_job import CameraJob
from .device_job import DeviceJob
from .kept_camera import KeptCamera
from .kept_model import KeptModel
from .own_folder import own_folder
from .status import CameraStatus, DeviceStatus

__all__ = ["KeptAlive", "Machines", "ThisMachine", "WatchedCamera", "WatchedModel"]

STARTING_AT_ONCE = 2  # camera processes per processor


class KeptAlive(Protocol):
    async def run(self) -> None:
        """Its life: until ``stop``, or until there is nothing left to do."""
        ...

    async def stop(self, patience_s: float) -> None:
        """In good order where that takes no longer than this; nothing may be left to run."""
        ...

    def kill(self, reason: str) -> None:
        """At once and for good."""
        ...


class WatchedCamera(KeptAlive, Protocol):
    """One camera's process, wherever it is."""

    def does(self, camera: CameraConfig | None) -> bool:
        """Whether ``camera``, its secrets included, is what this one has been told. Raises KeyedError."""
        ...

    def status(self) -> CameraStatus: ...

    def snapshot(self, which: Literal["before", "after"]) -> bytes | None:
        """The newest picture, small, as JPEG; the process makes them while somebody asks."""
        ...


class WatchedModel(KeptAlive, Protocol):
    """The model process, or those of all machines, each for the cameras of its own.

    refused: why it cannot begin (no such device, say); None: it can.
    """

    job: DeviceJob
    refused: ModelError | None

    @property
    def model_sha256(self) -> str | None: ...

    def status(self) -> DeviceStatus: ...


class Machines(Protocol):
    """socket: path of the model process's; "": each machine has its own."""

    @property
    def socket(self) -> str: ...

    def model(self, job: DeviceJob, on_refused: Callable[[], None]) -> WatchedModel:
        """on_refused: called once ``refused`` says why."""
        ...

    def camera(self, camera: CameraConfig) -> WatchedCamera:
        """Its secrets are read here. Raises KeyedError."""
        ...


class ThisMachine:
    """All processes on this one: ``with ThisMachine() as machines``."""

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self.socket = str(opened.enter_context(own_folder()) / "model")
            self._opened = opened.pop_all()
        self._turns = asyncio.Semaphore(STARTING_AT_ONCE * usable_cpus())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def model(self, job: DeviceJob, on_refused: Callable[[], None]) -> KeptModel:
        return KeptModel(job, on_refused)

    def camera(self, camera: CameraConfig) -> KeptCamera:
        return KeptCamera(CameraJob.of(camera, self.socket), self._turns)
