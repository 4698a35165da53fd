"""A video track that makes the faces of another one sharper."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import VideoFrame

from ..channel import EndOfStream
from ..clock import MONOTONIC
from ..errors import ConfigError, SourceError, StreamSRError
from ..loop import settle
from ..pipeline import Pipeline
from ..run_report import QueueReport, RunReport
from ..session_options import CALL_BUDGET_MS
from ..stages import Enhancer
from .bridge import TrackSink, TrackSource

__all__ = ["EnhancedTrack"]

_log = logging.getLogger(__name__)


class EnhancedTrack(MediaStreamTrack):
    """``EnhancedTrack(track, enhancer)`` in place of an aiortc video ``track``; made on a running loop.

    scale, fidelity, steps, seed: as in ``Enhancer.session``. size: (width, height) of the output, even; by
    default ``scale`` times the first picture's. It holds for the whole track, whatever size later pictures
    have. budget_ms: age that the enhancer is to keep a frame below, by default ``CALL_BUDGET_MS``. Raises
    ConfigError.

    The source belongs to this track: it is read from the beginning, so that nothing piles up in it, and
    stopped with it; of what was not worth waiting for, the newest frame wins. The enhancer begins at the
    first ``recv``. Frames come out as (yuv420p) pictures with the times of the source's that came through,
    strictly increasing. When the source ends or the enhancer fails (``report().error`` says how), the
    track ends. ``stop`` returns at once; ``close`` also waits until the last thread is gone.
    """

    kind = "video"

    def __init__(
        self,
        track: MediaStreamTrack,
        enhancer: Enhancer,
        *,
        scale: int = 2,
        fidelity: float | None = None,
        steps: int | str | None = None,
        seed: int | None = None,
        size: tuple[int, int] | None = None,
        budget_ms: float | None = None,
    ) -> None:
        super().__init__()
        if track.kind != "video":
            raise ConfigError(f"track must be of video, got {track.kind}")
        self._track = track
        self._in = TrackSource(MONOTONIC)
        self._out = TrackSink(MONOTONIC, asyncio.get_running_loop())
        self._pipeline = Pipeline(
            self._in,
            self._out,
            enhancer,
            scale=scale,
            fidelity=fidelity,
            steps=steps,
            seed=seed,
            size=size,
            budget_ms=CALL_BUDGET_MS if budget_ms is None else budget_ms,
        )
        self._enabled = True
        self._reading = self._task(self._read())
        self._running: asyncio.Task[None] | None = None

    @property
    def fidelity(self) -> float | None:
        """As asked; None is the enhancer's default. Set, it holds from the next frame on (ConfigError)."""
        return self._pipeline.fidelity

    @fidelity.setter
    def fidelity(self, fidelity: float) -> None:
        self._pipeline.adjust(fidelity=fidelity)

    @property
    def steps(self) -> int | str | None:
        """As ``fidelity``."""
        return self._pipeline.steps

    @steps.setter
    def steps(self, steps: int | str) -> None:
        self._pipeline.adjust(steps=steps)

    @property
    def enabled(self) -> bool:
        """False lets the upscaled original through, from the next frame on."""
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        self._enabled = enabled
        self._pipeline.adjust(enabled=enabled)

    @property
    def delay_ms(self) -> float:
        """Median time of the last 50 frames from their arrival here until they were encoded, where ``tune``
        has set up the encoders, else until ``recv``; 0 before the first."""
        return self._out.delay_ms

    def report(self) -> RunReport:
        """The figures so far. queues["recv"]: frames that wait for ``recv``."""
        report, waiting = self._pipeline.report(), self._out.frames.statistics()
        queue = QueueReport(
            depth=waiting.depth,
            max_depth=waiting.max_depth,
            capacity=waiting.capacity,
            dropped=waiting.dropped,
        )
        return report.model_copy(
            update={
                "queues": {**report.queues, "recv": queue},
                "frames_out": report.frames_out - queue.dropped,
                "frames_dropped": report.frames_dropped + queue.dropped,
            }
        )

    async def recv(self) -> VideoFrame:
        """The newest enhanced picture. Raises MediaStreamError once the track has ended."""
        if self.readyState != "live":
            raise MediaStreamError("the track has ended")
        if self._running is None:
            self._running = self._task(self._run())
        try:
            picture, captured_ns = await self._out.frames.receive()
        except EndOfStream:
            self.stop()
            raise MediaStreamError(self._pipeline.report().error or "the track has ended") from None
        self._out.taken(captured_ns)
        return picture

    def stop(self) -> None:
        """End at once; whoever awaits ``recv`` gets MediaStreamError. May be called twice."""
        super().stop()
        self._track.stop()
        self._in.end()
        self._out.end()
        for task in (self._reading, self._running):
            if task is not None:
                task.cancel()

    async def close(self) -> None:
        """``stop``, and wait until no thread and no task is left. May be called twice."""
        self.stop()
        for task in (self._reading, self._running):
            if task is not None:
                await settle(task)

    async def _read(self) -> None:
        """Take every frame as soon as it is there: a remote track's queue has no bound."""
        failure: SourceError | None = None
        try:
            with contextlib.suppress(MediaStreamError):
                while True:
                    frame = await self._track.recv()
                    if not isinstance(frame, VideoFrame):
                        name = type(frame).__name__
                        failure = SourceError(f"a frame must be a VideoFrame, got {name}", self._in.url)
                        break
                    self._in.put(frame)
        finally:
            self._in.end(failure)

    async def _run(self) -> None:
        try:
            async with self._pipeline as pipeline:
                await pipeline.run()
        finally:
            self._out.end()

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_log_failure)
        return task


def _log_failure(task: asyncio.Task[None]) -> None:
    """A call goes on without its filter; whoever looks after it finds here why it stopped."""
    error = None if task.cancelled() else task.exception()
    if isinstance(error, StreamSRError):
        _log.error("an enhanced track ended: %s", error)
    elif error is not None:
        _log.error("an enhanced track ended", exc_info=error)
