"""Publish pictures to an RTSP server, from a process of its own."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from ..errors import ConfigError, SinkError, redact
from ..frame import Frame, StreamInfo, Yuv420p, check_picture
from .backoff import delays
from .hardware import encoding_fails
from .publisher_process import KILLED_S, SLOTS, Memory, Publisher
from .rtsp_publisher import Job
from .rtsp_url import check_url

__all__ = ["RtspSink", "RtspSinkState", "RtspSinkStatistics"]

DEFAULT_CRF = 23
OPEN_S = 15.0  # on top of the server's time: starting Python and loading FFmpeg on a busy machine
FINISH_S = 1.2  # close gives the publisher so long to say goodbye
STEADY_S = 10.0  # a connection that held this long starts the backoff from its beginning


class RtspSinkState(StrEnum):
    CONNECTING = "connecting"
    PUBLISHING = "publishing"
    BACKOFF = "backoff"  # waiting before the next attempt
    CLOSED = "closed"  # also: not opened yet


@dataclass(frozen=True, slots=True)
class RtspSinkStatistics:
    """frames: given to ``write``; published: of those, taken by the publishing process.

    drops: replaced by a newer one or written while there was no connection.
    reconnects: connections after the first. process_id: of the publisher, while there is one.
    """

    state: RtspSinkState
    frames: int
    published: int
    drops: int
    reconnects: int
    process_id: int | None
    last_error: str | None


class RtspSink:
    """Sends H264 to an RTSP server (ANNOUNCE, RECORD); the newest picture wins.

    url: rtsp://[user:password@]host[:port]/path; ``self.url`` is without the credentials.
    codec: "h264" (x264), or a GPU's "h264_nvenc", where it works.
    crf: 0 (best) .. 51; None: 23. bit_rate: bit/s, in its place. A keyframe every 2 s.
    stall_timeout_s: a server that takes nothing for so long counts as lost.
    sei: what the picture of a frame's index says of itself, as user data in its H264.
    reconnect: go on after a loss, forever; otherwise the next ``write`` raises SinkError. The first
        connection is tried once, by ``open``.

    FFmpeg can hang on a server that stops reading, with the interpreter's lock held, so it runs in a
    process of its own, one for each connection, and pictures go there through shared memory: ``write``
    never waits for the server. The memory has no name and the process ends itself when it hangs or
    when its parent is gone, so nothing is left behind, however this process ends. Linux only.

    A picture of another size than before starts a new connection. Odd sides get one more row or
    column, a copy of the last, because 4:2:0 has no odd ones.
    """

    def __init__(
        self,
        url: str,
        *,
        transport: str = "tcp",
        codec: str = "h264",
        crf: float | None = None,
        bit_rate: int | None = None,
        stall_timeout_s: float = 5.0,
        sei: Callable[[int], str] | None = None,
        reconnect: bool = True,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        check_url(url)
        if transport not in ("tcp", "udp"):
            raise ConfigError(f"transport must be tcp or udp, got {transport!r}")
        if codec not in ("h264", "h264_nvenc"):
            raise ConfigError(f"an RTSP output is h264 or h264_nvenc, got codec {codec!r}")
        if codec == "h264_nvenc" and (reason := encoding_fails(codec)):
            raise ConfigError(f"codec {codec} does not work here: {reason}")
        if crf is not None and bit_rate is not None:
            raise ConfigError("give crf or bit_rate, not both")
        if crf is not None and not 0 <= crf <= 51:
            raise ConfigError(f"crf must be in [0, 51], got {crf}")
        if bit_rate is not None and bit_rate < 1:
            raise ConfigError(f"bit_rate must be at least 1 bit/s, got {bit_rate}")
        if stall_timeout_s <= 0:
            raise ConfigError(f"stall_timeout_s must be above 0, got {stall_timeout_s}")
        self.url = redact(url)
        self._url = url
        self._transport = transport
        self._encoder = "libx264" if codec == "h264" else codec
        self._crf = DEFAULT_CRF if crf is None else crf
        self._bit_rate = bit_rate
        self._stall_timeout_s = stall_timeout_s
        self._sei = sei
        self._reconnect = reconnect
        self._uniform = uniform
        self._changed = threading.Condition()  # guards all that follows
        self._supervisor: threading.Thread | None = None
        self._publisher: Publisher | None = None  # once it runs
        self._memory: Memory | None = None
        self._info: StreamInfo | None = None
        self._closing = False
        self._state = RtspSinkState.CLOSED
        self._pending: dict[str, int | bool | str] | None = None  # of the newest picture, for the publisher
        self._taken_slot: int | None = None  # in the publisher's hands
        self._last_pts: int | None = None
        self._connections = self._frames = self._published = self._drops = 0
        self._fatal: str | None = None
        self._last_error: str | None = None

    def open(self, info: StreamInfo) -> None:
        """Connect and wait until the server has agreed. Raises SinkError with the reason."""
        with self._changed:
            if self._supervisor is not None or self._closing:
                raise SinkError("an RTSP sink can be opened once", self.url)
            self._info = info
            self._memory = self._allocate(info.width, info.height)
            self._state = RtspSinkState.CONNECTING
            self._supervisor = threading.Thread(
                target=self._supervise, name=f"publish {self.url}", daemon=True
            )
            self._supervisor.start()
            opened = self._changed.wait_for(
                lambda: self._connections or self._fatal or self._closing,
                OPEN_S + 2 * self._stall_timeout_s,
            )
            reason = self._fatal if opened else "the publishing process did not start"
            published = self._connections > 0
        if not published:
            self.abort()
            raise SinkError(reason or "closed while connecting", self.url)

    def write(self, frame: Frame) -> None:
        """Copy the picture and return; it replaces one that is still waiting. Its pts must increase.

        Raises SinkError once the connection is lost for good, or if the sink is not open.
        """
        check_picture(frame.image)
        with self._changed:
            if self._fatal is not None:
                raise SinkError(self._fatal, self.url)
            if self._memory is None or self._closing:
                raise SinkError("not open", self.url)
            self._frames += 1
            pts = self._rescaled(frame)
            if self._last_pts is not None and pts <= self._last_pts:
                self._drops += 1
                return
            self._last_pts = pts
            if (frame.width, frame.height) != (self._memory.width, self._memory.height):
                self._resize(frame.width, frame.height)
            if self._state is not RtspSinkState.PUBLISHING:
                self._drops += 1
                return
            if self._pending is not None:
                self._drops += 1
            slot = 1 - self._taken_slot if self._taken_slot is not None else 0
            self._memory.write(slot, frame.image)
            self._pending = {
                "slot": slot,
                "yuv420p": isinstance(frame.image, Yuv420p),
                "pts": pts,
                "sei": self._sei(frame.index) if self._sei is not None else "",
            }
            self._hand_over()

    def close(self) -> None:
        """Let the publisher finish and say goodbye, or kill it: over in 2 s. May be called twice."""
        self._end(FINISH_S)

    def abort(self) -> None:
        """Kill the publisher. May be called twice, and after ``close``."""
        self._end(0)

    @property
    def takes_yuv420p(self) -> bool:
        return self._info is not None and self._info.width % 2 == 0 and self._info.height % 2 == 0

    @property
    def warnings(self) -> list[str]:
        """What did not reach the server, a line each."""
        with self._changed:
            lines = []
            if self._connections > 1:
                lines.append(f"{self.url} was lost and found again, reconnects: {self._connections - 1}")
            if self._drops:
                lines.append(f"{self.url} was sent {self._published} of {self._frames} pictures")
            return lines

    @property
    def drops(self) -> int:
        with self._changed:
            return self._drops

    def statistics(self) -> RtspSinkStatistics:
        with self._changed:
            return RtspSinkStatistics(
                state=self._state,
                frames=self._frames,
                published=self._published,
                drops=self._drops,
                reconnects=max(0, self._connections - 1),
                process_id=self._publisher.process_id if self._publisher else None,
                last_error=self._last_error,
            )

    def _rescaled(self, frame: Frame) -> int:
        assert self._info is not None
        return round(frame.pts * frame.time_base / self._info.time_base)

    def _allocate(self, width: int, height: int) -> Memory:
        try:
            return Memory(width, height)
        except OSError as error:
            mib = width * height * 3 * SLOTS / 2**20
            raise SinkError(f"no {mib:.0f} MiB of shared memory: {error.strerror}", self.url) from error

    def _resize(self, width: int, height: int) -> None:
        self._drop_pending()
        self._memory = self._allocate(width, height)  # the old one lives as long as its publisher
        self._state = RtspSinkState.CONNECTING
        if self._publisher is not None:
            self._publisher.kill()

    def _drop_pending(self) -> None:
        self._drops += self._pending is not None
        self._pending, self._taken_slot = None, None

    def _hand_over(self) -> None:
        """Give the publisher the newest picture if it is waiting for one, or let it finish."""
        if self._publisher is None or not self._publisher.ready:
            return
        if self._pending is not None:
            self._publisher.send(self._pending)
            self._taken_slot = int(self._pending["slot"])
            self._pending = None
            self._published += 1
        elif self._closing:
            self._publisher.send({"finish": True})

    def _end(self, patience_s: float) -> None:
        with self._changed:
            self._closing = True
            supervisor = self._supervisor
            if self._publisher is not None and patience_s == 0:
                self._publisher.kill()
            self._hand_over()
            self._changed.notify_all()
        if supervisor is not None:
            supervisor.join(patience_s)
            with self._changed:
                if self._publisher is not None:
                    self._publisher.kill()
            supervisor.join(KILLED_S)
        with self._changed:
            self._memory = None
            self._state = RtspSinkState.CLOSED

    def _supervise(self) -> None:
        pauses = delays(uniform=self._uniform)
        memory = self._memory
        assert memory is not None
        try:
            while not self._closing:
                began = time.monotonic()
                reason = self._publish(memory)
                with self._changed:
                    self._drop_pending()
                    if self._closing:
                        return
                    if self._memory is not None and self._memory is not memory:  # another size
                        memory.close()
                        memory = self._memory
                        continue
                    self._last_error = redact(reason)
                    if self._connections == 0 or not self._reconnect:
                        self._fatal = reason
                        return
                    if time.monotonic() - began > STEADY_S:
                        pauses = delays(uniform=self._uniform)
                    self._state = RtspSinkState.BACKOFF
                    self._changed.wait_for(lambda: self._closing, next(pauses))
                    self._state = RtspSinkState.CONNECTING
        finally:
            with self._changed:
                memory.close()
                if self._memory is not None:
                    self._memory.close()
                self._changed.notify_all()

    def _publish(self, memory: Memory) -> str:
        """Run one publisher to its end; why it ended."""
        assert self._info is not None
        colour = self._info.colour
        job = Job(
            url=self._url,
            transport=self._transport,
            width=memory.width,
            height=memory.height,
            rate=str(self._info.rate),
            time_base=str(self._info.time_base),
            matrix=colour.matrix.value,
            range=colour.range.value,
            primaries=colour.primaries,
            transfer=colour.transfer,
            encoder=self._encoder,
            crf=self._crf,
            bit_rate=self._bit_rate,
            memory_fd=memory.fd,
            slots=SLOTS,
            timeout_s=self._stall_timeout_s,
        )
        try:
            publisher = Publisher(job)
        except OSError as error:
            return f"the publishing process cannot be started: {error.strerror}"
        reason: str | None = None
        try:
            with self._changed:
                self._publisher = publisher
                if self._closing:
                    publisher.kill()
                publisher.start(job)
            for line in publisher.messages:
                message = json.loads(line)
                with self._changed:
                    if message["event"] == "open":
                        self._connections += 1
                        self._state = RtspSinkState.PUBLISHING
                        self._changed.notify_all()
                    elif message["event"] == "ready":
                        self._taken_slot = None
                        publisher.ready = True
                        self._hand_over()
                    else:
                        reason = str(message["reason"])
        finally:
            with self._changed:
                self._publisher = None
            reason = publisher.end(reason)
        return reason
