"""A frame, what is known of its stream, and what a source and a sink must be able to do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Protocol

import numpy as np

from .errors import FrameError

__all__ = [
    "MAX_SIDE_PX",
    "Colour",
    "Frame",
    "Matrix",
    "Range",
    "Sink",
    "Source",
    "StreamInfo",
    "Yuv420p",
    "check_image",
    "check_picture",
]

MAX_SIDE_PX = 16384  # of an output picture


class Matrix(StrEnum):
    """The luma equation of a YCbCr stream."""

    BT601 = "bt601"
    BT709 = "bt709"
    BT2020 = "bt2020"


class Range(StrEnum):
    """Limited: luma 16..235 of 8 bits. Full: 0..255."""

    LIMITED = "limited"
    FULL = "full"


@dataclass(frozen=True, slots=True)
class Colour:
    """How a stream codes colour. A sink writes what its source had.

    primaries and transfer are the code points of ITU-T H.273 (2: not said).
    """

    matrix: Matrix = Matrix.BT601
    range: Range = Range.LIMITED
    primaries: int = 2
    transfer: int = 2


@dataclass(frozen=True, slots=True, eq=False)
class Yuv420p:
    """A picture as encoders take it, on its way to a sink that does; see ``Sink``.

    planes: (3 H / 2, W) uint8, C-contiguous, H and W even: Y, then Cb, then Cr, without gaps.
    colour: what they were made with. Raises FrameError for other planes.
    """

    planes: np.ndarray
    colour: Colour

    def __post_init__(self) -> None:
        rows, width = self.planes.shape if self.planes.ndim == 2 else (0, 0)
        if not rows or not width or rows % 3 or width % 2 or self.planes.dtype != np.uint8:
            raise FrameError(
                "planes must be (3 H / 2, W) uint8 with H and W even, got "
                f"{self.planes.shape} {self.planes.dtype}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W)."""
        rows, width = self.planes.shape
        return rows // 3 * 2, width


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture on its way through.

    image: (H, W, 3) uint8, RGB, full range, C-contiguous; in a session on a GPU it may lie there, see
        ``gpu.pictures``. To a sink that takes it, it may come as a ``Yuv420p``.
    pts, duration: in units of time_base; kept unchanged from source to sink.
    captured_ns: monotonic time at which the frame entered this process (for a paced file: was due).
    index: 0, 1, 2... in the order of the source; gaps are frames dropped on the way.
    discontinuity: the frame does not follow its predecessor (first frame, reconnect, change of
        size): state kept over time must be reset.
    """

    image: np.ndarray
    pts: int
    time_base: Fraction
    captured_ns: int
    index: int = 0
    duration: int = 0
    discontinuity: bool = False

    @property
    def time_s(self) -> float:
        return float(self.pts * self.time_base)

    @property
    def height(self) -> int:
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        return int(self.image.shape[1])

    def with_image(self, image: np.ndarray) -> Frame:
        return replace(self, image=image)


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """What a source says of its pictures once it is open.

    width, height: in px, after rotation metadata has been applied.
    rate: nominal frames per second; frames carry their own pts, so it only guides encoders.
    frames: how many there are, as far as the container knows; None for live streams.
    """

    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    colour: Colour = Colour()
    frames: int | None = None


class Source(Protocol):
    """Where frames come from. All but ``interrupt`` are called on one owned thread."""

    url: str  # as shown to users: without credentials
    live: bool  # live: the newest frame wins; otherwise nothing may be lost
    # ``warnings``, a list of lines, where there is one: what went wrong without ending the stream

    def open(self) -> StreamInfo:
        """Block until the first picture is known. Raises SourceError."""
        ...

    def read(self) -> Frame | None:
        """Block for the next frame; None at the end. Raises SourceError, DecodeError."""
        ...

    def interrupt(self) -> None:
        """From any thread: make a blocked ``open`` or ``read`` return (None) or raise soon."""
        ...

    def close(self) -> None:
        """Give everything back. May be called twice, and without ``open``."""
        ...


class Sink(Protocol):
    """Where frames go. All methods are called on one owned thread."""

    url: str
    # ``warnings``: as of a source
    # ``takes_yuv420p``, a bool, where there is one: whether, now that it is open, a picture of its size may
    # also come as a Yuv420p in its colour

    def open(self, info: StreamInfo) -> None:
        """``info`` describes the pictures to come, at the output size. Raises SinkError."""
        ...

    def write(self, frame: Frame) -> None:
        """Raises SinkError (disk full, peer gone)."""
        ...

    def close(self) -> None:
        """Finish: only now does a file stand under its final name. May be called twice."""
        ...

    def abort(self) -> None:
        """Give up: nothing half-written stays behind. May be called twice, and after ``close``."""
        ...


def check_image(image: np.ndarray, name: str = "image") -> None:
    """Raise FrameError unless ``image`` is a non-empty (H, W, 3) uint8 array."""
    if not isinstance(image, np.ndarray):
        raise FrameError(f"{name} must be a numpy array, got {type(image).__name__}")
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise FrameError(f"{name} must be (H, W, 3), got {tuple(image.shape)}")
    if image.dtype != np.uint8:
        raise FrameError(f"{name} must be uint8, got {image.dtype}")


def check_picture(image: np.ndarray | Yuv420p) -> None:
    """``check_image`` for a sink that takes Yuv420p, too."""
    if not isinstance(image, Yuv420p):
        check_image(image)
