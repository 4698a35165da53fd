"""Between a track, which lives on an event loop, and the threads of a pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from dataclasses import dataclass
from fractions import Fraction

from aiortc.mediastreams import VIDEO_TIME_BASE, convert_timebase
from av import VideoFrame
from av.video.reformatter import VideoReformatter

from ..channel import LatestFrame
from ..clock import NS_PER_MS, Clock
from ..errors import DecodeError, SinkError, SourceError
from ..frame import Colour, Frame, Matrix, StreamInfo
from ..io.colour import CODE_POINTS, UNSPECIFIED, UprightRgb, colour_of, encodable
from ..stats import LatencyWindow

__all__ = ["TrackSink", "TrackSource", "bt601_if_untagged", "tell_encoded"]

UNKNOWN_RATE = Fraction(0)  # a track does not say it
GAP_S = 1.0  # after a longer pause the picture is another one
NOMINAL_STEP = 90_000 // 30  # between the last frame before and the first after times that went back
DELAY_WINDOW = 50  # frames: two seconds, so that the delay follows the load without following single frames


def bt601_if_untagged(picture: VideoFrame) -> VideoFrame:
    """``picture``, its colour matrix named where it was not.

    Files do without a tag below 720 lines only; calls at any size: VP8 has but this matrix (RFC 6386),
    and browsers read untagged H.264 the same way.
    """
    if int(picture.colorspace) == UNSPECIFIED and not picture.format.is_rgb:
        picture.colorspace = CODE_POINTS[Matrix.BT601]
    return picture


def tell_encoded(picture: VideoFrame) -> None:
    """On any thread: ``picture`` has just been encoded for a peer. A TrackSink that made it counts that."""
    if isinstance(picture.opaque, _Origin):
        picture.opaque.sink.encoded(picture.opaque.captured_ns)


class TrackSource:
    """The newest frame of a track. ``put`` and ``end`` are called on the loop, the rest on a thread.

    A frame that is not read before the next one comes is gone; the gap in ``Frame.index`` tells.
    """

    live = True
    url = "webrtc:in"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._newest: tuple[VideoFrame, int, int] | None = None  # frame, captured_ns, index
        self._arrived = 0
        self._ended = False
        self._failure: SourceError | None = None
        self._opened: Frame | None = None  # the first picture, which ``open`` had to wait for
        self._rgb = UprightRgb()
        self._last_pts: int | None = None  # of the output, in units of 1/90000 s
        self._shift = 0  # from the track's times to the output's

    def put(self, frame: VideoFrame) -> None:
        with self._changed:
            self._newest = frame, self._clock.now_ns(), self._arrived
            self._arrived += 1
            self._changed.notify()

    def end(self, failure: SourceError | None = None) -> None:
        """No more frames will come; the first ``failure`` is the reader's. May be called twice."""
        with self._changed:
            self._ended, self._failure = True, self._failure or failure
            self._changed.notify()

    def open(self) -> StreamInfo:
        taken = self._take()
        if taken is None:
            raise SourceError("the track ended before its first picture", self.url)
        self._opened = self._frame(*taken)
        return StreamInfo(
            self._opened.width, self._opened.height, UNKNOWN_RATE, VIDEO_TIME_BASE, colour_of(taken[0])
        )

    def read(self) -> Frame | None:
        if self._opened is not None:
            first, self._opened = self._opened, None
            return first
        taken = self._take()
        return None if taken is None else self._frame(*taken)

    def interrupt(self) -> None:
        self.end()

    def close(self) -> None:
        self.end()
        self._newest = None

    def _take(self) -> tuple[VideoFrame, int, int] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended)
            taken, self._newest = self._newest, None
            if taken is None and self._failure is not None:
                raise self._failure
            return taken

    def _frame(self, picture: VideoFrame, captured_ns: int, index: int) -> Frame:
        if picture.pts is None or picture.time_base is None:
            raise DecodeError("a frame of the track has no pts", self.url)
        pts = convert_timebase(picture.pts, picture.time_base, VIDEO_TIME_BASE) + self._shift
        step = None if self._last_pts is None else pts - self._last_pts
        if step is not None and step <= 0:  # another source behind the same track
            self._shift += NOMINAL_STEP - step
            pts += NOMINAL_STEP - step
        self._last_pts = pts
        return Frame(
            image=self._rgb.read(bt601_if_untagged(picture)),
            pts=pts,
            time_base=VIDEO_TIME_BASE,
            captured_ns=captured_ns,
            index=index,
            discontinuity=step is None or not 0 < step * VIDEO_TIME_BASE <= GAP_S,
        )


class TrackSink:
    """Pictures for whoever awaits ``frames``: the newest one, converted for an encoder on the thread."""

    url = "webrtc:out"

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._clock, self._loop = clock, loop
        self._reformatter = VideoReformatter()
        self._colour = Colour()
        self.takes_yuv420p = False
        self._taken_ms, self._encoded_ms = LatencyWindow(DELAY_WINDOW), LatencyWindow(DELAY_WINDOW)
        self._ended = False
        self.frames: LatestFrame[tuple[VideoFrame, int]] = LatestFrame(1)  # with captured_ns

    @property
    def delay_ms(self) -> float:
        """Median time of the last frames from capture to when they were encoded, or, as long as nobody tells
        of that, ``taken``; 0 before the first."""
        return self._encoded_ms.median() or self._taken_ms.median()

    def taken(self, captured_ns: int) -> None:
        """On the loop: a consumer has the frame captured then."""
        self._taken_ms.add(self._age_ms(captured_ns))

    def encoded(self, captured_ns: int) -> None:
        """On any thread: the frame captured then has been encoded, once for every viewer."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody asks any more
            self._loop.call_soon_threadsafe(self._encoded_ms.add, self._age_ms(captured_ns))

    def end(self) -> None:
        """On the loop: no more frames, from now on. May be called twice."""
        self._ended = True
        self.frames.close()

    def open(self, info: StreamInfo) -> None:
        self._colour = info.colour
        self.takes_yuv420p = info.width % 2 == 0 and info.height % 2 == 0

    def write(self, frame: Frame) -> None:
        picture = encodable(frame.image, self._colour, "yuv420p", self._reformatter)
        picture.pts, picture.time_base = frame.pts, frame.time_base
        picture.opaque = _Origin(self, frame.captured_ns)
        try:
            self._loop.call_soon_threadsafe(self._push, picture, frame.captured_ns)
        except RuntimeError as error:
            raise SinkError("the event loop of the track is closed", self.url) from error

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def _push(self, picture: VideoFrame, captured_ns: int) -> None:
        if not self._ended:
            self.frames.push((picture, captured_ns))

    def _age_ms(self, captured_ns: int) -> float:
        return (self._clock.now_ns() - captured_ns) / NS_PER_MS


@dataclass(frozen=True, slots=True)
class _Origin:
    """Whose a picture is, for ``tell_encoded``; it goes with the picture, as its ``opaque``."""

    sink: TrackSink
    captured_ns: int
