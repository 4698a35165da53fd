"""Rates and encoder options fit for the pictures that streamsr sends, and how aiortc is told of them.

aiortc's own rates (VP8 0.25 to 1.5 Mbit/s, H.264 0.5 to 3 Mbit/s) are for 640x480: at 720p they destroy the
detail that was just restored. It has no settings for any of this but module variables; ``tune`` is the one
place that touches them, and says so clearly if a version of aiortc lacks one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import ModuleType

import aiortc.codecs.h264
import aiortc.codecs.vpx
import aiortc.jitterbuffer
import aiortc.rtcrtpreceiver
import aiortc.rtcrtpsender
import aiortc.rtp
from aiortc.codecs import get_decoder, get_encoder
from aiortc.codecs.base import Decoder, Encoder
from aiortc.jitterbuffer import JitterBuffer
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from ..errors import ConfigError
from .audio_level import audio_level_dbov
from .encoders import BurstDecoder, encoder
from .jitter_buffer import PromptJitterBuffer

__all__ = ["CodecProfile", "tune", "with_start_bitrate"]

REFERENCE_PX, REFERENCE_KBPS = 1280 * 720, 3000
GROWTH = 0.75  # of the rate with the number of pixels: larger pictures are smoother
X264_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium")

# what this module and its neighbours rely on beyond aiortc's documented names
AIORTC_NAMES: dict[ModuleType, tuple[str, ...]] = {
    aiortc.codecs.h264: ("DEFAULT_BITRATE", "MIN_BITRATE", "MAX_BITRATE", "H264Encoder"),
    aiortc.codecs.vpx: ("DEFAULT_BITRATE", "MIN_BITRATE", "MAX_BITRATE", "Vp8Encoder"),
    aiortc.rtcrtpsender: ("get_encoder",),
    aiortc.rtcrtpreceiver: ("get_decoder", "JitterBuffer"),
    aiortc.rtp: ("compute_audio_level_dbov",),
}


@dataclass(frozen=True, slots=True)
class CodecProfile:
    """For one size of outgoing pictures; rates in kbit/s.

    start_kbps: before the receiver's first estimate, which then moves it between min_kbps and max_kbps.
    rate: frames per second, for the encoders' rate control. x264_preset: ultrafast takes half as long as
    superfast, veryfast almost twice as long. vp8_cpu_used: libvpx's, -16 (fastest) to -1. Raises ConfigError.
    """

    start_kbps: int = REFERENCE_KBPS
    min_kbps: int = REFERENCE_KBPS // 6
    max_kbps: int = 2 * REFERENCE_KBPS
    rate: int = 30
    x264_preset: str = "superfast"
    vp8_cpu_used: int = -8

    def __post_init__(self) -> None:
        if not 0 < self.min_kbps <= self.start_kbps <= self.max_kbps:
            raise ConfigError(
                "rates must be 0 < min_kbps <= start_kbps <= max_kbps, got "
                f"{self.min_kbps}, {self.start_kbps}, {self.max_kbps}"
            )
        if not 1 <= self.rate <= 240:
            raise ConfigError(f"rate must be 1..240 frames per second, got {self.rate}")
        if self.x264_preset not in X264_PRESETS:
            raise ConfigError(f"x264_preset must be one of {X264_PRESETS}, got {self.x264_preset!r}")
        if not -16 <= self.vp8_cpu_used <= -1:
            raise ConfigError(f"vp8_cpu_used must be in -16..-1, got {self.vp8_cpu_used}")

    def bounded(self, bitrate: int) -> int:
        """``bitrate``, in bits per second, moved between min_kbps and max_kbps; in whole kbit."""
        return 1000 * max(self.min_kbps, min(bitrate // 1000, self.max_kbps))

    @classmethod
    def for_output(cls, width: int, height: int, rate: int = 30) -> CodecProfile:
        """For pictures of ``width`` x ``height`` px: 3 Mbit/s at 1280x720, 0.5 to 6 as the network allows."""
        if width < 1 or height < 1:
            raise ConfigError(f"a picture must be at least 1x1 px, got {width}x{height}")
        start = max(100, round(REFERENCE_KBPS * (width * height / REFERENCE_PX) ** GROWTH))
        return cls(start, start // 6, 2 * start, rate)


def tune(profile: CodecProfile | None = None, *, prompt: bool = True) -> None:
    """Set up aiortc for this process: all peers made from now on. May be called again.

    profile: of what is sent; by default that of 1280x720. prompt: receive with PromptJitterBuffer, a
    frame of delay less. Raises ConfigError where the installed aiortc is not as it has to be.
    """
    _check_aiortc()
    profile = CodecProfile() if profile is None else profile
    rates = {"DEFAULT": profile.start_kbps, "MIN": profile.min_kbps, "MAX": profile.max_kbps}
    for module in (aiortc.codecs.h264, aiortc.codecs.vpx):
        for name, kbps in rates.items():
            setattr(module, f"{name}_BITRATE", 1000 * kbps)

    def encoder_of(codec: RTCRtpCodecParameters) -> Encoder:
        return encoder(codec.mimeType, profile) or get_encoder(codec)

    def decoder_of(codec: RTCRtpCodecParameters) -> Decoder:
        return BurstDecoder(get_decoder(codec))

    aiortc.rtcrtpsender.get_encoder = encoder_of
    aiortc.rtcrtpreceiver.get_decoder = decoder_of
    aiortc.rtp.compute_audio_level_dbov = audio_level_dbov
    buffer = PromptJitterBuffer if prompt else JitterBuffer
    aiortc.rtcrtpreceiver.JitterBuffer = buffer  # type: ignore[assignment,misc]


def with_start_bitrate(sdp: str, kbps: int) -> str:
    """``sdp``, an answer or offer for a browser, asking that it begin its upload at ``kbps``.

    Chromium begins at 300 kbit/s otherwise, and halves its pictures' sides for the first seconds.
    Raises ConfigError if ``kbps`` is not in 1..100000.
    """
    if not 1 <= kbps <= 100_000:
        raise ConfigError(f"kbps must be in 1..100000, got {kbps}")
    option = f"x-google-start-bitrate={kbps}"
    lines = sdp.splitlines()
    types = [found[1] for line in lines if (found := re.match(r"a=rtpmap:(\d+) (?:VP8|H264)/", line))]
    out = []
    for line in lines:
        out.append(line)
        found = re.match(r"a=(rtpmap|fmtp):(\d+) ", line)
        if found is None or found[2] not in types:
            continue
        if found[1] == "fmtp":
            out[-1] = f"{line};{option}"
        elif not any(other.startswith(f"a=fmtp:{found[2]} ") for other in lines):
            out.append(f"a=fmtp:{found[2]} {option}")
    return "\r\n".join(out) + "\r\n"


def _check_aiortc() -> None:
    for module, names in AIORTC_NAMES.items():
        for name in names:
            if not hasattr(module, name):
                raise ConfigError(f"aiortc {aiortc.__version__} has no {module.__name__}.{name}")
