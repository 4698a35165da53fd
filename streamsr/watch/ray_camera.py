"""One camera on a Ray cluster, from the driver's side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from ..clock import MONOTONIC, NS_PER_S
from .camera_config import CameraConfig
from .camera_job import CameraJob
from .kept_camera import LOOK_S
from .ray_actor import ANSWER_S, KeptActor
from .ray_node import CameraReport, Place
from .status import CameraState, CameraStatus

__all__ = ["CameraOnRay"]


class CameraOnRay(KeptActor[CameraReport]):
    """make: an actor for a job, which is JSON. needs: what a machine must have for it, in words."""

    def __init__(self, job: CameraJob, make: Callable[[str], Any], needs: str) -> None:
        super().__init__("camera", job.camera.name)
        self._job, self._make_for, self._needs = job, make, needs
        self._pictures: dict[str, bytes] = {}
        self._looked_ns: int | None = None
        self._since_ns = MONOTONIC.now_ns()

    @property
    def place(self) -> Place | None:
        """Where it runs; None while that is not known."""
        return self.last.place if self.last is not None and self.answers and not self.stopping else None

    def does(self, camera: CameraConfig | None) -> bool:
        return camera is not None and CameraJob.of(camera, self._job.device_socket) == self._job

    async def run(self) -> None:
        if self._job.camera.enabled:
            await super().run()

    def status(self) -> CameraStatus:
        camera, last = self._job.camera, self.last
        if last is None or not camera.enabled:
            state: CameraState = "starting" if camera.enabled else "stopped"
            return CameraStatus(
                name=camera.name,
                priority=camera.priority,
                state=state,
                since_s=(MONOTONIC.now_ns() - self._since_ns) / NS_PER_S,
                error=self._waits() if camera.enabled else None,
            )
        now: dict[str, Any] = {"node": last.place.name, "restarts": self.restarts}
        if not self.answers:
            error = self.error or f"{last.place.name} has not answered for {self.silent_s:.0f} s"
            now |= {"state": "failed", "since_s": self.silent_s, "error": error, "fps": 0.0}
        return last.status.model_copy(update=now)

    def snapshot(self, which: Literal["before", "after"]) -> bytes | None:
        self._looked_ns = MONOTONIC.now_ns()
        return self._pictures.get(which)

    def _make(self) -> Any:
        return self._make_for(self._job.line())

    def _ask(self, actor: Any) -> Any:
        looked_ns = self._looked_ns
        return actor.report.remote(
            looked_ns is not None and MONOTONIC.now_ns() - looked_ns < LOOK_S * NS_PER_S
        )

    def _hear(self, report: CameraReport) -> None:
        self._pictures = report.pictures or self._pictures

    def _waits(self) -> str | None:
        if self.error is not None or self.silent_s < ANSWER_S:
            return self.error
        return f"has not begun: it takes a machine with {self._needs} free"
