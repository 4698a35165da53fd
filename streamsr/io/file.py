"""Frames from a file or an image sequence, through FFmpeg."""

from __future__ import annotations

import os
import stat
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
from av.stream import Disposition
from av.video.stream import VideoStream

from ..clock import MONOTONIC, NS_PER_S, Clock
from ..errors import ConfigError, DecodeError, SourceError
from ..frame import Frame, StreamInfo
from .colour import UprightRgb, colour_of
from .hardware import accelerator
from .images import is_sequence, sequence_numbers
from .pts import IncreasingPts
from .tap import PacketTap

__all__ = ["FileSource"]

FALLBACK_RATE = Fraction(25)  # where a container names none; also of image sequences
MAX_RATE = 1000  # above this a container's rate is its clock, not a rate
WAIT_S = 0.005  # a paced read looks at its clock this often: an injected one need not be the real one
MISSING_S = 0.5  # a file that ends this much before its container says is cut off
TEXT_FORMATS = frozenset({"tty", "bin", "xbin", "adf", "idf"})  # FFmpeg would draw text as pictures


class FileSource:
    """Every picture of a file's first video stream, in presentation order, with its pts.

    path: a file, or a pattern such as ``frames/%05d.png``.
    paced: hand frames out when they are due, as a live source would (``live`` is then True).
    loop: start again at the end, pts going on; the first frame of a round is a discontinuity.
    threads: decoder threads. hwaccel: what decodes, see ``hardware.accelerator``.
    tap: sees every packet of the video before it is decoded.

    pts, time_base and durations are the file's; what ``IncreasingPts`` repairs is repaired. Rotation and
    mirror metadata are applied; a picture of another size comes as it is, as a discontinuity. A
    file cut off or damaged gives what can be read, and ``warnings`` says what is missing, one line
    each, complete once ``read`` gave None.
    """

    def __init__(
        self,
        path: str,
        *,
        clock: Clock = MONOTONIC,
        paced: bool = False,
        loop: bool = False,
        threads: int = 2,
        hwaccel: str = "none",
        tap: PacketTap | None = None,
    ) -> None:
        if not path:
            raise ConfigError("the source is empty: name a file, an rtsp:// address or camera:0")
        self.url = path
        self.live = paced
        self.warnings: list[str] = []
        self._clock = clock
        self._loop = loop
        self._threads = threads
        self._hwaccel = accelerator(hwaccel)
        self._tap, self._tapped = tap, 0
        self._interrupted = threading.Event()
        self._container: av.container.InputContainer | None = None
        self._frames: Iterator[Frame] | None = None
        self._first: Frame | None = None
        self._origin: tuple[int, int] | None = None  # pts and due time (ns) of the first paced frame
        self._upright = UprightRgb()

    def open(self) -> StreamInfo:
        """Raises SourceError: no such file, not a video, no frames; DecodeError: cannot be decoded."""
        try:
            stream = self._open_stream()
            pictures = self._pictures(stream)
            picture = next(pictures, None)
            if picture is None:
                reason = f" ({self.warnings[-1]})" if self.warnings else ""
                raise SourceError(f"{self.url} holds no video frames{reason}", self.url)
            rate = _rate(stream)
            time_base = picture.time_base or stream.time_base or 1 / rate
            count = None if self._loop else self._count(stream, rate)
            self._frames = self._timed(picture, pictures, time_base, rate)
            self._first = next(self._frames)
            return StreamInfo(
                self._first.width, self._first.height, rate, time_base, colour_of(picture), count
            )
        except (SourceError, av.FFmpegError):
            self.close()
            raise

    def read(self) -> Frame | None:
        """The next frame; None at the end, after ``interrupt`` and after ``close``."""
        if self._frames is None or self._interrupted.is_set():
            return None
        frame = self._first or next(self._frames, None)
        self._first = None
        return self._when_due(frame) if frame is not None and self.live else frame

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        self._frames = self._first = None
        if self._container is not None:
            self._container.close()
            self._container = None

    def _open_stream(self) -> VideoStream:
        options = {}
        if is_sequence(self.url):
            numbers = sequence_numbers(self.url)
            if not numbers:
                raise SourceError(f"no such file: no picture matches {self.url}", self.url)
            options = {"start_number": str(numbers[0]), "framerate": str(FALLBACK_RATE)}
            if numbers[-1] - numbers[0] >= len(numbers):
                self._warn(f"{self.url} has gaps: read up to the first one")
        else:
            _require_readable(self.url)
        try:
            # the absolute path: "a:b.mp4" is a file, never a protocol
            container = av.open(
                os.path.abspath(self.url),
                format="image2" if options else None,
                options=options,
                hwaccel=self._hwaccel,
            )
        except (PermissionError, FileNotFoundError) as error:
            raise SourceError(f"cannot read {self.url}: {error.strerror}", self.url) from None
        except av.FFmpegError:
            raise SourceError(
                f"{self.url} is not a video, or is cut off before its index", self.url
            ) from None
        except RuntimeError as error:  # PyAV's own, of a device that decodes nothing that is in there
            raise DecodeError(f"{self.url}: {error}", self.url) from None
        self._container = container
        if container.format.name in TEXT_FORMATS:
            raise SourceError(f"{self.url} is not a video: it holds text", self.url)
        streams = [
            stream
            for stream in container.streams.video
            if not stream.disposition & Disposition.attached_pic  # an album's cover is no video
        ]
        if not streams:
            held = sorted({stream.type for stream in container.streams if stream.type != "video"})
            what = " and ".join(held) or "nothing"
            raise SourceError(f"{self.url} is not a video: it holds {what}", self.url)
        stream = streams[0]
        if stream.codec_context is None:
            raise DecodeError(f"{self.url}: this build of FFmpeg has no decoder for its video", self.url)
        if self._hwaccel is not None and not stream.codec_context.is_hwaccel:
            raise DecodeError(f"{self.url}: the device decodes no {stream.codec_context.name}", self.url)
        stream.thread_type = "SLICE" if self.live else "AUTO"  # frame threads hold pictures back
        stream.thread_count = self._threads
        return stream

    def _pictures(self, stream: VideoStream) -> Iterator[av.VideoFrame]:
        """Decode to the end, or to where the file cannot be read any more; note that in ``warnings``."""
        container = self._container
        assert container is not None
        packets = container.demux()
        # AVI has decode times only. It cannot hold gaps in them, so the n-th picture shown has the n-th.
        times: deque[int | None] | None = deque() if container.format.name == "avi" else None
        damaged, reason, cut, end_s = 0, "", "", Fraction(0)
        if self._tap is not None:
            self._tapped = self._tap.begin(stream)
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                packet, cut = None, f"reading stopped with '{_reason(error)}'"
            ended = packet is None or (packet.size == 0 and packet.dts is None)
            if packet is not None and packet.pts is not None:
                end_s = max(end_s, (packet.pts + (packet.duration or 0)) * packet.time_base)
            if packet is not None and not ended:
                if packet.stream_index != stream.index:
                    continue
                if packet.is_corrupt:
                    cut = "its last picture is incomplete"
                if times is not None and packet.size:
                    times.append(packet.dts)
                if self._tap is not None:
                    self._tap.packet(self._tapped, packet)
            try:
                pictures = stream.decode(None if ended else packet)
            except av.FFmpegError as error:
                pictures, damaged, reason = [], damaged + 1, f": {_reason(error)}"
            for picture in pictures:
                damaged += picture.is_corrupt
                if times is not None:
                    picture.pts = times.popleft() if times else None
                yield picture
            if ended:
                break
        missing_s = _announced_end_s(container) - end_s
        if not cut and missing_s > MISSING_S:
            cut = f"the last {float(missing_s):.1f} s are missing"
        if cut:
            self._warn(f"{self.url} is cut off: {cut}")
        if damaged:
            self._warn(f"{self.url} has {damaged} damaged pictures{reason}")

    def _timed(
        self,
        first: av.VideoFrame,
        pictures: Iterator[av.VideoFrame],
        time_base: Fraction,
        rate: Fraction,
    ) -> Iterator[Frame]:
        """Number the pictures, turn them upright, make pts increase; round again if looping."""
        step = max(1, round(1 / (rate * time_base)))
        increasing = IncreasingPts(step)
        index = 0
        while True:
            picture: av.VideoFrame | None = first
            shape: tuple[int, ...] | None = None
            while picture is not None:
                if self._tap is not None:
                    self._tap.picture(self._tapped, index, picture.pts)
                image = self._image(picture)
                duration = picture.duration or step
                yield Frame(
                    image=image,
                    pts=increasing.place(picture.pts, duration),
                    time_base=time_base,
                    captured_ns=self._clock.now_ns(),
                    index=index,
                    duration=duration,
                    discontinuity=image.shape != shape,
                )
                shape, index = image.shape, index + 1
                picture = next(pictures, None)
            if increasing.jumps:
                self._warn(f"{self.url}: its time jumps back {increasing.jumps} times, closed up")
            if not self._loop or self._interrupted.is_set():
                return
            assert self._container is not None
            self._container.close()
            pictures = self._pictures(self._open_stream())
            again = next(pictures, None)
            if again is None:
                raise SourceError(f"{self.url} holds no video frames any more", self.url)
            first = again
            increasing.restart(first.pts)

    def _image(self, picture: av.VideoFrame) -> np.ndarray:
        try:
            return self._upright.read(picture)
        except (DecodeError, av.FFmpegError) as error:
            raise DecodeError(f"{self.url}: {_reason(error)}", self.url) from None

    def _when_due(self, frame: Frame) -> Frame | None:
        """Wait until ``frame`` is due; None if interrupted before."""
        now_ns = self._clock.now_ns()
        if self._origin is None:
            self._origin = frame.pts, now_ns
        pts, start_ns = self._origin
        due_ns = start_ns + round((frame.pts - pts) * frame.time_base * NS_PER_S)
        while now_ns < due_ns:
            if self._interrupted.wait(min(WAIT_S, (due_ns - now_ns) / NS_PER_S)):
                return None
            now_ns = self._clock.now_ns()
        return replace(frame, captured_ns=due_ns)

    def _count(self, stream: VideoStream, rate: Fraction) -> int | None:
        """Number of frames: as the container counts them, or as its duration and rate say."""
        if is_sequence(self.url):
            numbers = sequence_numbers(self.url)
            return next((n for n, number in enumerate(numbers) if number != numbers[0] + n), len(numbers))
        if stream.frames:
            return int(stream.frames)
        duration_s = _duration_s(stream)
        return round(duration_s * rate) if duration_s else None

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)


def _require_readable(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise SourceError(f"no such file: {path}", path) from None
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}", path) from None
    if stat.S_ISDIR(mode):
        raise SourceError(f"{path} is a directory: name a file, or pictures as {path}/%05d.png", path)
    if not stat.S_ISREG(mode):
        raise SourceError(f"{path} is not a regular file", path)
    if os.path.getsize(path) == 0:
        raise SourceError(f"{path} holds no video frames: it is empty (0 bytes)", path)


def _rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < rate <= MAX_RATE:
            return Fraction(rate)
    return FALLBACK_RATE


def _duration_s(stream: VideoStream) -> float | None:
    """Seconds from the first to the end of the last picture, if the container tells."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    try:  # Matroska: "00:00:01.234000000", the time at which the stream ends
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except (KeyError, ValueError):
        return None


def _announced_end_s(container: av.container.InputContainer) -> Fraction:
    """When the header says that the file ends; 0 where a file cut off is reported in another way.

    MP4 fails in reading then, and its edit lists show less than it holds; MPEG-TS announces nothing.
    """
    if container.format.name not in ("matroska,webm", "avi") or not container.duration:
        return Fraction(0)
    return Fraction(container.duration + (container.start_time or 0), av.time_base)


def _reason(error: Exception) -> str:
    """An error of FFmpeg in words, without its number and file name."""
    return str(getattr(error, "strerror", None) or error)
