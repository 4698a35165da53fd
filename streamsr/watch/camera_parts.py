"""What a camera's process is made of; importing this loads PyAV, OpenCV and mediapipe."""

from __future__ import annotations

import cv2

from ..clock import Clock
from ..evidence import Evidence, Limits
from ..frame import Sink, Source
from ..io.file import FileSource
from ..io.rtsp import RtspSource
from ..pipeline import Pipeline
from ..stages import Enhancer
from .camera_enhancer import CameraEnhancer
from .camera_job import CameraJob
from .fan_out import FanOut, recording_plan, sink_plan
from .patient_source import PatientSource
from .remote_restorer import RemoteRestorer
from .snapshots import Snapshots
from .status import SinkStatus

__all__ = ["CameraParts"]


class CameraParts:
    """The pipeline of ``job`` and what it is built from. Raises ConfigError."""

    def __init__(self, job: CameraJob, clock: Clock) -> None:
        cv2.setNumThreads(1)  # there is a process a camera: they share the processors already
        self._job, camera = job, job.camera
        self.snapshots = Snapshots(clock)
        self._evidence = self._record()
        self._fan_out = self._outputs()
        restorer = RemoteRestorer(job.device_socket, name=camera.name, priority=camera.priority)
        enhancer: Enhancer = CameraEnhancer(restorer, roi_px=camera.roi, show=self.snapshots.show)
        sink: Sink | None = self._fan_out
        if self._evidence is not None:
            enhancer, sink = self._evidence.enhancer(enhancer), self._evidence.sink(sink)
        assert sink is not None, "the configuration is checked for that"
        self.source = PatientSource(camera.url, self._open_source, camera=camera.name)
        self.pipeline = Pipeline(
            self.source,
            sink,
            enhancer,
            scale=camera.scale,
            size=camera.size,
            fidelity=camera.fidelity,
            steps=camera.steps,
            seed=camera.seed,
            budget_ms=camera.budget_ms,
            clock=clock,
        )

    def sinks(self) -> tuple[SinkStatus, ...]:
        """All outputs; evidence is the last of them."""
        found = self._fan_out.statistics() if self._fan_out is not None else ()
        if self._evidence is None:
            return found
        evidence, told = self._evidence.statistics(), self._job.camera.evidence
        assert told is not None
        status = SinkStatus(
            url=str(told.folder),
            state="backoff" if evidence.error is not None else "writing",
            written=evidence.frames,
            dropped=evidence.unrecorded,
            error=evidence.error,
        )
        return (*found, status)

    def close(self) -> None:
        """What the pipeline does not: sign what was recorded. May be called twice."""
        if self._evidence is not None:
            self._evidence.close()

    def _outputs(self) -> FanOut | None:
        sei = self._evidence.sei if self._evidence is not None else None
        plans = [sink_plan(url, sei=sei) for url in self._job.sink_urls]
        if (told := self._job.camera.recording) is not None:
            plans.append(
                recording_plan(
                    str(told.folder),
                    segment_s=told.segment_s,
                    max_age_s=told.max_age_s,
                    max_bytes=told.max_bytes,
                )
            )
        return FanOut(plans) if plans else None

    def _record(self) -> Evidence | None:
        camera = self._job.camera
        if (told := camera.evidence) is None:
            return None
        limits = Limits(segment_s=told.segment_s, max_age_s=told.max_age_s, max_bytes=told.max_bytes)
        return Evidence(
            told.folder,
            told.key_file,
            camera=camera.name,
            limits=limits,
            configuration={"roi": camera.roi, "on_motion": True},
        )

    def _open_source(self) -> Source:
        camera, tap = self._job.camera, self._evidence.tap if self._evidence is not None else None
        if camera.is_file:
            return FileSource(self._job.source_url, paced=True, loop=camera.loop, threads=1, tap=tap)
        return RtspSource(
            self._job.source_url,
            transport=camera.transport,
            stall_timeout_s=camera.stall_timeout_s,
            frozen_timeout_s=camera.frozen_timeout_s,
            threads=1,
            tap=tap,
        )
