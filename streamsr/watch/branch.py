"""One of several sinks: on a thread of its own, tried again for ever."""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..clock import MONOTONIC, NS_PER_S, Clock
from ..errors import DiskFullError, StreamSRError, redact
from ..frame import Frame, Sink, StreamInfo
from ..io.backoff import delays
from ..machine import give_way
from .status import SinkState, SinkStatus

__all__ = ["Branch", "SinkPlan"]

HUNG_S = 10.0  # a call that takes so long is shown
STEADY_S = 10.0  # a sink that took pictures for so long starts the backoff from its beginning
IDLE_S = 1.0  # without a picture for so long, ``idle`` is called
WARNINGS = 8  # of sinks that are no more; the newest are kept

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SinkPlan:
    """A sink and how many pictures may wait for it; the newest win.

    make: a fresh sink for every attempt; called the first time where ConfigError can still be raised.
    pictures: at most so many, and at most ``size_bytes`` of them (but always one).

    Two things that a sink may have beside ``warnings``: ``drops``, a count of pictures that it took and then
    left out, and ``idle()``, called on its thread every second or so while no pictures come.
    """

    url: str  # as shown to users: without credentials
    make: Callable[[], Sink]
    pictures: int = 2
    size_bytes: int = 64_000_000


class Branch:
    """Opens its sink, writes to it, and begins anew with a fresh one after a failure or another size.

    The pauses between attempts grow to two seconds. A call that hangs holds up this thread alone; when
    it comes back, the branch goes on.
    """

    def __init__(
        self, plan: SinkPlan, *, clock: Clock = MONOTONIC, uniform: Callable[[], float] = random.random
    ) -> None:
        self._plan, self._clock, self._uniform = plan, clock, uniform
        self._fresh: Sink | None = plan.make()  # for the first attempt
        self._changed = threading.Condition()  # guards all that follows
        self._queue: deque[Frame] = deque()
        self._sink: Sink | None = None
        self._state: SinkState = "opening"
        self._called_ns: int | None = None  # since when the sink has been in a call
        self._finishing = self._abandoned = False
        self._written = self._dropped = self._opened = 0
        self._error: str | None = None
        self._warnings: deque[str] = deque(maxlen=WARNINGS)
        self._thread: threading.Thread | None = None

    def start(self, info: StreamInfo) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(info,), name=f"sink {self._plan.url}", daemon=True
        )
        self._thread.start()

    def push(self, frame: Frame) -> None:
        """Never waits. Of too many pictures the oldest is dropped."""
        with self._changed:
            if self._finishing:
                return
            room = max(1, min(self._plan.pictures, self._plan.size_bytes // frame.image.nbytes))
            while len(self._queue) >= room:
                self._queue.popleft()
                self._dropped += 1
            self._queue.append(frame)
            self._changed.notify_all()

    def finish(self, abandon: bool = False) -> None:
        """Close the sink after what is queued; with ``abandon``, abort it at once. Does not wait."""
        with self._changed:
            self._finishing = True
            self._abandoned |= abandon
            self._changed.notify_all()

    def join(self, timeout_s: float) -> bool:
        """Whether the thread has ended. One that hangs is left behind; it aborts its sink if it returns."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.finish(abandon=True)
            with self._changed:
                self._warn("did not finish in time and was left behind")
        return not self._thread.is_alive()

    @property
    def warnings(self) -> list[str]:
        with self._changed:
            return [*self._warnings, *getattr(self._sink, "warnings", ())]

    def statistics(self) -> SinkStatus:
        with self._changed:
            state, called_ns = self._state, self._called_ns
            if called_ns is not None and self._clock.now_ns() - called_ns > HUNG_S * NS_PER_S:
                state = "hung"
            left_out = getattr(self._sink, "drops", 0)
            return SinkStatus(
                url=self._plan.url,
                state=state,
                written=self._written - left_out,
                dropped=self._dropped + left_out,
                reconnects=max(0, self._opened - 1),
                error=self._error,
            )

    # -- on the thread --------------------------------------------------------------------------------

    def _run(self, info: StreamInfo) -> None:
        give_way()  # encoding, as camera_enhancer's threads do
        pauses = delays(uniform=self._uniform)
        while not self._over():
            began_ns = self._clock.now_ns()
            try:
                info = self._serve(info)
                continue
            except StreamSRError as error:
                failure = error
            except Exception as error:  # a bug in one sink must not cost the others theirs
                _log.exception("%s", self._plan.url)
                failure = StreamSRError(f"{type(error).__name__}: {error}")
            if self._clock.now_ns() - began_ns > STEADY_S * NS_PER_S:
                pauses = delays(uniform=self._uniform)
            with self._changed:
                self._error = redact(str(failure))
                self._state = "full" if isinstance(failure, DiskFullError) else "backoff"
                self._changed.wait_for(lambda: self._finishing, next(pauses))
        with self._changed:
            self._dropped += len(self._queue)
            self._queue.clear()
            self._state = "closed"

    def _over(self) -> bool:
        """Whether there is nothing left to try: at the end a sink that failed is not tried again."""
        with self._changed:
            failed = self._state in ("backoff", "full")
            return self._abandoned or (self._finishing and (failed or not self._queue))

    def _serve(self, info: StreamInfo) -> StreamInfo:
        """The life of one sink, until the end or a picture of another size; what then comes."""
        sink, self._fresh = self._fresh or self._plan.make(), None
        with self._changed:
            self._sink, self._state = sink, "opening"
        try:
            with self._call():
                sink.open(info)
            with self._changed:
                self._state, self._opened = "writing", self._opened + 1
            while (frame := self._next(info, sink)) is not None:
                self._write(sink, frame)
                del frame  # the next one may be long in coming
            with self._call():
                if self._abandoned:
                    sink.abort()
                else:
                    sink.close()
        except BaseException:  # whatever it was, nothing half-written stays behind
            with self._call():
                sink.abort()
            raise
        finally:
            with self._changed:
                left_out = getattr(sink, "drops", 0)
                self._written, self._dropped = self._written - left_out, self._dropped + left_out
                self._warnings.extend(getattr(sink, "warnings", ()))
                self._sink = None
            del sink
        with self._changed:
            if self._queue:
                info = replace(info, width=self._queue[0].width, height=self._queue[0].height)
        return info

    def _write(self, sink: Sink, frame: Frame) -> None:
        written = False
        try:
            with self._call():
                sink.write(frame)
            written = True
        finally:
            with self._changed:
                self._written, self._dropped = self._written + written, self._dropped + (not written)

    def _next(self, info: StreamInfo, sink: Sink) -> Frame | None:
        """Wait for the next picture. None: there will be none, or none of this size."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._finishing, IDLE_S)
                if self._abandoned or (self._finishing and not self._queue):
                    return None
                if self._queue:
                    head = self._queue[0]
                    if (head.width, head.height) != (info.width, info.height):
                        return None
                    return self._queue.popleft()
            idle = getattr(sink, "idle", None)
            if idle is not None:
                with self._call():
                    idle()

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Around every call of the sink: how long it takes is watched."""
        self._called_ns = self._clock.now_ns()
        try:
            yield
        finally:
            self._called_ns = None

    def _warn(self, text: str) -> None:
        self._warnings.append(f"{self._plan.url} {text}")
        _log.warning("%s", self._warnings[-1])
