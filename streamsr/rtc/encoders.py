"""aiortc's encoders, opened with the options and rates of a codec profile.

aiortc opens a codec wherever it finds none that fits the picture and the target rate. These have one open
before it looks. A new rate takes a new codec, and that a key frame, so the rate follows the receiver's
estimates in steps. Estimates come on the event loop, pictures on a thread of its executor.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from time import monotonic
from typing import TYPE_CHECKING, cast

import av
from aiortc.codecs.base import Decoder, Encoder
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import VIDEO_TIME_BASE
from av import VideoFrame
from av.frame import Frame
from av.video.codeccontext import VideoCodecContext

from ..io.colour import colour_of, tag
from ..io.x264 import live_options
from .bridge import tell_encoded
from .jitter_buffer import frames_in

if TYPE_CHECKING:
    from .codec_profile import CodecProfile

__all__ = ["BurstDecoder", "SteadyH264Encoder", "SteadyVp8Encoder", "encoder"]

KEYFRAME_INTERVAL = 3000  # frames; receivers ask for one when they need it
BUFFER_S = 0.5  # of rate control: what a key frame may be ahead
FALL = 0.9  # of what was really sent: an estimate below that share of it means congestion
RISE = 1.3  # of the rate: an estimate above that share is worth a key frame,
RISE_EVERY_S = 3.0  # at most so often
WINDOW_S = 1.0  # over which the sent rate is taken, as receivers do


class _Steps:
    """When a rate is to be given up for a receiver's estimate. Rates in bits per second; clock: seconds.

    A receiver that sees little because little was sent estimates little: that alone is no reason to fall.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._changed_s = clock, clock()
        self._lock = threading.Lock()
        self._sent: deque[tuple[float, int]] = deque()  # when, bits; of the last WINDOW_S

    def sent(self, payloads: list[bytes]) -> None:
        now_s = self._clock()
        with self._lock:
            self._sent.append((now_s, 8 * sum(map(len, payloads))))
            while self._sent[0][0] < now_s - WINDOW_S:
                self._sent.popleft()

    def follows(self, rate: int, estimate: int) -> bool:
        now_s = self._clock()
        with self._lock:
            really = sum(bits for at_s, bits in self._sent if at_s >= now_s - WINDOW_S) / WINDOW_S
        rises = estimate > RISE * rate and now_s - self._changed_s >= RISE_EVERY_S
        if estimate < FALL * min(rate, really) or rises:
            self._changed_s = now_s
            return True
        return False


class _Steady(Encoder):
    """Goes before an encoder of aiortc's: the codec it finds open is the profile's."""

    codec: VideoCodecContext | None

    def __init__(self, profile: CodecProfile, clock: Callable[[], float] = monotonic) -> None:
        self._profile, self._steps = profile, _Steps(clock)
        self._rate = 1000 * profile.start_kbps
        super().__init__()

    @property
    def target_bitrate(self) -> int:
        """In bits per second. Set to a receiver's estimate, it moves there where that is worth it."""
        return self._rate

    @target_bitrate.setter
    def target_bitrate(self, estimate: int) -> None:
        estimate = self._profile.bounded(estimate)
        if self._steps.follows(self._rate, estimate):
            self._rate = estimate

    def encode(self, frame: Frame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        assert isinstance(frame, VideoFrame)
        if not _fits(self.codec, frame, self._rate):
            self.codec = self._open(frame)
        payloads, timestamp = super().encode(frame, force_keyframe)  # type: ignore[safe-super]
        self._steps.sent(payloads)
        tell_encoded(frame)
        return payloads, timestamp

    @abstractmethod
    def _open(self, frame: VideoFrame) -> VideoCodecContext:
        """A codec for pictures like ``frame``, at the rate and the profile's options."""


class SteadyH264Encoder(_Steady, H264Encoder):
    """x264 at the profile's preset and a constant rate that changes in steps."""

    def _open(self, frame: VideoFrame) -> VideoCodecContext:
        codec = _opened("libx264", frame, self._rate, self._profile)
        codec.profile = "Baseline"
        codec.options |= live_options(self._profile.x264_preset)
        return codec


class SteadyVp8Encoder(_Steady, Vp8Encoder):
    """libvpx without its denoiser, at the profile's speed and a constant rate that changes in steps."""

    def _open(self, frame: VideoFrame) -> VideoCodecContext:
        codec = _opened("libvpx", frame, self._rate, self._profile)
        codec.qmin, codec.qmax = 2, 56
        codec.options |= {
            "deadline": "realtime",
            "cpu-used": str(self._profile.vp8_cpu_used),
            "lag-in-frames": "0",
            "noise-sensitivity": "0",  # it would smooth away what was just restored
            "static-thresh": "1",
            "undershoot-pct": "100",
            "overshoot-pct": "15",
        }
        return codec


class BurstDecoder(Decoder):
    """A decoder that takes what PromptJitterBuffer hands out."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def decode(self, encoded_frame: JitterFrame) -> list[Frame]:
        return [picture for frame in frames_in(encoded_frame) for picture in self._decoder.decode(frame)]


def _fits(codec: VideoCodecContext | None, frame: VideoFrame, rate: int) -> bool:
    if codec is None:
        return False
    return (codec.width, codec.height, codec.bit_rate) == (frame.width, frame.height, rate)


def _opened(name: str, frame: VideoFrame, rate: int, profile: CodecProfile) -> VideoCodecContext:
    """For pictures like ``frame`` at a constant ``rate`` in bits per second."""
    codec = cast(VideoCodecContext, av.CodecContext.create(name, "w"))
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "yuv420p"
    tag(codec, colour_of(frame), "yuv420p")
    codec.time_base, codec.framerate = VIDEO_TIME_BASE, Fraction(profile.rate)
    codec.gop_size = KEYFRAME_INTERVAL
    codec.thread_count = 1  # a call has other work for the other cores
    codec.bit_rate = rate
    # minrate is libvpx's way to ask for a constant rate
    codec.options = {"minrate": str(rate), "maxrate": str(rate), "bufsize": str(round(BUFFER_S * rate))}
    return codec


def encoder(mime_type: str, profile: CodecProfile) -> Encoder | None:
    """For ``mime_type``; None where the profile says nothing of it."""
    kinds = {"video/h264": SteadyH264Encoder, "video/vp8": SteadyVp8Encoder}
    kind = kinds.get(mime_type.lower())
    return None if kind is None else kind(profile)
