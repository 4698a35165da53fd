"""All processes of ``streamsr watch``: started, kept alive, told of a new configuration, ended."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Literal

from ..clock import MONOTONIC, NS_PER_S
from ..errors import ConfigError
from ..machine import resident_mb, used_cpu_s
from ..session_options import DEFAULT_FIDELITY
from ..version import __version__
from .camera_config import CameraConfig
from .config import WatchConfig, load
from .device_job import DeviceJob
from .listening import Listening
from .logs import event
from .machines import Machines, WatchedCamera, WatchedModel
from .status import WatchStatus

__all__ = ["Supervisor"]

CAMERA_STOP_S = 12.0  # outputs are finished by then
MODEL_STOP_S = 3.0

_log = logging.getLogger(__name__)


class Supervisor:
    """``run`` is its life; ``reload`` and ``stop`` may be called meanwhile, on the loop's thread.

    path: of the configuration, read again by ``reload``; ``config``: what it held. machines: where the
    processes run.
    """

    def __init__(self, path: str | os.PathLike[str], config: WatchConfig, machines: Machines) -> None:
        self._path, self._config, self._machines = path, config, machines
        self._started_ns = MONOTONIC.now_ns()
        self._wake = asyncio.Event()
        self._stopping = self._reload_wanted = False
        self._reloads = 0
        self._reload_error: str | None = None
        self._cameras: dict[str, WatchedCamera] = {}  # in the order of the file
        self._http = Listening(self)

    async def run(self) -> None:
        """Until ``stop``: then the outputs are finished. Raises ConfigError, ModelError: it cannot begin."""
        async with self._http, asyncio.TaskGroup() as self._tasks:
            self._model = self._start_model(self._model_job(self._config))
            for camera in self._config.cameras:
                self._cameras[camera.name] = self._start_camera(camera)
            try:
                await self._http.change(self._config.watch.http())
                await self._serve()
            finally:
                await self._end()

    def stop(self) -> None:
        """Finish all outputs, end all processes. A second call does not wait for them."""
        if self._stopping:
            for kept in (self._model, *self._cameras.values()):
                kept.kill("not waited for")
        self._stopping = True
        self._wake.set()

    def reload(self) -> None:
        """Read the configuration again. A wrong one changes nothing and is logged; a right one ends,
        restarts and begins the cameras that changed, and no other."""
        self._reload_wanted = True
        self._wake.set()

    def status(self) -> WatchStatus:
        return WatchStatus(
            version=__version__,
            uptime_s=(MONOTONIC.now_ns() - self._started_ns) / NS_PER_S,
            cameras=tuple(kept.status() for kept in self._cameras.values()),
            model=self._model.status(),
            model_sha256=self._model.model_sha256,
            reloads=self._reloads,
            reload_error=self._reload_error,
            rss_mb=resident_mb(),
            cpu_s=used_cpu_s(),
        )

    def snapshot(self, name: str, which: Literal["before", "after"]) -> bytes | None:
        """The newest picture of a camera as JPEG, small; None before the first. KeyError: no such camera."""
        return self._cameras[name].snapshot(which)

    async def _serve(self) -> None:
        """Until ``stop``. Raises ModelError where the model process cannot begin."""
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            if self._model.refused is not None:
                raise self._model.refused
            if self._reload_wanted and not self._stopping:
                self._reload_wanted = False
                await self._reload()

    async def _reload(self) -> None:
        try:
            config = await asyncio.to_thread(load, self._path)
            await self._http.change(config.watch.http())
        except ConfigError as error:
            self._reload_error = str(error)
            message = f"{error}; all goes on as it was"
            event(_log, logging.ERROR, "reload_refused", message)
            return
        self._reload_error = None
        self._reloads += 1
        await self._apply(config)

    async def _apply(self, config: WatchConfig) -> None:
        """End what is gone or changed, all at a time, then begin what is new or changed."""
        wanted = {camera.name: camera for camera in config.cameras}
        leaving = {name: kept for name, kept in self._cameras.items() if not kept.does(wanted.get(name))}
        came = [name for name in wanted if name not in self._cameras]
        stops = [kept.stop(CAMERA_STOP_S) for kept in leaving.values()]
        model_job = self._model_job(config)
        # another fidelity it learns from the cameras
        model_changed = model_job != self._model.job.model_copy(update={"fidelities": model_job.fidelities})
        if model_changed:
            stops.append(self._model.stop(MODEL_STOP_S))
        await asyncio.gather(*stops)
        if self._stopping:
            return
        if model_changed:
            self._model = self._start_model(model_job)
        self._cameras = {
            name: self._start_camera(camera)
            if name in leaving or name not in self._cameras
            else self._cameras[name]
            for name, camera in wanted.items()
        }
        for key in ("log", "ray"):
            if getattr(config.watch, key) != getattr(self._config.watch, key):
                message = f"another watch.{key} needs a restart"
                event(_log, logging.WARNING, "reload_incomplete", message)
        self._config = config
        changed = [name for name in leaving if name in wanted]
        removed = [name for name in leaving if name not in wanted]
        message = f"{len(came)} cameras added, {len(changed)} changed, {len(removed)} removed"
        event(_log, logging.INFO, "reloaded", message, added=came, changed=changed, removed=removed)

    async def _end(self) -> None:
        await asyncio.gather(*(kept.stop(CAMERA_STOP_S) for kept in self._cameras.values()))
        await self._model.stop(MODEL_STOP_S)

    def _model_job(self, config: WatchConfig) -> DeviceJob:
        levels = {
            DEFAULT_FIDELITY if camera.fidelity is None else camera.fidelity for camera in config.cameras
        }
        return DeviceJob(
            socket=self._machines.socket,
            device=config.watch.device,
            engine=config.watch.engine,
            threads=config.watch.threads,
            fidelities=tuple(sorted(levels)),
        )

    def _start_model(self, job: DeviceJob) -> WatchedModel:
        model = self._machines.model(job, self._wake.set)
        self._tasks.create_task(model.run())
        return model

    def _start_camera(self, camera: CameraConfig) -> WatchedCamera:
        kept = self._machines.camera(camera)
        self._tasks.create_task(kept.run())
        return kept
