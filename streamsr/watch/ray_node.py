"""What runs on the machines of a Ray cluster: actors that keep the ordinary processes of ``streamsr watch``.

One for each camera, wherever there is room, and one for the model process on each machine that has cameras
(of each of its GPUs, where cameras are given GPUs). An actor starts its process again as the supervisor of a
single machine does; where the actor itself dies, or its machine, Ray starts it again.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass

import ray

from ..errors import ConfigError
from ..version import __version__
from .camera_job import CameraJob
from .device_job import DeviceJob
from .kept import Kept
from .kept_camera import KeptCamera
from .kept_model import KeptModel
from .logs import logging_to
from .own_folder import named_folder, path_of
from .status import CameraStatus, DeviceStatus

__all__ = ["CameraOnNode", "CameraReport", "ModelOnNode", "ModelReport", "Place", "Report"]

LOG_LINES = 1000  # that wait to be asked for; of more, the newest are kept
SOCKET = "model"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """A machine, and of its GPUs the one of which a camera was given a part; None: none."""

    node_id: str
    address: str
    gpu: str | None

    @classmethod
    def here(cls) -> Place:
        context = ray.get_runtime_context()
        gpus = context.get_accelerator_ids().get("GPU", [])
        return cls(context.get_node_id(), ray.util.get_node_ip_address(), gpus[0] if gpus else None)

    @property
    def name(self) -> str:
        """To be shown: the address, and enough of the id to tell two nodes of one machine apart."""
        return f"{self.address}/{self.node_id[:8]}" + ("" if self.gpu is None else f"/gpu{self.gpu}")

    def folder(self, run: str) -> str:
        """Name of its model process's folder. run: a word of this run of ``watch`` that nobody can guess."""
        return f"{run}-{self.node_id[:12]}" + ("" if self.gpu is None else f"-{self.gpu}")


@dataclass(frozen=True)
class Report:
    """life: of this actor, another one after a restart. restarts: of its process in this life. lines: of its
    log since the last report, JSON."""

    place: Place
    life: str
    restarts: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class CameraReport(Report):
    """pictures: "before" and "after", JPEG; empty where nobody asked or they have not changed."""

    status: CameraStatus
    pictures: dict[str, bytes]


@dataclass(frozen=True)
class ModelReport(Report):
    """refused: why its process cannot begin; None: it can."""

    status: DeviceStatus
    model_sha256: str | None
    refused: str | None


class CameraOnNode:
    """Keeps one camera's process. On an event loop, as all actors here; begins at once.

    version: of the driver's streamsr. job: a ``CameraJob`` as JSON, its secrets included; the socket is this
    machine's. run: see ``Place.folder``. Raises ConfigError where another version is installed here.
    """

    def __init__(self, version: str, job: str, run: str) -> None:
        _check(version)
        self._place, self._lines = Place.here(), _Lines()
        told = CameraJob.model_validate_json(job)
        socket = path_of(self._place.folder(run)) / SOCKET
        self._name = told.camera.name
        self._kept = KeptCamera(told.model_copy(update={"device_socket": str(socket)}), None)
        self._shown: dict[str, bytes] = {}
        self._task = _begin(self._kept)

    def __repr__(self) -> str:
        """Ray shows it where it lists actors."""
        return f"{type(self).__name__}({self._name})"

    async def report(self, look: bool) -> CameraReport:
        """look: somebody wants to see pictures."""
        return self._report(self._new_pictures() if look else {})

    async def stop(self, patience_s: float) -> CameraReport:
        """Finish the outputs; the last report."""
        await self._kept.stop(patience_s)
        return self._report({})

    def _report(self, pictures: dict[str, bytes]) -> CameraReport:
        kept, lines = self._kept, self._lines.take()
        return CameraReport(self._place, _life(self._place), kept.restarts, lines, kept.status(), pictures)

    def _new_pictures(self) -> dict[str, bytes]:
        before, after = self._kept.snapshot("before"), self._kept.snapshot("after")
        if before is None or after is None or self._shown == (found := {"before": before, "after": after}):
            return {}
        self._shown = found
        return found


class ModelOnNode:
    """Keeps the model process of one place. job: a ``DeviceJob`` as JSON; the socket is this machine's.

    gpu: the only one that the process may see; None: it sees none.
    """

    def __init__(self, version: str, job: str, run: str, gpu: str | None) -> None:
        _check(version)
        here = Place.here()
        self._place, self._lines = Place(here.node_id, here.address, gpu), _Lines()
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu or ""
        self._folder = ExitStack()
        folder = self._folder.enter_context(named_folder(self._place.folder(run)))
        told = DeviceJob.model_validate_json(job)
        told = told.model_copy(update={"socket": str(folder / SOCKET)})
        self._kept = KeptModel(told, lambda: None)
        self._task = _begin(self._kept)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place.name})"

    async def report(self) -> ModelReport:
        kept, lines = self._kept, self._lines.take()
        return ModelReport(
            self._place,
            _life(self._place),
            kept.restarts,
            lines,
            kept.status(),
            kept.model_sha256,
            None if kept.refused is None else str(kept.refused),
        )

    async def stop(self, patience_s: float) -> ModelReport:
        await self._kept.stop(patience_s)
        self._folder.close()
        return await self.report()


class _Lines:
    """All log lines of this process from now on, until they are asked for. Bounded."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LOG_LINES)
        self._logging = ExitStack()
        self._logging.enter_context(logging_to(self, "json"))  # type: ignore[arg-type]

    def write(self, text: str) -> None:
        self._lines.append(text)

    def flush(self) -> None:
        """As a stream has it."""

    def take(self) -> tuple[str, ...]:
        return tuple(self._lines.popleft() for _ in range(len(self._lines)))


def _check(version: str) -> None:
    if version != __version__:
        raise ConfigError(f"streamsr {__version__} is installed there, and the driver's is {version}")


def _life(place: Place) -> str:
    return f"{place.node_id}:{os.getpid()}"


def _begin(kept: Kept) -> asyncio.Task[None]:
    task = asyncio.create_task(kept.run())
    task.add_done_callback(_die_of_mistakes)
    return task


def _die_of_mistakes(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        os._exit(1)  # Ray starts this actor again
