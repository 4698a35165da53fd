"""aiortc's encoders, opened with the options and rates of a codec profile.

aiortc opens a codec where it finds none that fits the picture and the target rate. These have one open
before it looks: x264 takes a new rate while it runs; libvpx must be opened anew, which costs a key frame,
so its rate follows the receiver's estimate in steps.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from time import monotonic
from typing import TYPE_CHECKING

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
from .jitter_buffer import frames_in

if TYPE_CHECKING:
    from .codec_profile import CodecProfile

__all__ = ["BurstDecoder", "SteadyH264Encoder", "SteadyVp8Encoder"]

KEYFRAME_INTERVAL = 3000  # frames; receivers ask for one when they need it
VBV_S = 0.5  # of x264's rate control
FALL = 0.9  # an estimate below this share of the rate is followed at once,
RISE = 1.3  # one above this share of it
RISE_EVERY_S = 3.0  # at most so often


class SteadyH264Encoder(H264Encoder):
    """x264 at the profile's preset; a new target rate takes effect without a key frame."""

    def __init__(self, profile: CodecProfile) -> None:
        super().__init__()
        self._profile = profile

    def encode(self, frame: Frame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        assert isinstance(frame, VideoFrame)
        if self.codec is None or (self.codec.width, self.codec.height) != (frame.width, frame.height):
            self.codec = self._opened(frame)
        self.codec.bit_rate = self.target_bitrate
        return super().encode(frame, force_keyframe)

    def _opened(self, frame: VideoFrame) -> VideoCodecContext:
        profile, most = self._profile, 1000 * self._profile.max_kbps
        codec = av.CodecContext.create("libx264", "w")
        _describe(codec, frame)
        codec.framerate = Fraction(profile.rate)
        codec.time_base = VIDEO_TIME_BASE
        codec.bit_rate = self.target_bitrate
        codec.profile = "Baseline"
        codec.options = {
            "preset": profile.x264_preset,
            "tune": "zerolatency",
            "maxrate": str(most),
            "bufsize": str(round(VBV_S * most)),
        }
        return codec


class SteadyVp8Encoder(Vp8Encoder):
    """libvpx without its denoiser, at the profile's speed; its rate changes in steps.

    clock: seconds, for tests.
    """

    def __init__(self, profile: CodecProfile, clock: Callable[[], float] = monotonic) -> None:
        self._profile, self._clock = profile, clock
        self._changed_s = clock()
        super().__init__()

    @property
    def target_bitrate(self) -> int:
        """In bits per second."""
        return int(Vp8Encoder.target_bitrate.fget(self))  # type: ignore[attr-defined]

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        now, now_s = self.target_bitrate, self._clock()
        rises = bitrate > RISE * now and now_s - self._changed_s >= RISE_EVERY_S
        if bitrate < FALL * now or rises:
            Vp8Encoder.target_bitrate.fset(self, bitrate)  # type: ignore[attr-defined]
        if self.target_bitrate != now:
            self._changed_s = now_s

    def encode(self, frame: Frame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        assert isinstance(frame, VideoFrame)
        if self.codec is None or (self.codec.width, self.codec.height, self.codec.bit_rate) != (
            frame.width, frame.height, self.target_bitrate,
        ):  # fmt: skip
            self.codec = self._opened(frame)
        return super().encode(frame, force_keyframe)

    def _opened(self, frame: VideoFrame) -> VideoCodecContext:
        rate = str(self.target_bitrate)
        codec = av.CodecContext.create("libvpx", "w")
        _describe(codec, frame)
        codec.time_base = VIDEO_TIME_BASE
        codec.framerate = Fraction(self._profile.rate)
        codec.bit_rate = self.target_bitrate
        codec.qmin, codec.qmax = 2, 56
        codec.options = {
            "deadline": "realtime",
            "cpu-used": str(self._profile.vp8_cpu_used),
            "lag-in-frames": "0",
            "noise-sensitivity": "0",  # it would smooth away what was just restored
            "static-thresh": "1",
            "minrate": rate,  # with maxrate: a constant rate
            "maxrate": rate,
            "bufsize": rate,  # one second
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


def _describe(codec: VideoCodecContext, frame: VideoFrame) -> None:
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "yuv420p"
    codec.gop_size = KEYFRAME_INTERVAL
    codec.thread_count = 1  # a call has other work for the other cores
    tag(codec, colour_of(frame), "yuv420p")


def encoder(mime_type: str, profile: CodecProfile) -> Encoder | None:
    """For ``mime_type``; None where the profile says nothing of it."""
    kinds = {"video/h264": SteadyH264Encoder, "video/vp8": SteadyVp8Encoder}
    kind = kinds.get(mime_type.lower())
    return None if kind is None else kind(profile)
