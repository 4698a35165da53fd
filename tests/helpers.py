"""Edges for tests: a clock, a source, a sink and an enhancer that do what they are told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamsr.clock import MONOTONIC, NS_PER_S, Clock
from streamsr.errors import SinkError, SourceError
from streamsr.frame import Frame, StreamInfo
from streamsr.pipeline import Pipeline
from streamsr.report import Certificate, FaceReport, FrameReport, Outcome
from streamsr.run_report import RunReport
from streamsr.worker import THREAD_PREFIX


def make_frame(
    width: int = 64,
    height: int = 48,
    index: int = 0,
    *,
    rate: Fraction = Fraction(25),
    time_base: Fraction = Fraction(1, 90_000),
    captured_ns: int = 0,
    discontinuity: bool = False,
) -> Frame:
    """A picture with motion: a gradient with a bright square that moves with ``index``."""
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.stack([columns % 256, rows % 256, (rows + columns + 3 * index) % 256], axis=-1).astype(
        np.uint8
    )
    side = max(2, min(width, height) // 4)
    left = (5 * index) % max(1, width - side)
    image[:side, left : left + side] = 230
    duration = round(1 / rate / time_base)
    return Frame(image, index * duration, time_base, captured_ns, index, duration, discontinuity)


def frames(count: int, width: int = 64, height: int = 48) -> list[Frame]:
    return [make_frame(width, height, index) for index in range(count)]


class FakeClock:
    """Stands still until it is told to go on. May be used from any thread."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self._now_ns = now_ns
        self._lock = threading.Lock()

    def now_ns(self) -> int:
        with self._lock:
            return self._now_ns

    def advance_ms(self, ms: float) -> None:
        with self._lock:
            self._now_ns += round(ms * 1e6)


class MemorySource:
    """Gives ``frames`` one after another, stamped with the clock.

    rate: live: each frame is due 1/rate after its predecessor, and captured when it was due; files: only
    said in StreamInfo. open_s, read_s: how long ``open`` and each ``read`` block. fail_at: the frame that
    raises SourceError instead. endless: ``read`` blocks after the last frame until interrupted.
    deaf: ``interrupt`` does nothing (a zombie); ``release`` ends it.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        *,
        live: bool = False,
        rate: Fraction = Fraction(25),
        clock: Clock = MONOTONIC,
        open_s: float = 0.0,
        read_s: float = 0.0,
        fail_at: int | None = None,
        endless: bool = False,
        deaf: bool = False,
        url: str = "memory:in",
    ) -> None:
        self.url, self.live = url, live
        self.frames, self.rate, self.clock = list(frames), rate, clock
        self.open_s, self.read_s, self.fail_at = open_s, read_s, fail_at
        self.endless, self.deaf = endless, deaf
        self.threads: set[str] = set()
        self.closed = 0
        self._next = 0
        self._start_ns = 0
        self._interrupted = threading.Event()

    def open(self) -> StreamInfo:
        self.threads.add(threading.current_thread().name)
        if self._interrupted.wait(self.open_s):
            raise SourceError("interrupted", self.url)
        self._start_ns = self.clock.now_ns()
        first = self.frames[0] if self.frames else make_frame()
        total = None if self.live else len(self.frames)
        return StreamInfo(first.width, first.height, self.rate, first.time_base, frames=total)

    def read(self) -> Frame | None:
        self.threads.add(threading.current_thread().name)
        if self._interrupted.wait(self.read_s):
            return None
        if self._next == self.fail_at:
            raise SourceError(f"{self.url} died at frame {self._next}", self.url)
        if self._next == len(self.frames):
            if self.endless:
                self._interrupted.wait()
            return None
        frame = self.frames[self._next]
        captured_ns = self.clock.now_ns()
        if self.live:
            due_ns = self._start_ns + round(self._next * NS_PER_S / self.rate)
            if self._interrupted.wait(max(0, due_ns - captured_ns) / NS_PER_S):
                return None
            captured_ns = due_ns
        self._next += 1
        return replace(frame, captured_ns=captured_ns)

    def interrupt(self) -> None:
        if not self.deaf:
            self._interrupted.set()

    def release(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.closed += 1


def live(count: int, fps: int = 100, **options: Any) -> MemorySource:
    return MemorySource(frames(count), live=True, rate=Fraction(fps), **options)


class MemorySink:
    """Keeps what it is given. ``final``: the frames once closed, as a file stands under its final name.

    open_s, write_s, close_s: how long they block. fail_at: the frame whose write raises SinkError.
    """

    def __init__(
        self,
        *,
        open_s: float = 0.0,
        write_s: float = 0.0,
        close_s: float = 0.0,
        fail_at: int | None = None,
        fail_close: bool = False,
        url: str = "memory:out",
    ) -> None:
        self.url = url
        self.open_s, self.write_s, self.close_s = open_s, write_s, close_s
        self.fail_at, self.fail_close = fail_at, fail_close
        self.info: StreamInfo | None = None
        self.part: list[Frame] = []
        self.final: list[Frame] | None = None
        self.aborted = False
        self.threads: set[str] = set()

    def open(self, info: StreamInfo) -> None:
        self.threads.add(threading.current_thread().name)
        time.sleep(self.open_s)
        self.info = info

    def write(self, frame: Frame) -> None:
        self.threads.add(threading.current_thread().name)
        time.sleep(self.write_s)
        if len(self.part) == self.fail_at:
            raise SinkError("no space left on device", self.url)
        self.part.append(frame)

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        time.sleep(self.close_s)
        if self.fail_close:
            raise SinkError("cannot write the trailer", self.url)
        if not self.aborted:
            self.final = self.part

    def abort(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.aborted = True
        if self.final is None:
            self.part = []


class BypassSession:
    """Resizes; says of each face of ``faces`` what it is told to say."""

    def __init__(self, enhancer: BypassEnhancer, scale: int) -> None:
        self.enhancer, self.scale = enhancer, scale
        self.tracked: list[Frame] = []
        self.deadlines: list[int | None] = []
        self.track_threads: set[str] = set()
        self.restore_threads: set[str] = set()
        self.composite_threads: set[str] = set()
        self.closed = 0
        self.busy = False  # in ``track`` now
        self.closed_while_busy = False

    def track(self, frame: Frame) -> Frame:
        self.track_threads.add(threading.current_thread().name)
        self.tracked.append(frame)
        self.busy = True
        self.enhancer.spend(self.enhancer.track_s)
        self.busy = False
        return frame

    def restore(self, tracked: Frame, deadline_ns: int | None = None) -> Frame:
        self.restore_threads.add(threading.current_thread().name)
        self.deadlines.append(deadline_ns)
        if tracked.index == self.enhancer.fail_at:
            raise ZeroDivisionError("a bug in the model")
        self.enhancer.spend(self.enhancer.restore_s)
        return tracked

    def composite(self, tracked: Frame) -> tuple[Frame, FrameReport]:
        self.composite_threads.add(threading.current_thread().name)
        size = (tracked.width * self.scale, tracked.height * self.scale)
        image = cv2.resize(tracked.image, size, interpolation=cv2.INTER_NEAREST)
        report = FrameReport(
            faces=self.enhancer.faces,
            certificate=Certificate(2.0, 9.0, 1.0, 4.0 + tracked.index),
            stage_ms={"track": 99.0, "net": 1e3 * self.enhancer.restore_s},
            cache_reset=tracked.discontinuity,
        )
        return tracked.with_image(image), report

    def close(self) -> None:
        self.closed += 1
        self.closed_while_busy |= self.busy


class BypassEnhancer:
    """track_s, restore_s: how long a frame takes, by sleeping or, given a FakeClock, on that clock."""

    device = "cpu"
    engine = "bypass"
    warnings: tuple[str, ...] = ()
    model_sha256 = "0" * 64

    def __init__(
        self,
        *,
        track_s: float = 0.0,
        restore_s: float = 0.0,
        session_s: float = 0.0,
        faces: tuple[FaceReport, ...] = (),
        fail_at: int | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.track_s, self.restore_s, self.session_s = track_s, restore_s, session_s
        self.faces, self.fail_at, self.clock = faces, fail_at, clock
        self.sessions: list[BypassSession] = []
        self.options: list[dict[str, object]] = []

    def session(self, *, scale: int = 2, clock: Clock = MONOTONIC, **options: object) -> BypassSession:
        time.sleep(self.session_s)
        self.options.append({"scale": scale, **options})
        self.sessions.append(BypassSession(self, scale))
        return self.sessions[-1]

    def spend(self, seconds: float) -> None:
        if self.clock is None:
            time.sleep(seconds)
        else:
            self.clock.advance_ms(1e3 * seconds)


def make_face(outcome: Outcome, *, nfe: int = 0, t0: float | None = None, track_id: int = 1) -> FaceReport:
    return FaceReport(track_id, outcome, (8, 8, 24, 24), 48.0, 64, 0.9, nfe=nfe, t0=t0)


async def enhance(
    source: MemorySource, sink: MemorySink, enhancer: BypassEnhancer | None = None, **options: Any
) -> RunReport:
    """A whole run of a pipeline."""
    async with Pipeline(source, sink, enhancer or BypassEnhancer(), **options) as pipeline:
        return await pipeline.run()


async def until(condition: Callable[[], bool], limit_s: float = 30) -> None:
    """Wait for ``condition``; TimeoutError if it does not come true."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110 (figures of a report have no event)
            await asyncio.sleep(0.005)


def wait_until(condition: Callable[[], bool], timeout_s: float) -> None:
    """``until`` without a loop."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def owned_threads() -> set[str]:
    """Names of the threads of pipelines that are alive now."""
    names = (thread.name for thread in threading.enumerate())
    return {name for name in names if name.startswith(THREAD_PREFIX)}


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if the body, run on a loop, leaves a task or a thread of ours."""
    tasks = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() <= tasks
    assert owned_threads() == set()


def write_squeezenet(data: Path) -> None:
    """With weights of its layout, random."""
    (data / "peers").mkdir(exist_ok=True)
    import torch
    from safetensors.torch import save_file

    from streamsr.features import SqueezeNet

    torch.manual_seed(0)
    tensors = {name: value.half() for name, value in SqueezeNet().state_dict().items()}
    save_file(tensors, data / "peers" / "squeezenet11_fp16.safetensors")
