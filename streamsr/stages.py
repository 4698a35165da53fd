"""The five threads of a stream, and what each of them has open.

Source, session and sink are opened, used and closed on the threads that own them. Each method below
returns what the work gave and how many milliseconds it took there, waiting for the thread not counted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Any, Protocol

from .clock import NS_PER_MS, Clock
from .errors import SourceError, redact
from .fit import fit_image, output_px
from .frame import Frame, Sink, Source, StreamInfo, check_image
from .report import FrameReport
from .run_report import versions
from .worker import Worker, join

__all__ = ["Enhancer", "Session", "SinkOptions", "Stages"]

SHUTDOWN_GRACE_S = 10.0  # a thread stuck in a library is left behind after this time

_log = logging.getLogger(__name__)


class Session(Protocol):
    """One stream's state in an enhancer. ``track``, ``restore`` and ``composite`` have a thread each.

    A live pipeline may drop what one returned before the next sees it: whatever a later frame has to
    know of it (a new identity, a discontinuity) must not be in it alone. The first three attributes are set
    on the thread of ``restore``, between two frames; ``enabled``: False lets the upscaled original through.
    ``yuv420p`` is set before the first frame: the output as its sink was opened, if that takes ``Yuv420p``,
    which ``composite`` may then give.
    """

    fidelity: Any
    steps: Any
    enabled: bool
    yuv420p: StreamInfo | None

    def track(self, frame: Frame) -> Any: ...

    def restore(self, tracked: Any, deadline_ns: int | None = None) -> Any:
        """deadline_ns: when the frame ought to be done, on the clock of ``captured_ns``; None: no hurry."""
        ...

    def composite(self, restored: Any) -> tuple[Frame, FrameReport]: ...

    def close(self) -> None: ...


class Enhancer(Protocol):
    """What a stream needs of ``streamsr.Enhancer``; the properties stand in its report.

    engine: None where it is not known. warnings: why one that was asked for does not serve.
    """

    @property
    def device(self) -> Any: ...

    @property
    def engine(self) -> str | None: ...

    @property
    def warnings(self) -> Sequence[str]: ...

    @property
    def model_sha256(self) -> str | None: ...

    def session(
        self, *, scale: int, fidelity: Any = ..., steps: Any = ..., seed: Any = ..., clock: Clock = ...
    ) -> Session: ...


@dataclass(frozen=True, slots=True)
class SinkOptions:
    """For a sink that is given by its address."""

    codec: str = "h264"
    crf: int | None = None
    overwrite: bool = False


class Stages:
    """decode, track, restore, composite, encode. ``session_options``: passed to ``enhancer.session`` too.

    adjustments: (name, value) of attributes of the session, set before its next frame.

    The threads store what they open themselves: a cancelled caller never sees what its call returned.
    """

    def __init__(
        self,
        source: str | Source,
        sink: str | Sink,
        enhancer: Enhancer,
        *,
        scale: int,
        size: tuple[int, int] | None,
        session_options: dict[str, Any],
        adjustments: SimpleQueue[tuple[str, Any]],
        sink_options: SinkOptions,
        clock: Clock,
    ) -> None:
        self._source_given, self._sink_given, self._enhancer = source, sink, enhancer
        self._scale, self._size = scale, size
        self._session_options, self._sink_options = session_options, sink_options
        self._adjustments = adjustments
        self._clock = clock
        self._source: Source | None = None
        self._session: Session | None = None
        self._sink: Sink | None = None
        self._shutting_down = False
        self.live = False
        self.output_px = (0, 0)  # width, height
        self.sink_closed = False  # the output is finished
        self._warnings: list[str] = []
        self._decoding, self._tracking = Worker("decode"), Worker("track")
        self._restoring, self._compositing = Worker("restore"), Worker("composite")
        self._encoding = Worker("encode")

    @property
    def warnings(self) -> list[str]:
        """What went wrong without ending the run, a line each: here, in the source and in the sink."""
        lines = list(self._warnings)
        for end in (self._source, self._sink):
            lines += [redact(line) for line in getattr(end, "warnings", ())]
        return lines

    async def open(self) -> StreamInfo:
        """Session, source and sink, in this order: a camera should not wait for the model.

        Raises ConfigError, SourceError, SinkError, and what the enhancer raises.
        """
        await self._restoring.call(self._open_session)
        info = await self._decoding.call(self._open_source)
        self.output_px = output_px(info, self._scale, self._size)
        await self._encoding.call(self._open_sink, info)
        return info

    async def read(self) -> tuple[Frame | None, float]:
        return await self._decoding.call(self._read)

    async def track(self, frame: Frame) -> tuple[Any, float]:
        return await self._tracking.call(self._track, frame)

    async def restore(self, tracked: Any, deadline_ns: int | None) -> tuple[Any, float]:
        return await self._restoring.call(self._restore, tracked, deadline_ns)

    async def composite(self, restored: Any) -> tuple[Frame, FrameReport, float]:
        return await self._compositing.call(self._composite, restored)

    async def write(self, frame: Frame) -> tuple[float, int]:
        """Fitted to the size of the output. The second value: when the sink had taken it, in ns."""
        return await self._encoding.call(self._write, frame)

    async def close_sink(self) -> None:
        """Finish the output."""
        await self._encoding.call(self._close_sink)

    def interrupt(self) -> None:
        """Make a blocked source return soon."""
        if self._source is not None and not self._decoding.ended:
            self._source.interrupt()

    async def shut_down(self) -> None:
        """Give everything back, abort a sink that is not finished, end the threads. May be called twice.

        The last calls are queued before anything is awaited: they happen on their threads whatever
        becomes of this task and its loop. CancelledError is raised after them.
        """
        if self._shutting_down:
            return
        self._shutting_down = True
        self._decoding.finish(self._close_source)
        self._tracking.finish()
        self._compositing.finish()
        self._restoring.finish(self._close_session)
        self._encoding.finish(self._abort_sink)
        workers = (self._decoding, self._tracking, self._restoring, self._compositing, self._encoding)
        try:
            await join(workers, SHUTDOWN_GRACE_S, poke=self.interrupt)
        finally:
            for worker in workers:
                if not worker.ended:
                    self._warn(f"the {worker.name} thread is stuck and was left behind")
                elif worker.last_error is not None:
                    self._warn(f"the {worker.name} thread failed in closing: {worker.last_error}")

    def _warn(self, text: str) -> None:
        self._warnings.append(redact(text))
        _log.warning("%s", self._warnings[-1])

    # -- on the threads -------------------------------------------------------------------------------

    def _open_session(self) -> None:
        versions()  # reads package metadata from disk, once: not on the loop
        self._session = self._enhancer.session(scale=self._scale, clock=self._clock, **self._session_options)

    def _open_source(self) -> StreamInfo:
        source = self._source_given
        if isinstance(source, str):
            from .io import open_source  # PyAV loads here, off the loop

            sink = self._sink_given
            source = open_source(
                source, sink_url=sink if isinstance(sink, str) else sink.url, clock=self._clock
            )
        self._source, self.live = source, source.live
        if self._shutting_down:  # no interrupt could reach it before
            raise SourceError("interrupted while opening", source.url)
        return source.open()

    def _open_sink(self, info: StreamInfo) -> None:
        sink = self._sink_given
        if isinstance(sink, str):
            from .io import open_sink

            source, options = self._source_given, self._sink_options
            sink = open_sink(
                sink,
                source_url=source if isinstance(source, str) else source.url,
                codec=options.codec,
                crf=options.crf,
                overwrite=options.overwrite,
                live=self.live,
            )
        self._sink = sink
        width, height = self.output_px
        output = replace(info, width=width, height=height)
        sink.open(output)
        if getattr(sink, "takes_yuv420p", False):
            assert self._session is not None
            self._session.yuv420p = output

    def _read(self) -> tuple[Frame | None, float]:
        assert self._source is not None
        began_ns = self._clock.now_ns()
        frame = self._source.read()
        if frame is not None:
            check_image(frame.image, "picture of the source")
        return frame, self._ms_since(began_ns)

    def _track(self, frame: Frame) -> tuple[Any, float]:
        assert self._session is not None
        began_ns = self._clock.now_ns()
        tracked = self._session.track(frame)
        return tracked, self._ms_since(began_ns)

    def _restore(self, tracked: Any, deadline_ns: int | None) -> tuple[Any, float]:
        assert self._session is not None
        while not self._adjustments.empty():
            setattr(self._session, *self._adjustments.get())
        began_ns = self._clock.now_ns()
        restored = self._session.restore(tracked, deadline_ns=deadline_ns)
        return restored, self._ms_since(began_ns)

    def _composite(self, restored: Any) -> tuple[Frame, FrameReport, float]:
        assert self._session is not None
        began_ns = self._clock.now_ns()
        frame, report = self._session.composite(restored)
        return frame, report, self._ms_since(began_ns)

    def _write(self, frame: Frame) -> tuple[float, int]:
        assert self._sink is not None
        began_ns = self._clock.now_ns()
        self._sink.write(frame.with_image(fit_image(frame.image, *self.output_px)))
        return self._ms_since(began_ns), self._clock.now_ns()

    def _close_source(self) -> None:
        if self._source is not None:
            self._source.close()

    def _close_session(self) -> None:
        self._tracking.wait()  # a session is closed when no other thread uses it
        self._compositing.wait()
        if self._session is not None:
            self._session.close()

    def _close_sink(self) -> None:
        assert self._sink is not None
        self._sink.close()
        self.sink_closed = True

    def _abort_sink(self) -> None:
        if self._sink is not None and not self.sink_closed:
            self._sink.abort()

    def _ms_since(self, began_ns: int) -> float:
        return (self._clock.now_ns() - began_ns) / NS_PER_MS
