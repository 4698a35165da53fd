"""A camera of this machine, through Video4Linux."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from fractions import Fraction

import av
from av.video.reformatter import VideoReformatter

from ..clock import MONOTONIC, Clock
from ..errors import ConfigError, SourceError
from ..frame import Frame, StreamInfo
from .colour import colour_of, to_rgb
from .pts import IncreasingPts

__all__ = ["CameraSource", "camera_device"]

DEVICE = re.compile(r"/dev/video(\d+)")
SHORT = re.compile(r"camera:(\d+)")
FALLBACK_RATE = Fraction(30)


def camera_device(url: str) -> str | None:
    """``/dev/video0`` for ``camera:0`` and for itself; None if ``url`` is not meant as a camera.

    Raises ConfigError for ``camera:`` with anything but a number.
    """
    if found := SHORT.fullmatch(url):
        return f"/dev/video{found[1]}"
    if url.startswith("camera:"):
        raise ConfigError(f"a camera is named by its number, camera:0, got {url!r}")
    return url if DEVICE.fullmatch(url) else None


class CameraSource:
    """Live frames of ``camera:0`` or ``/dev/video0``; pts are the driver's.

    size: (width, height) asked of the driver, which may give another; None: its own choice.
    """

    live = True

    def __init__(self, url: str, *, size: tuple[int, int] | None = None, clock: Clock = MONOTONIC) -> None:
        device = camera_device(url)
        if device is None:
            raise ConfigError(f"a camera is named camera:0 or /dev/video0, got {url!r}")
        self.url = url
        self._device = device
        self._size = size
        self._clock = clock
        self._interrupted = threading.Event()
        self._container: av.container.InputContainer | None = None
        self._pictures: Iterator[av.VideoFrame] | None = None
        self._first: tuple[av.VideoFrame, int] | None = None
        self._reformatter = VideoReformatter()
        self._pts = IncreasingPts(1)
        self._time_base = Fraction(1, 1_000_000)
        self._shape: tuple[int, ...] | None = None
        self._index = 0

    def open(self) -> StreamInfo:
        """Raises SourceError: no such camera, no permission, in use, no picture."""
        if not os.path.exists(self._device):
            raise SourceError(f"no camera at {self._device}: plug one in or name another", self.url)
        options = {} if self._size is None else {"video_size": f"{self._size[0]}x{self._size[1]}"}
        try:
            self._container = av.open(self._device, format="video4linux2,v4l2", options=options)
            stream = self._container.streams.video[0]
            stream.thread_type = "SLICE"
            self._pictures = self._container.decode(stream)
            picture = next(self._pictures, None)
        except (av.FFmpegError, IndexError) as error:
            self.close()
            reason = getattr(error, "strerror", None) or "it gives no video"
            raise SourceError(f"cannot open the camera {self._device}: {reason}", self.url) from None
        if picture is None:
            self.close()
            raise SourceError(f"the camera {self._device} gives no picture", self.url)
        self._first = picture, self._clock.now_ns()
        rate = Fraction(stream.average_rate or FALLBACK_RATE)
        self._time_base = picture.time_base or stream.time_base or self._time_base
        self._pts = IncreasingPts(round(1 / (rate * self._time_base)))
        return StreamInfo(picture.width, picture.height, rate, self._time_base, colour_of(picture))

    def read(self) -> Frame | None:
        """Block for the next frame; None after ``interrupt`` and ``close``. Raises SourceError."""
        if self._pictures is None or self._interrupted.is_set():
            return None
        try:
            picture, captured_ns = self._first or (next(self._pictures, None), self._clock.now_ns())
        except av.FFmpegError as error:
            raise SourceError(f"the camera {self._device} stopped: {error.strerror}", self.url) from None
        self._first = None
        if picture is None or self._interrupted.is_set():
            return None
        image = to_rgb(picture, self._reformatter)
        frame = Frame(
            image=image,
            pts=self._pts.place(picture.pts),
            time_base=self._time_base,
            captured_ns=captured_ns,
            index=self._index,
            discontinuity=image.shape != self._shape,
        )
        self._shape, self._index = image.shape, self._index + 1
        return frame

    def interrupt(self) -> None:
        """``read`` ends with the frame that the driver is about to give."""
        self._interrupted.set()

    def close(self) -> None:
        self._pictures = self._first = None
        if self._container is not None:
            self._container.close()
            self._container = None
