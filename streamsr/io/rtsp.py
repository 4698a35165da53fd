"""Live pictures from an RTSP camera or server, for as long as anyone wants them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

import av
import numpy as np

from ..clock import MONOTONIC, NS_PER_S, Clock
from ..errors import ConfigError, DecodeError, SourceError, redact
from ..frame import Frame, StreamInfo
from .backoff import delays
from .colour import UprightRgb, colour_of
from .hardware import accelerator
from .rtsp_connection import FALLBACK_RATE, Connection, Ingest
from .rtsp_url import check_url
from .stillness import StillWatch
from .tap import PacketTap
from .timeline import Timeline

__all__ = ["RtspSource", "RtspState", "RtspStatistics"]

QUIET_S = 1.0  # without a picture for so long, the state is "stalled"
STEADY_S = 10.0  # a connection that held this long starts the backoff from its beginning
HUNG_MAX = 4  # threads given up but still alive; no new connection beyond that
WATCH_S = 0.1  # the watchdog looks this often
JOIN_S = 0.4  # close waits this long for each thread
THAW_S = 600.0  # a frozen picture is met by a new connection at most once in this time


class RtspState(StrEnum):
    CONNECTING = "connecting"
    STREAMING = "streaming"
    STALLED = "stalled"  # connected, but no picture for a second
    FROZEN = "frozen"  # pictures come, but it is the same one over and over
    BACKOFF = "backoff"  # waiting before the next attempt
    CLOSED = "closed"  # also: not opened yet


@dataclass(frozen=True, slots=True)
class RtspStatistics:
    """frames: decoded; drops: of those, replaced by a newer one before anyone read them.

    late: pictures left out because they came out of order. damaged: packets that could not be decoded.
    reconnects: connections after the first that gave a picture. stalls: connections given up
    because no picture came. hung: given-up threads that have not ended yet. frozen: times the picture
    stood still. jumps: times the camera's clock was set, or its pts leapt. resized: changes of size.
    codec: as FFmpeg names it; None before the first picture; recoded: changes of it. resets: times the
    decoder, which no longer gave pictures, began anew.
    """

    state: RtspState
    frames: int
    drops: int
    late: int
    damaged: int
    reconnects: int
    stalls: int
    hung: int
    frozen: int
    jumps: int
    resized: int
    codec: str | None
    recoded: int
    resets: int
    last_error: str | None


@dataclass(frozen=True, slots=True)
class _Picture:
    frame: av.VideoFrame
    pts: int
    duration: int
    captured_ns: int
    index: int
    discontinuity: bool


class RtspSource:
    """The newest picture of a live stream; what nobody took in time is dropped and counted.

    url: rtsp://[user:password@]host[:port]/path; ``self.url`` is without the credentials.
    open_timeout_s: from the start of a connection to its first picture (a keyframe must come).
    stall_timeout_s: without a picture for so long, the connection is given up.
    frozen_timeout_s: with the same picture for so long, the state is "frozen". That is met by a new
        connection, once; if it does not help, the picture goes on being sent as it is.
    reconnect: go on after a loss, forever or until ``max_attempts`` in a row have failed; otherwise
        a server that hangs up is the end of the stream, and any other loss raises SourceError. The
        first connection is tried once: whoever opens the source learns at once what is wrong.
    threads: decoder threads, over the slices of a picture (over pictures would delay them).
    hwaccel: what decodes, see ``hardware.accelerator``.
    tap: sees every packet before it is decoded.

    pts go on increasing over reconnects, by the time that really passed; the first picture of a
    connection and the first of a new size are discontinuities.

    Two threads stand behind an open source: one owns the connection, one watches its wall clock. A
    call into FFmpeg cannot be called off, so a connection that hangs is left to its thread, which may
    no longer hand over pictures and ends with FFmpeg's own timeout, at most ``stall_timeout_s``
    (while connecting, ``open_timeout_s``) and a second after it fell silent. Meanwhile a new
    one takes its place.
    """

    live = True

    def __init__(
        self,
        url: str,
        *,
        transport: str = "tcp",
        open_timeout_s: float = 15.0,
        stall_timeout_s: float = 5.0,
        frozen_timeout_s: float = 10.0,
        reconnect: bool = True,
        max_attempts: int | None = None,
        threads: int = 2,
        hwaccel: str = "none",
        tap: PacketTap | None = None,
        clock: Clock = MONOTONIC,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        check_url(url)
        if transport not in ("tcp", "udp"):
            raise ConfigError(f"transport must be tcp or udp, got {transport!r}")
        timeouts_s = (open_timeout_s, stall_timeout_s, frozen_timeout_s)
        if min(timeouts_s) <= 0:
            raise ConfigError(f"timeouts must be above 0 s, got {', '.join(map(str, timeouts_s))}")
        if max_attempts is not None and max_attempts < 1:
            raise ConfigError(f"max_attempts must be at least 1, got {max_attempts}")
        self.url = redact(url)
        device = accelerator(hwaccel)
        self._ingest = Ingest(url, transport, open_timeout_s, stall_timeout_s, threads, clock, device, tap)
        self._reconnect, self._max_attempts = reconnect, max_attempts
        self._clock = clock
        self._uniform = uniform
        self._upright = UprightRgb()
        self._changed = threading.Condition()  # guards all that follows
        self._supervisor: threading.Thread | None = None
        self._connection: Connection | None = None  # the one that may hand over pictures
        self._given_up: list[Connection] = []
        self._stopped = threading.Event()
        self._state = RtspState.CLOSED
        self._slot: _Picture | None = None
        self._timeline = Timeline()
        self._frozen_timeout_s = frozen_timeout_s
        self._stillness = StillWatch(frozen_timeout_s)
        self._thawed_ns: int | None = None  # when a frozen picture was last met by a new connection
        self._size: tuple[int, int] | None = None  # of the last picture
        self._rate = FALLBACK_RATE
        self._discontinuity = True  # of the next picture
        self._finished = False
        self._fatal: str | None = None  # why no more pictures will come
        self._codec: str | None = None
        self._frames = self._drops = self._late = self._damaged = self._reconnects = self._stalls = 0
        self._frozen = self._resized = self._recoded = self._resets = 0
        self._last_error: str | None = None

    def open(self) -> StreamInfo:
        """Connect, once, and wait for the first picture. Raises SourceError with the reason."""
        with self._changed:
            if self._supervisor is not None:
                raise SourceError("an RTSP source can be opened once", self.url)
            self._state = RtspState.CONNECTING
            self._supervisor = threading.Thread(target=self._supervise, name=f"watch {self.url}", daemon=True)
            self._supervisor.start()
            while self._slot is None and self._fatal is None and not self._stopped.is_set():
                self._changed.wait()
            picture, reason = self._slot, self._fatal
        if picture is None or self._stopped.is_set():
            self.close()
            raise SourceError(reason or "interrupted while connecting", self.url)
        try:
            height, width = self._image(picture.frame).shape[:2]  # also: that it can be converted
            colour = colour_of(picture.frame)
        except DecodeError:
            self.close()
            raise
        return StreamInfo(width, height, self._rate, self._timeline.time_base, colour)

    def read(self) -> Frame | None:
        """Block for the newest picture not yet read. None: interrupted, closed, or at the end.

        Blocks through reconnects. Raises SourceError when the stream is lost for good, DecodeError if
        it changes to a colour matrix that cannot be converted.
        """
        with self._changed:
            while self._slot is None or self._stopped.is_set():
                if self._stopped.is_set() or self._supervisor is None:
                    return None
                if self._fatal is not None:
                    raise SourceError(self._fatal, self.url)
                if self._finished:
                    return None
                self._changed.wait()
            picture, self._slot = self._slot, None
        return Frame(
            image=self._image(picture.frame),
            pts=picture.pts,
            time_base=self._timeline.time_base,
            captured_ns=picture.captured_ns,
            index=picture.index,
            duration=picture.duration,
            discontinuity=picture.discontinuity,
        )

    def interrupt(self) -> None:
        """From any thread: a blocked ``open`` raises and a blocked ``read`` returns None, at once."""
        with self._changed:
            self._stopped.set()
            if self._connection is not None:
                self._connection.stop()
            self._changed.notify_all()

    def close(self) -> None:
        """End it within a second, from any state and any thread. May be called twice."""
        self.interrupt()
        with self._changed:
            supervisor, connection = self._supervisor, self._connection
        if supervisor is not None:
            supervisor.join(JOIN_S)
        if connection is not None:
            connection.join(JOIN_S)
        with self._changed:
            self._state = RtspState.CLOSED
            self._slot = None

    @property
    def warnings(self) -> list[str]:
        """What the pictures suffered on their way here, a line each."""
        with self._changed:
            lines = []
            if self._reconnects:
                lines.append(f"{self.url} was lost and found again, reconnects: {self._reconnects}")
            if self._frozen:
                lines.append(f"{self.url} showed the same picture for a long time, times: {self._frozen}")
            if self._damaged:
                lines.append(f"{self.url}: packets that could not be decoded: {self._damaged}")
            return lines

    def statistics(self) -> RtspStatistics:
        with self._changed:
            self._given_up = [connection for connection in self._given_up if connection.alive]
            return RtspStatistics(
                state=self._state,
                frames=self._frames,
                drops=self._drops,
                late=self._late,
                damaged=self._damaged,
                reconnects=self._reconnects,
                stalls=self._stalls,
                hung=len(self._given_up),
                frozen=self._frozen,
                jumps=self._timeline.jumps,
                resized=self._resized,
                codec=self._codec,
                recoded=self._recoded,
                resets=self._resets,
                last_error=self._last_error,
            )

    def _image(self, frame: av.VideoFrame) -> np.ndarray:
        try:
            return self._upright.read(frame)
        except DecodeError as error:  # which does not know the URL
            raise DecodeError(str(error), self.url) from None

    def _supervise(self) -> None:
        pauses = delays(uniform=self._uniform)
        failed = 0  # attempts in a row
        while not self._stopped.is_set():
            with self._changed:
                self._state = RtspState.CONNECTING
                connection = self._connection = Connection(self._ingest, self, self.url)
                connection.start()
            reason = self._watch(connection)
            connection.stop()
            with self._changed:
                self._connection = None if not self._stopped.is_set() else connection
                if connection.alive:
                    self._given_up.append(connection)
                if self._stopped.is_set():
                    break
                self._last_error = reason
                first = self._frames == 0
                streamed_ns = connection.streamed_ns
                failed = 0 if streamed_ns is not None else failed + 1
                if streamed_ns is not None and streamed_ns > STEADY_S * NS_PER_S:
                    pauses = delays(uniform=self._uniform)
                if first:
                    self._fatal = reason
                elif not self._reconnect:
                    self._finished = connection.ended
                    self._fatal = None if connection.ended else reason
                elif self._max_attempts is not None and failed >= self._max_attempts:
                    self._fatal = f"lost; {failed} attempts to reconnect failed, the last because {reason}"
                if self._fatal is not None or self._finished:
                    break
                self._state = RtspState.BACKOFF
                self._timeline.restart()
                self._discontinuity = True
            self._stopped.wait(next(pauses))
            while len(self._hung()) >= HUNG_MAX and not self._stopped.wait(WATCH_S):
                pass
        with self._changed:
            self._state = RtspState.CLOSED
            self._changed.notify_all()

    def _hung(self) -> list[Connection]:
        with self._changed:
            self._given_up = [connection for connection in self._given_up if connection.alive]
            return self._given_up

    def _watch(self, connection: Connection) -> str:
        """Wait until ``connection`` fails, falls silent or is no longer wanted; why."""
        with self._changed:
            while not self._stopped.is_set():
                if connection.reason is not None:
                    return connection.reason
                last_ns = connection.last_picture_ns
                silent_s = (self._clock.now_ns() - (last_ns or connection.started_ns)) / NS_PER_S
                if last_ns is None and silent_s > self._ingest.open_timeout_s:
                    return f"connected, but no picture came within {self._ingest.open_timeout_s:g} s"
                if last_ns is not None and silent_s > self._ingest.stall_timeout_s:
                    self._stalls += 1
                    return f"no picture for {self._ingest.stall_timeout_s:g} s"
                if last_ns is not None:
                    quiet = silent_s > min(QUIET_S, self._ingest.stall_timeout_s / 2)
                    self._state = RtspState.STALLED if quiet else self._flowing()
                    if self._state is RtspState.FROZEN and self._reconnect and self._may_thaw():
                        self._thawed_ns = self._clock.now_ns()
                        return f"the same picture for {self._frozen_timeout_s:g} s"
                self._changed.wait(WATCH_S)
        return "interrupted"

    def _flowing(self) -> RtspState:
        return RtspState.FROZEN if self._stillness.still else RtspState.STREAMING

    def _may_thaw(self) -> bool:
        since_ns = self._thawed_ns
        return since_ns is None or self._clock.now_ns() - since_ns > THAW_S * NS_PER_S

    def take(self, connection: Connection, frame: av.VideoFrame, rate: Fraction, captured_ns: int) -> None:
        """On the connection's thread: put a picture into the slot, unless it has been given up."""
        with self._changed:
            if connection is not self._connection:
                return
            if connection.last_picture_ns is None:
                connection.first_picture_ns = captured_ns
                self._reconnects += self._frames > 0
                self._rate = rate
                self._recoded += self._codec not in (None, connection.codec)
                self._codec = connection.codec
            connection.last_picture_ns = captured_ns
            was_still = self._stillness.still
            self._stillness.see(frame, captured_ns)
            self._frozen += self._stillness.still and not was_still
            self._state = self._flowing()
            time_base = frame.time_base or self._timeline.time_base
            pts = self._timeline.place(frame.pts, time_base, captured_ns)
            if pts is None:
                self._late += 1
                return
            size = (frame.width, frame.height)
            self._resized += self._size not in (None, size)
            discontinuity = self._discontinuity or size != self._size
            self._size, self._discontinuity = size, False
            if self._slot is not None:
                self._drops += 1
                discontinuity = discontinuity or self._slot.discontinuity
            duration = round((frame.duration or 0) * time_base / self._timeline.time_base)
            self._slot = _Picture(
                frame=frame,
                pts=pts,
                duration=duration or round(1 / (rate * self._timeline.time_base)),
                captured_ns=captured_ns,
                index=self._frames,
                discontinuity=discontinuity,
            )
            if self._ingest.tap is not None:
                self._ingest.tap.picture(connection.tapped, self._frames, frame.pts)
            self._frames += 1
            self._changed.notify_all()

    def damaged(self) -> None:
        """On the connection's thread: count a packet that could not be decoded."""
        with self._changed:
            self._damaged += 1

    def reset(self) -> None:
        """On the connection's thread: count a decoder that began anew."""
        with self._changed:
            self._resets += 1

    def over(self, connection: Connection, reason: str) -> None:
        """On the connection's thread: it has ended."""
        with self._changed:
            connection.reason = reason
            self._changed.notify_all()
