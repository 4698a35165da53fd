"""The embedded portrait, set in motion, and the same as a live camera would send it.

``MotionSample`` renders clean pictures: a hand-held camera (shake, slow pan and zoom, slight
rotation) before a head that sways a little. ``DegradedSource`` halves them by area averaging, codes
them with x264 and hands them out at their due times, decoded as a receiver decodes them. Both are
fixed by their seed; every clean picture can be rendered again, so that a result can be measured.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from fractions import Fraction
from importlib import resources

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from ..clock import MONOTONIC, NS_PER_S, Clock
from ..errors import ConfigError, DecodeError, SourceError
from ..frame import Colour, Frame, Matrix, Range, StreamInfo
from .colour import from_rgb, tag, to_rgb

__all__ = ["SAMPLE_PX", "TIME_BASE", "DegradedSource", "MotionSample", "sample_picture"]

SAMPLE_PX = 512  # side of the embedded picture and of the clean frames
TIME_BASE = Fraction(1, 90_000)  # RTP's clock for video

HEAD_PX = (225.0, 124.0)  # middle of the face in the embedded picture
HEAD_RADIUS_PX = 72.0  # the sway falls off as exp(-d^2 / (2 r^2))
MAX_SWAY_PX = 5.0
MAX_ROLL_RAD = 0.03  # 1.7 degrees
ZOOM_RANGE = (1.06, 1.20)
ZOOM_PERIOD_S = 6.0
SHAKE_S = 0.7  # correlation time of pan and roll
SWAY_S = 1.2  # of the head
COLOUR = Colour(Matrix.BT601, Range.LIMITED)
WAIT_S = 0.02  # longest sleep before the clock is read again (it may be a test's)


def sample_picture() -> np.ndarray:
    """The embedded portrait: (512, 512, 3) uint8 RGB."""
    data = resources.files("streamsr").joinpath("data", "astronaut.png").read_bytes()
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None or picture.shape != (SAMPLE_PX, SAMPLE_PX, 3):
        raise ConfigError("the embedded sample streamsr/data/astronaut.png is damaged: reinstall streamsr")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


class MotionSample:
    """``frames`` clean pictures of (512, 512, 3) uint8 RGB at ``rate`` frames per second.

    The motion is a function of ``seed`` and ``rate`` alone: a longer sample begins with the shorter
    one. The view never leaves the picture, so no pixel is made up at the border.
    """

    def __init__(self, frames: int = 250, rate: Fraction = Fraction(25), seed: int = 0) -> None:
        if frames < 1:
            raise ConfigError(f"frames must be at least 1, got {frames}")
        if rate <= 0:
            raise ConfigError(f"rate must be above 0, got {rate}")
        self.frames, self.rate, self.seed = frames, Fraction(rate), seed
        self._picture = sample_picture()
        noise = np.random.default_rng(seed).standard_normal((frames, 5))
        dt = float(1 / self.rate)
        # (frames, 2) pan, (frames,) roll, (frames, 2) sway, all in -1..1
        self._pan = np.tanh(_wander(noise[:, :2], SHAKE_S, dt))
        self._roll = np.tanh(_wander(noise[:, 2], SHAKE_S, dt))
        self._sway = np.tanh(_wander(noise[:, 3:], SWAY_S, dt))

    def matrix(self, index: int) -> np.ndarray:
        """(2, 3) float64: px of the embedded picture to px of frame ``index``, sway left out."""
        self._check(index)
        low, high = ZOOM_RANGE
        phase = 2 * np.pi * index / float(self.rate) / ZOOM_PERIOD_S
        zoom = low + (high - low) * (0.5 - 0.5 * np.cos(phase))
        roll = MAX_ROLL_RAD * self._roll[index]
        cos, sin = np.cos(roll), np.sin(roll)
        middle = (SAMPLE_PX - 1) / 2
        slack = middle - middle / zoom * (cos + abs(sin))  # how far the view may pan inside the picture
        linear = zoom * np.array([[cos, -sin], [sin, cos]])
        # the picture has no air above the hair: stay in its upper half
        centre = middle + slack * (self._pan[index] * (1.0, 0.4) - (0.0, 0.6))
        return np.column_stack([linear, middle - linear @ centre])

    def face_px(self, index: int) -> tuple[float, float]:
        """Middle of the face in frame ``index``."""
        matrix = self.matrix(index)
        x, y = matrix[:, :2] @ (np.array(HEAD_PX) + MAX_SWAY_PX * self._sway[index]) + matrix[:, 2]
        return float(x), float(y)

    def frame(self, index: int) -> np.ndarray:
        """Render frame ``index``: (512, 512, 3) uint8 RGB, the same on every call."""
        inverse = cv2.invertAffineTransform(self.matrix(index))
        grid = np.arange(SAMPLE_PX, dtype=np.float64)
        x = (inverse[0, 0] * grid[None] + (inverse[0, 1] * grid[:, None] + inverse[0, 2])).astype(np.float32)
        y = (inverse[1, 0] * grid[None] + (inverse[1, 1] * grid[:, None] + inverse[1, 2])).astype(np.float32)
        distance2 = (x - np.float32(HEAD_PX[0])) ** 2 + (y - np.float32(HEAD_PX[1])) ** 2
        weight = np.exp(distance2 * np.float32(-0.5 / HEAD_RADIUS_PX**2))
        sway_x, sway_y = (MAX_SWAY_PX * self._sway[index]).astype(np.float32)
        x -= sway_x * weight
        y -= sway_y * weight
        return cv2.remap(self._picture, x, y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)

    def _check(self, index: int) -> None:
        if not 0 <= index < self.frames:
            raise IndexError(f"frame must be in 0..{self.frames - 1}, got {index}")


def _wander(noise: np.ndarray, tau_s: float, dt: float) -> np.ndarray:
    """Ornstein-Uhlenbeck walk of correlation time ``tau_s``, smoothed once more; about unit variance.

    noise: (n, ...) of the unit normal. The second, causal smoothing takes the jerk out of the walk:
    a hand has mass. Starts at rest in the middle.
    """
    keep = np.exp(-dt / tau_s)
    walk, smooth = np.zeros_like(noise[0]), np.zeros_like(noise[0])
    out = np.empty_like(noise)
    for i, step in enumerate(noise):
        walk = keep * walk + np.sqrt(1 - keep**2) * step
        smooth = keep * smooth + (1 - keep) * walk
        out[i] = smooth
    return out * np.sqrt(2.0)  # the second smoothing halves the variance


class DegradedSource:
    """The sample as a live camera of half its size sends it.

    x264 (zerolatency, veryfast, ``crf``) codes the whole clip in ``open``, as a camera does elsewhere;
    ``read`` waits until a frame is due on ``clock``, decodes its packet and stamps it with the due time.
    The first frame is due at the first ``read``. A late reader gets every frame, as old as it then is.
    """

    live = True
    url = "synthetic:astronaut"

    def __init__(
        self, sample: MotionSample | None = None, *, crf: int = 30, clock: Clock = MONOTONIC
    ) -> None:
        if not 0 <= crf <= 51:
            raise ConfigError(f"crf must be in 0..51, got {crf}")
        self.sample = sample or MotionSample()
        self.crf = crf
        self._clock = clock
        self._interrupted = threading.Event()
        self._packets: list[bytes] = []
        self._decoder: _Decoder | None = None
        self._start_ns = 0
        self._next = 0

    @property
    def coded_bytes(self) -> int:
        """Size of the coded clip; 0 before ``open``."""
        return sum(map(len, self._packets))

    def pts(self, index: int) -> int:
        """pts of frame ``index`` in units of 1/90000 s."""
        return round(index / self.sample.rate / TIME_BASE)

    def index(self, pts: int) -> int:
        """The sample's frame that was sent with ``pts``."""
        return round(pts * TIME_BASE * self.sample.rate)

    def replay(self) -> Iterator[np.ndarray]:
        """The decoded pictures again, not paced: what ``read`` gave or would have given, in order.

        Needs ``open`` to have been called; works after ``close`` too.
        """
        if not self._packets:
            raise SourceError("replay before open", self.url)
        decoder = _Decoder(self.url)
        for packet in self._packets:
            yield decoder.decode(packet)

    def open(self) -> StreamInfo:
        self._packets = self._encode()
        self._decoder = _Decoder(self.url)
        self._next = 0
        side = SAMPLE_PX // 2
        return StreamInfo(side, side, self.sample.rate, TIME_BASE, COLOUR, frames=None)

    def read(self) -> Frame | None:
        if self._decoder is None:
            raise SourceError("read before open", self.url)
        if self._next >= len(self._packets):
            return None
        index = self._next
        if index == 0:
            self._start_ns = self._clock.now_ns()
        due_ns = self._start_ns + round(index * NS_PER_S / self.sample.rate)
        if not self._wait_until(due_ns):
            return None
        self._next += 1
        return Frame(
            image=self._decoder.decode(self._packets[index]),
            pts=self.pts(index),
            time_base=TIME_BASE,
            captured_ns=due_ns,
            index=index,
            duration=self.pts(index + 1) - self.pts(index),
            discontinuity=index == 0,
        )

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        self._interrupted.set()
        self._decoder = None

    def _wait_until(self, due_ns: int) -> bool:
        """False if interrupted. The clock may be a test's, so it is read again and again."""
        while not self._interrupted.is_set():
            left_s = (due_ns - self._clock.now_ns()) / NS_PER_S
            if left_s <= 0:
                return True
            self._interrupted.wait(min(left_s, WAIT_S))
        return False

    def _encode(self) -> list[bytes]:
        """One packet a frame."""
        encoder = av.CodecContext.create("libx264", "w")
        encoder.width = encoder.height = SAMPLE_PX // 2
        encoder.pix_fmt = "yuv420p"
        encoder.framerate = self.sample.rate
        encoder.time_base = 1 / self.sample.rate
        encoder.gop_size = round(2 * self.sample.rate)  # a key frame every 2 s, as cameras do
        tag(encoder, COLOUR, "yuv420p")
        # one thread: the coded clip must not depend on the machine
        encoder.options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "crf": str(self.crf),
            "threads": "1",
        }
        reformatter = VideoReformatter()
        packets: list[bytes] = []
        for index in range(self.sample.frames):
            if self._interrupted.is_set():
                raise SourceError("interrupted while the sample was being coded", self.url)
            clean = self.sample.frame(index)
            half = cv2.resize(clean, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
            picture = from_rgb(half, COLOUR, "yuv420p", reformatter)
            picture.pts = index
            packets += [bytes(packet) for packet in encoder.encode(picture)]
        packets += [bytes(packet) for packet in encoder.encode(None)]
        return packets


class _Decoder:
    """A receiver's end: one packet in, one picture out."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._codec = av.CodecContext.create("h264", "r")
        self._codec.thread_count = 1  # frame threads would hold pictures back
        self._reformatter = VideoReformatter()

    def decode(self, packet: bytes) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises DecodeError."""
        try:
            pictures = self._codec.decode(av.Packet(packet))
        except av.FFmpegError as error:
            raise DecodeError(f"the coded sample cannot be decoded: {error}", self._url) from error
        if len(pictures) != 1:
            raise DecodeError(f"expected 1 picture from a packet, got {len(pictures)}", self._url)
        return to_rgb(pictures[0], self._reformatter)
