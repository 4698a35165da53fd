"""What a camera's process tells of itself."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..clock import NS_PER_S, Clock
from ..errors import redact
from ..machine import resident_mb, used_cpu_s
from ..run_report import RunReport
from .camera_config import CameraConfig
from .status import CameraState, CameraStatus, SinkStatus, SourceStatus

if TYPE_CHECKING:
    from .patient_source import PatientSource

__all__ = ["StatusOfCamera"]

FPS_OVER = 6  # statuses, one a second
FIGURES = (  # that a status has from the run's report as they are
    "input_px",
    "output_px",
    "age_ms",
    "frames_in",
    "frames_out",
    "frames_dropped",
    "faces",
    "restored_share",
    "rungs",
    "bypassed",
    "nfe",
    "restored_px",
    "t0_mean",
    "certificate_rms",
    "certificate_max",
)


class StatusOfCamera:
    """Gathers one ``CameraStatus`` after the other. On one thread."""

    def __init__(self, camera: CameraConfig, clock: Clock) -> None:
        self._camera, self._clock = camera, clock
        self._state: CameraState = "starting"
        self._since_ns = clock.now_ns()
        self._frames: deque[tuple[int, int]] = deque(maxlen=FPS_OVER)  # time, frames out

    def now(
        self,
        source: PatientSource | None,
        report: RunReport | None,
        sinks: tuple[SinkStatus, ...],
        *,
        ended: CameraState | None = None,
        error: str | None = None,
    ) -> CameraStatus:
        """source: None while it loads. report: None before the stream began. ended: what it came to."""
        now_ns = self._clock.now_ns()
        counts = _counts(source)
        state = ended or _state(source, counts)
        if state != self._state:
            self._state, self._since_ns = state, now_ns
        figures = {name: getattr(report, name) for name in FIGURES} if report is not None else {}
        self._frames.append((now_ns, figures.get("frames_out", 0)))
        known = {name: value for name, value in counts.items() if name in SourceStatus.model_fields}
        if source is not None and report is not None and "frames" not in known:
            known["frames"] = report.frames_in  # a file
        return CameraStatus(
            name=self._camera.name,
            priority=self._camera.priority,
            state=state,
            since_s=(now_ns - self._since_ns) / NS_PER_S,
            error=error or (None if state == "streaming" else _trouble(source, counts)),
            reconnects=counts.get("reconnects", 0),
            process_id=os.getpid(),
            fps=self._fps(),
            source=SourceStatus(url=redact(self._camera.url), **known),
            sinks=sinks,
            rss_mb=resident_mb(),
            cpu_s=used_cpu_s(),
            **figures,
        )

    def _fps(self) -> float:
        (first_ns, first), (last_ns, last) = self._frames[0], self._frames[-1]
        return (last - first) * NS_PER_S / (last_ns - first_ns) if last_ns > first_ns else 0.0


def _counts(source: PatientSource | None) -> dict[str, Any]:
    """What an RTSP source counts; nothing of a file."""
    statistics = getattr(source.source if source is not None else None, "statistics", None)
    return asdict(statistics()) if statistics is not None else {}


def _state(source: PatientSource | None, counts: dict[str, Any]) -> CameraState:
    if source is None:
        return "starting"
    if source.state != "open":
        return source.state
    state = counts.get("state", "streaming")
    return "stopped" if state == "closed" else str(state)  # type: ignore[return-value]


def _trouble(source: PatientSource | None, counts: dict[str, Any]) -> str | None:
    if source is None:
        return None
    found = counts.get("last_error") if source.state == "open" else source.error
    return redact(found) if found else None
