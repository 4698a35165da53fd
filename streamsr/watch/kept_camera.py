"""One camera, from the supervisor's side: its process, what it last said, its pictures."""

from __future__ import annotations

import asyncio
import base64
import logging
from typing import Any, Literal

from .camera_config import CameraConfig
from .camera_job import CameraJob
from .child import SILENT_S, Child
from .kept import Kept
from .logs import ChildLines, event
from .status import CameraState, CameraStatus

__all__ = ["KeptCamera"]

LOOK_S = 5.0  # somebody who has asked for a picture is taken to look for so long
QUIET = ("connecting", "streaming", "stopped")  # states that are no cause for worry
ASK_S = 1.0  # the process is told so at most this often

_log = logging.getLogger("streamsr.watch.supervisor")


class KeptCamera(Kept):
    """A camera that is switched off has no process, and ``run`` returns at once."""

    def __init__(self, job: CameraJob, turns: asyncio.Semaphore | None) -> None:
        super().__init__("camera", job.camera.name, turns)
        self._job = job
        self._last: CameraStatus | None = None  # of the process that runs, or ran last
        self._pictures: dict[str, bytes] = {}
        self._asked_at = 0.0

    def does(self, camera: CameraConfig | None) -> bool:
        """Whether ``camera``, its secrets included, is what this one has been told. Raises KeyedError."""
        return camera is not None and CameraJob.of(camera, self._job.device_socket) == self._job

    async def run(self) -> None:
        if self._job.camera.enabled:
            await super().run()
        else:
            self._enter("stopped")

    def status(self) -> CameraStatus:
        last = self._last
        update: dict[str, Any] = {"restarts": self.restarts}
        if last is None or self._stage == "backoff":
            state: CameraState = "failed" if self._stage == "backoff" else self._stage
            camera, since_s = self._job.camera, self._since_s
            last = CameraStatus(name=camera.name, priority=camera.priority, state=state, since_s=since_s)
            update |= {"process_id": self._process_id, "error": self.error}
        elif self._stage == "stopped":
            update |= {"state": "stopped", "since_s": self._since_s, "process_id": None}
        elif last.state == "starting" and last.error is None:
            update |= {"error": self.error}
        return last.model_copy(update=update)

    def snapshot(self, which: Literal["before", "after"]) -> bytes | None:
        """The newest picture, small, as JPEG; the process makes them while somebody asks."""
        now = asyncio.get_running_loop().time()
        if self._child is not None and now - self._asked_at > ASK_S:
            self._asked_at = now
            self._child.send(snapshots_s=LOOK_S)
        return self._pictures.get(which)

    def _make(self) -> Child:
        self._last = None
        self._pictures.clear()
        return Child("watch.camera", self._job.line(), ChildLines(self._camera), self._take)

    def _is_finished(self, child: Child) -> bool:
        camera = self._job.camera
        return child.exit_status == 0 and camera.is_file and not camera.loop

    def _explained(self, reason: str) -> str:
        said = self._last.error if self._last is not None and self._last.state == "failed" else None
        return f"{reason}: {said}" if said else reason

    def _take(self, message: dict[str, Any]) -> None:
        assert self._child is not None
        self._child.allowed_silence_s = SILENT_S
        if message["kind"] == "snapshots":
            self._pictures = {which: base64.b64decode(message[which]) for which in ("before", "after")}
            return
        status = CameraStatus.model_validate(message["status"])
        before = self._last.state if self._last is not None else "starting"
        self._last = status
        if status.state != "starting":
            self._begun.set()
        if status.state != before:
            level = (
                logging.INFO if status.state in ("streaming", "connecting", "stopped") else logging.WARNING
            )
            text = f"{before} -> {status.state}" + (f": {status.error}" if status.error else "")
            event(_log, level, "camera_state", text, camera=self._camera, state=status.state)
