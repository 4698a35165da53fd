"""aiortc's encoders, opened with the options and rates of a codec profile.

aiortc opens a codec wherever it finds none that fits the picture and the target rate. These have one open
before it looks. A new rate takes a new codec, and that a key frame, so the rate follows the receiver's
estimate in steps.
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

__all__ = ["BurstDecoder", "SteadyH264Encoder", "SteadyVp8Encoder", "encoder"]

KEYFRAME_INTERVAL = 3000  # frames; receivers ask for one when they need it
BUFFER_S = 0.5  # of rate control: what a key frame may be ahead
FALL = 0.9  # an estimate below this share of the rate is followed at once,
RISE = 1.3  # one above this share of it
RISE_EVERY_S = 3.0  # at most so often


class _Steps:
    """A target rate in bits per second that follows estimates in steps. clock: seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._changed_s = clock, clock()

    def follows(self, now: int, estimate: int) -> bool:
        """Whether a rate of ``now`` is to be given up for ``estimate``."""
        rested = self._clock() - self._changed_s >= RISE_EVERY_S
        if estimate < FALL * now or (estimate > RISE * now and rested):
            self._changed_s = self._clock()
            return True
        return False


class SteadyH264Encoder(H264Encoder):
    """x264 at the profile's preset and a constant rate that changes in steps."""

    def __init__(self, profile: CodecProfile, clock: Callable[[], float] = monotonic) -> None:
        self._profile, self._steps = profile, _Steps(clock)
        super().__init__()

    @property
    def target_bitrate(self) -> int:
        """In bits per second. Set to an estimate, it moves there if that is far enough away."""
        return super().target_bitrate

    @target_bitrate.setter
    def target_bitrate(self, estimate: int) -> None:
        estimate = self._profile.bounded(estimate)
        if self._steps.follows(self.target_bitrate, estimate):
            H264Encoder.target_bitrate.__set__(self, estimate)

    def encode(self, frame: Frame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        assert isinstance(frame, VideoFrame)
        if not _fits(self.codec, frame, self.target_bitrate):
            self.codec = _opened("libx264", frame, self.target_bitrate, self._profile)
            self.codec.profile = "Baseline"
            self.codec.options |= {"preset": self._profile.x264_preset, "tune": "zerolatency"}
        return super().encode(frame, force_keyframe)


class SteadyVp8Encoder(Vp8Encoder):
    """libvpx without its denoiser, at the profile's speed and a constant rate that changes in steps."""

    def __init__(self, profile: CodecProfile, clock: Callable[[], float] = monotonic) -> None:
        self._profile, self._steps = profile, _Steps(clock)
        super().__init__()

    @property
    def target_bitrate(self) -> int:
        """As of SteadyH264Encoder."""
        return super().target_bitrate

    @target_bitrate.setter
    def target_bitrate(self, estimate: int) -> None:
        estimate = self._profile.bounded(estimate)
        if self._steps.follows(self.target_bitrate, estimate):
            Vp8Encoder.target_bitrate.__set__(self, estimate)

    def encode(self, frame: Frame, force_keyframe: bool = False) -> tuple[list[bytes], int]:
        assert isinstance(frame, VideoFrame)
        if not _fits(self.codec, frame, self.target_bitrate):
            self.codec = _opened("libvpx", frame, self.target_bitrate, self._profile)
            self.codec.qmin, self.codec.qmax = 2, 56
            self.codec.options |= {
                "deadline": "realtime",
                "cpu-used": str(self._profile.vp8_cpu_used),
                "lag-in-frames": "0",
                "noise-sensitivity": "0",  # it would smooth away what was just restored
                "static-thresh": "1",
                "undershoot-pct": "100",
                "overshoot-pct": "15",
            }
        return super().encode(frame, force_keyframe)


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
    codec = av.CodecContext.create(name, "w")
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
