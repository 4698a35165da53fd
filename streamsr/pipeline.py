"""One stream: a TaskGroup of decode -> track -> enhance -> encode.

Each stage has a task that waits and a thread of its own that works; between two stages lies a bounded
channel. Of files nothing is lost. Of live streams the newest frame is tracked as soon as there is room for
one on its way to the encoder, and the others are dropped and counted: more on the way than there are cores to
work on them would come out no sooner, and older.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from .channel import Channel, LatestFrame, Lossless
from .clock import MONOTONIC, NS_PER_MS, NS_PER_S, Clock
from .errors import ConfigError, SourceError, redact
from .fit import SCALES
from .frame import MAX_SIDE_PX, Frame, Sink, Source, StreamInfo
from .loop import run, settle, unwrapped
from .machine import usable_cpus
from .report import FrameReport
from .run_report import QueueReport, RunReport, RunStatus, RunTally, versions
from .session_options import check_fidelity, check_steps
from .stages import Enhancer, SinkOptions, Stages

__all__ = ["Pipeline", "run"]

FILE_CAPACITY = 4  # frames between two stages of a file
CHANNELS = ("track", "restore", "composite", "encode")  # each by the stage that receives
LIVE_ENCODE_CAPACITY = 2  # enough to ride out one slow write; more would only add age
ON_THE_WAY = 3  # live frames, from tracking to the end of compositing: one a stage; of two cores one a core
BUDGET_INTERVALS = 2.5  # default age budget of a live frame, in frame intervals
BUDGET_MS = (15.0, 300.0)  # its bounds: nominal rates of live streams may be nonsense
PROGRESS_S = 0.25  # between two calls of on_progress
INTERRUPT_S = 0.1  # a blocked source is interrupted again after this time
STOP_GRACE_S = 5.0  # a source that does not answer an interrupt is given up after this time


class Pipeline:
    """``async with Pipeline(source, sink, enhancer) as pipeline: report = await pipeline.run()``.

    source, sink: addresses as ``streamsr.io`` reads them, or objects. ``codec``, ``crf`` and ``overwrite``
    are for a sink given by its address. fidelity, steps, seed: None is the enhancer's default.
    size: (width, height) of the output, even; by default ``scale`` times the first picture's.
    budget_ms: age that the enhancer is to keep a live frame below, by default 2.5 frame intervals.
    on_progress: called on the loop with a report, at most four times a second, and once at the end.

    Entering opens the session, the source and the sink. Any failure or cancellation, then or later,
    stops everything, leaves no thread and no half-written output, and is raised. ``stop`` is the other
    way to end early: what has been read goes through, and the output is finished.
    """

    def __init__(
        self,
        source: str | Source,
        sink: str | Sink,
        enhancer: Enhancer,
        *,
        scale: int = 2,
        fidelity: float | None = None,
        steps: int | str | None = None,
        seed: int | None = None,
        size: tuple[int, int] | None = None,
        codec: str = "h264",
        crf: int | None = None,
        overwrite: bool = False,
        budget_ms: float | None = None,
        clock: Clock = MONOTONIC,
        on_progress: Callable[[RunReport], object] | None = None,
    ) -> None:
        if scale not in SCALES:
            raise ConfigError(f"scale must be one of {', '.join(map(str, SCALES))}, got {scale}")
        if size is not None and not all(0 < side <= MAX_SIDE_PX and side % 2 == 0 for side in size):
            raise ConfigError(f"sides of size must be even and in 2..{MAX_SIDE_PX}, got {size}")
        if budget_ms is not None and not budget_ms > 0:
            raise ConfigError(f"budget_ms must be above 0, got {budget_ms}")
        self._source, self._sink, self._enhancer = source, sink, enhancer
        self._scale, self._size = scale, size
        _check(fidelity, steps)
        chosen = {"fidelity": fidelity, "steps": steps, "seed": seed}
        self._session_options: dict[str, Any] = {
            name: value for name, value in chosen.items() if value is not None
        }
        self._adjustments: SimpleQueue[tuple[str, Any]] = SimpleQueue()  # few, by hand
        self._sink_options = SinkOptions(codec, crf, overwrite)
        self._budget_ms, self._clock, self._on_progress = budget_ms, clock, on_progress

        self._stages: Stages | None = None
        self._info: StreamInfo | None = None
        self._queues: dict[str, Channel[Any]] = {}
        self._room = asyncio.Semaphore(0)  # for frames on the way
        self._run_task: asyncio.Task[Any] | None = None
        self._decode_task: asyncio.Task[None] | None = None
        self._tally = RunTally()
        self._status: RunStatus = "waiting"
        self._error: str | None = None
        self._started_ns = self._ended_ns = 0
        self._progress_at = 0.0
        self._stopping = self._reading = self._source_given_up = False
        self._discontinuities = 0  # so far, in what was read

    async def __aenter__(self) -> Pipeline:
        if self._stages is not None:
            raise RuntimeError("a pipeline is entered once")
        self._stages = stages = Stages(
            self._source,
            self._sink,
            self._enhancer,
            scale=self._scale,
            size=self._size,
            session_options=self._session_options,
            adjustments=self._adjustments,
            sink_options=self._sink_options,
            clock=self._clock,
        )
        try:
            self._info = await stages.open()
        except BaseException as error:  # __aexit__ will not be called: whatever it was, clean up
            await self._fail(error)
            raise
        self._make_channels(stages.live)
        return self

    def _make_channels(self, live: bool) -> None:
        if not live:
            self._queues = {name: Lossless(FILE_CAPACITY) for name in CHANNELS}
            self._room = asyncio.Semaphore(len(CHANNELS) * (FILE_CAPACITY + 1))  # all there can be
            return
        most = max(2, min(ON_THE_WAY, usable_cpus()))
        self._room = asyncio.Semaphore(most)
        self._queues = {name: Lossless(most) for name in CHANNELS}
        self._queues |= {"track": LatestFrame(), "encode": LatestFrame(LIVE_ENCODE_CAPACITY)}

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run_task not in (None, asyncio.current_task()):
            assert self._run_task is not None
            self._run_task.cancel()
            await settle(self._run_task)
        if self._status == "waiting":
            await self._fail(asyncio.CancelledError())

    async def run(self) -> RunReport:
        """Until the source ends or ``stop``. Raises what a stage raised; everything is shut down then."""
        if self._info is None or self._status != "waiting":
            raise RuntimeError("run a pipeline once, inside 'async with'")
        assert self._stages is not None
        self._status, self._run_task = "running", asyncio.current_task()
        self._started_ns = self._clock.now_ns()
        failure: BaseException
        try:
            async with asyncio.TaskGroup() as tasks:
                self._decode_task = tasks.create_task(self._decode(self._stages))
                tasks.create_task(self._track(self._stages))
                tasks.create_task(self._restore(self._stages))
                tasks.create_task(self._composite(self._stages))
                tasks.create_task(self._encode(self._stages))
            self._ended_ns = self._clock.now_ns()
            await self._stages.shut_down()
            self._status = "stopped" if self._stopping else "done"
            self._progress(last=True)
            return self.report()
        except BaseExceptionGroup as group:
            failure = unwrapped(group)
        except BaseException as error:  # cancellation too: shut down, then pass it on
            failure = error
        finally:
            self._run_task = None
        await self._fail(failure)
        try:
            raise failure
        finally:
            del failure  # its traceback holds this frame

    def stop(self) -> None:
        """End early: let what has been read go through, then finish the output. Never blocks.

        To be called on the loop's thread. ``run`` returns, or raises if a stage fails meanwhile.
        """
        if not self._stopping:
            self._stopping = True
            self._interrupt(asyncio.get_running_loop().time() + STOP_GRACE_S)

    @property
    def fidelity(self) -> float | None:
        """As asked; None: the enhancer's default."""
        return self._session_options.get("fidelity")

    @property
    def steps(self) -> int | str | None:
        """As ``fidelity``."""
        return self._session_options.get("steps")

    def adjust(
        self,
        *,
        fidelity: float | None = None,
        steps: int | str | None = None,
        enabled: bool | None = None,
    ) -> None:
        """From the next frame on, also before the first. Raises ConfigError.

        enabled: False lets the upscaled original through.
        """
        _check(fidelity, steps)
        for name, value in {"fidelity": fidelity, "steps": steps}.items():
            if value is not None:
                self._session_options[name] = value
                self._adjustments.put((name, value))
        if enabled is not None:
            self._adjustments.put(("enabled", enabled))

    def report(self) -> RunReport:
        """The figures so far; also after an error."""
        info, stages, options = self._info, self._stages, self._session_options
        live = stages.live if stages else False
        now_ns = self._ended_ns or self._clock.now_ns()
        queues = {name: _queue_report(channel) for name, channel in self._queues.items()}
        return RunReport(
            source=redact(_name(self._source)),
            sink=redact(_name(self._sink)),
            live=live,
            status=self._status,
            error=self._error,
            warnings=(
                *self._tally.warnings,
                *(stages.warnings if stages else ()),
                *self._enhancer.warnings,
            ),
            scale=self._scale,
            fidelity=options.get("fidelity"),
            steps=options.get("steps"),
            seed=options.get("seed"),
            input_px=(info.width, info.height) if info else None,
            output_px=stages.output_px if stages and info else None,
            nominal_fps=round(float(info.rate), 3) if info and info.rate else None,
            budget_ms=self._budget_ns(info) / NS_PER_MS if info and live else None,
            frames_total=info.frames if info else None,
            frames_dropped=sum(queue.dropped for queue in queues.values()),
            queues=queues,
            elapsed_s=(now_ns - self._started_ns) / NS_PER_S if self._started_ns else 0.0,
            fps=self._tally.fps(live, self._started_ns, now_ns),
            device=str(self._enhancer.device),
            engine=self._enhancer.engine,
            model_sha256=self._enhancer.model_sha256,
            versions=versions(),
            **self._tally.figures(),  # type: ignore[arg-type]
        )

    # -- the tasks ------------------------------------------------------------------------------------

    async def _decode(self, stages: Stages) -> None:
        last: Frame | None = None
        while not self._stopping:
            self._reading = True
            try:
                frame, ms = await stages.read()
            except SourceError:
                if self._stopping:
                    break  # the interrupt's doing
                raise
            except asyncio.CancelledError:
                if self._source_given_up:
                    break
                raise
            finally:
                self._reading = False
            if frame is None:
                break
            self._tally.stage("read" if stages.live else "decode", ms)
            self._tally.read(frame, last)
            if frame.discontinuity or (last is not None and last.image.shape != frame.image.shape):
                self._discontinuities += 1
            last = frame
            await self._queues["track"].send((frame, self._discontinuities))
        self._queues["track"].close()

    async def _track(self, stages: Stages) -> None:
        seen = 0
        await self._room.acquire()  # before a frame is taken: what comes meanwhile is newer
        async for frame, discontinuities in self._queues["track"]:
            # the frame that said so may have been dropped: the next one says it
            frame = replace(frame, discontinuity=discontinuities != seen)
            seen = discontinuities
            tracked, ms = await stages.track(frame)
            self._tally.stage("track", ms)
            await self._queues["restore"].send((frame.captured_ns, tracked))
            await self._room.acquire()
        self._queues["restore"].close()

    async def _restore(self, stages: Stages) -> None:
        assert self._info is not None
        budget_ns = self._budget_ns(self._info)
        async for captured_ns, tracked in self._queues["restore"]:
            deadline_ns = captured_ns + budget_ns if stages.live else None
            restored, ms = await stages.restore(tracked, deadline_ns)
            self._tally.stage("restore", ms)
            await self._queues["composite"].send(restored)
        self._queues["composite"].close()

    async def _composite(self, stages: Stages) -> None:
        async for restored in self._queues["composite"]:
            frame, report, ms = await stages.composite(restored)
            self._room.release()
            self._tally.stage("composite", ms)
            self._tally.enhanced(report)
            await self._queues["encode"].send((frame, report))
        self._queues["encode"].close()

    async def _encode(self, stages: Stages) -> None:
        frame: Frame
        report: FrameReport
        async for frame, report in self._queues["encode"]:
            ms, taken_ns = await stages.write(frame)
            self._tally.stage("encode", ms)
            self._tally.written(frame, report, taken_ns)
            self._progress()
        if self._tally.frames_out:
            await stages.close_sink()
        elif self._stopping:
            self._tally.warn("stopped before the first frame came out: there is no output")
        else:
            raise SourceError("source ended without a picture", _name(self._source))

    # -- budget, progress, ending ---------------------------------------------------------------------

    def _budget_ns(self, info: StreamInfo) -> int:
        ms = self._budget_ms
        if ms is None:
            least, most = BUDGET_MS
            ms = 1e3 * BUDGET_INTERVALS / float(info.rate) if info.rate > Fraction(0) else most
            ms = min(max(ms, least), most)
        return round(ms * NS_PER_MS)

    def _progress(self, last: bool = False) -> None:
        now = asyncio.get_running_loop().time()
        if self._on_progress is not None and (last or now >= self._progress_at):
            self._progress_at = now + PROGRESS_S
            self._on_progress(self.report())

    def _interrupt(self, give_up_at: float) -> None:
        """Interrupt the source until it answers: it may just have been about to block."""
        if self._stages is not None:
            self._stages.interrupt()
        if self._decode_task is None or self._decode_task.done():
            return
        loop = asyncio.get_running_loop()
        if loop.time() < give_up_at or not self._reading:  # not reading: it waits for slower stages
            loop.call_later(INTERRUPT_S, self._interrupt, give_up_at)
        else:
            self._source_given_up = True
            self._decode_task.cancel()

    async def _fail(self, error: BaseException) -> None:
        assert self._stages is not None
        self._ended_ns = self._ended_ns or self._clock.now_ns()
        try:
            await self._stages.shut_down()
        finally:
            if not isinstance(error, asyncio.CancelledError):
                self._status = "failed"
                self._error = redact(" ".join(str(error).split())) or type(error).__name__
            elif not self._stages.sink_closed:
                self._status = "cancelled"
            else:  # it came too late: the output is finished
                self._status = "stopped" if self._stopping else "done"


def _check(fidelity: float | None, steps: int | str | None) -> None:
    if fidelity is not None:
        check_fidelity(fidelity)
    if steps is not None:
        check_steps(steps)


def _name(end: str | Source | Sink) -> str:
    return end if isinstance(end, str) else end.url


def _queue_report(channel: Channel[Any]) -> QueueReport:
    now = channel.statistics()
    return QueueReport(depth=now.depth, max_depth=now.max_depth, capacity=now.capacity, dropped=now.dropped)
