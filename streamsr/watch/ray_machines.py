"""The machines of a Ray cluster: ``streamsr watch --ray``.

Every camera is an actor, placed where there is room and spread over the machines; Ray starts it again on
another one when its machine dies. On every machine with cameras one more actor keeps the model process that
they share. All of them end with the driver, however it ends.

The driver reads configuration and secrets, from its own environment and files. They travel in the arguments
of the actors, which Ray keeps in its control store while the actor lives and does not log; on a network that
others can read, Ray's own traffic is to be encrypted (RAY_USE_TLS). Paths (recordings, evidence and its key,
files as sources) are opened on the machine where the camera is just now, by the name that they have for the
driver: they belong on storage that all machines share.

Ray notices that a machine is gone after ``health_check_failure_threshold`` checks, one each
``health_check_period_ms``, which the head node takes from its environment (RAY_health_check_period_ms=1000).
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import ConfigError
from ..version import __version__
from .camera_config import CameraConfig
from .camera_job import CameraJob
from .config import RaySettings, WatchSettings
from .device_job import DeviceJob
from .logs import event
from .ray_camera import CameraOnRay
from .ray_models import ModelsOnRay
from .ray_node import CameraOnNode, ModelOnNode, Place

__all__ = ["RayMachines"]

CALLS_AT_ONCE = 4  # of an actor: a report while it is stopped, say
REACH_S = 5.0  # for a connection to the head node

_log = logging.getLogger(__name__)


class RayMachines:
    """``with RayMachines(settings) as machines``, outside of the event loop, inside of ``logging_to``.

    Raises ConfigError where there is no such cluster, or no GPU is asked for and one is to be used.
    """

    socket = ""  # each machine has its own

    def __init__(self, settings: WatchSettings) -> None:
        if settings.device == "cuda" and settings.ray.gpus_per_camera == 0:
            raise ConfigError('watch.ray.gpus_per_camera must be above 0 for watch.device = "cuda"')
        self._settings = settings.ray
        self._run = secrets.token_hex(8)
        self._camera, self._model = ray.remote(CameraOnNode), ray.remote(ModelOnNode)
        self._cameras: list[CameraOnRay] = []

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            opened.enter_context(contextlib.redirect_stdout(_Words()))  # type: ignore[type-var]
            opened.callback(ray.shutdown)
            _connect(self._settings)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def camera(self, camera: CameraConfig) -> CameraOnRay:
        made = CameraOnRay(CameraJob.of(camera, self.socket), self._camera_actor, self._needs())
        self._cameras = [*(one for one in self._cameras if not one.stopping), made]
        return made

    def model(self, job: DeviceJob, on_refused: Callable[[], None]) -> ModelsOnRay:
        return ModelsOnRay(job, self._model_actor, self._places, on_refused)

    def _places(self) -> set[Place]:
        return {place for camera in self._cameras if (place := camera.place) is not None}

    def _needs(self) -> str:
        gpus = self._settings.gpus_per_camera
        return f"{self._settings.cpus_per_camera:g} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")

    def _camera_actor(self, job: str) -> Any:
        actor = self._camera.options(
            num_cpus=self._settings.cpus_per_camera,
            num_gpus=self._settings.gpus_per_camera,
            scheduling_strategy="SPREAD",
            max_restarts=-1,
            max_concurrency=CALLS_AT_ONCE,
        )
        return actor.remote(__version__, job, self._run)

    def _model_actor(self, job: str, place: Place) -> Any:
        """It lives on what the cameras of its place were given."""
        actor = self._model.options(
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.node_id, soft=False),
            max_restarts=-1,
            max_concurrency=CALLS_AT_ONCE,
        )
        return actor.remote(__version__, job, self._run, place.gpu)


class _Words:
    """What Ray prints of the cluster becomes log lines; the dumps in between, which are indented, do not."""

    def write(self, text: str) -> int:
        for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines():
            if line.strip() and not line.startswith((" ", "\t")):
                event(_log, logging.WARNING, "ray", line)
        return len(text)

    def flush(self) -> None:
        """As a stream has it."""


def _connect(settings: RaySettings) -> None:
    address = settings.address or os.environ.get("RAY_ADDRESS") or "auto"
    _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (OSError, RuntimeError, ValueError) as error:
        where = "on this machine" if address == "auto" else f"at {address}"
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"no Ray cluster {where} to run on: {said[0]} (`ray start --head` begins one, and "
            f"`ray start --address=HOST:6379` takes a machine into it)"
        ) from None
    event(_log, logging.INFO, "cluster", f"{len(ray.nodes())} nodes of Ray", ray=ray.__version__)


def _check_reachable(address: str) -> None:
    """Ray itself tries for half an hour."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdigit():
        raise ConfigError(f"RAY_ADDRESS must be HOST:PORT of the head node, got {address}")
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster at {address}: {error}") from None
