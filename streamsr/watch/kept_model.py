"""The model process, from the supervisor's side."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..clock import MONOTONIC
from ..errors import ModelError
from .child import SILENT_S, Child
from .device_job import DeviceJob, DeviceReport
from .kept import Kept
from .logs import ChildLines, event
from .status import DeviceFigures, DeviceState, DeviceStatus

__all__ = ["KeptModel"]

_log = logging.getLogger("streamsr.watch.supervisor")


class KeptModel(Kept):
    """on_refused: called where the first process cannot begin (no such device, say); ``refused``: why."""

    def __init__(self, job: DeviceJob, on_refused: Callable[[], None]) -> None:
        super().__init__("model", None, None)
        self.job = job
        self._last: DeviceReport | None = None
        self._ever_ready = False
        self._on_refused = on_refused
        self.refused: ModelError | None = None

    @property
    def model_sha256(self) -> str | None:
        return None if self._last is None else self._last.model_sha256

    def status(self) -> DeviceStatus:
        last, figures = self._last, {}
        state: DeviceState = self._stage
        if last is not None:
            figures = {name: getattr(last, name) for name in DeviceFigures.model_fields}
            if state == "starting":
                state = last.state
        return DeviceStatus(
            state=state,
            since_s=self._since_s,
            error=None if state == "ready" else self.error,
            restarts=self.restarts,
            process_id=self._process_id,
            **figures,
        )

    def _make(self) -> Child:
        self._last = None
        lines = ChildLines(None, process="model")
        return Child("watch.device", self.job.model_dump_json(), lines, self._take)

    def _is_finished(self, child: Child) -> bool:
        if child.exit_status == 2 and not self._ever_ready:
            said = self._last.error if self._last is not None else None
            self.refused = ModelError(said or "the model process cannot begin")
            self._on_refused()
            return True
        return False

    def _explained(self, reason: str) -> str:
        said = self._last.error if self._last is not None else None
        return f"{reason}: {said}" if said else reason

    def _take(self, message: dict[str, Any]) -> None:
        assert self._child is not None
        report = DeviceReport.model_validate({name: message[name] for name in message.keys() - {"kind"}})
        if report.state == "ready" and not (self._last is not None and self._last.state == "ready"):
            self._child.allowed_silence_s = SILENT_S
            self._ever_ready = True
            self._since_ns = MONOTONIC.now_ns()
            event(_log, logging.INFO, "model_ready", f"on {report.device}", sha256=report.model_sha256)
        self._last = report
