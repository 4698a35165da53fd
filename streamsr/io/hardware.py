"""Codecs of GPUs: what this FFmpeg has of them, and whether this machine lets them work.

Every probe codes a picture: a name in a list says nothing about drivers and cards. None of them has worked
on a real card yet.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import cast

import av
import numpy as np
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.logging import Capture
from av.video.codeccontext import VideoCodecContext

from ..errors import ConfigError

__all__ = ["DEVICES", "ENCODERS", "accelerator", "decoding_fails", "encoder_options", "encoding_fails"]

DEVICES = ("cuda", "vaapi")  # that decode; "auto" takes the first that does
ENCODERS = ("h264_nvenc", "hevc_nvenc")
PROBE_PX = 256  # a side; some of them refuse smaller pictures


def encoder_options(crf: float | None, bit_rate: int | None, *, live: bool) -> dict[str, str]:
    """Of NVENC. crf: its constant quality, on the same scale. live: no picture is held back."""
    options = {"preset": "p4", "rc": "vbr", "bf": "0", "forced-idr": "1"}
    if live:
        options |= {"tune": "ll", "zerolatency": "1", "delay": "0"}
    if bit_rate is None:
        return options | {"cq": f"{crf:g}", "b": "0"}
    return options | {"b": str(bit_rate), "maxrate": str(bit_rate), "bufsize": str(bit_rate)}


def accelerator(hwaccel: str) -> HWAccel | None:
    """What decodes, for one ``av.open``; None: FFmpeg on the CPU.

    hwaccel: "none", one of DEVICES, or "auto": the first of them that works here, else none. What a device
    that was chosen cannot decode is an error, never left to the CPU. Raises ConfigError with the reason for
    one that does not work here.
    """
    if hwaccel not in ("none", "auto", *DEVICES):
        raise ConfigError(f"hwaccel must be none, auto, {' or '.join(DEVICES)}, got {hwaccel!r}")
    if hwaccel == "auto":
        hwaccel = next((device for device in DEVICES if not decoding_fails(device)), "none")
    if hwaccel == "none":
        return None
    if reason := decoding_fails(hwaccel):
        raise ConfigError(f"hwaccel {hwaccel} does not work here: {reason}")
    return HWAccel(hwaccel, allow_software_fallback=False)


@cache
def decoding_fails(device: str) -> str:
    """Why a device of that kind decodes no H264 here; "": it does."""
    if device not in hwdevices_available():
        return f"this build of FFmpeg has no {device}"
    encoder = _encoder("libx264")
    packets = [packet for picture in (_picture(encoder), None) for packet in encoder.encode(picture)]
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with Capture() as lines:
            wanted = HWAccel(device, allow_software_fallback=False)
            decoder = cast(VideoCodecContext, av.CodecContext.create("h264", "r", hwaccel=wanted))
            if not decoder.is_hwaccel:
                return f"this build of FFmpeg decodes no H264 on {device}"
            pictures = [picture for packet in (*packets, None) for picture in decoder.decode(packet)]
    except (av.FFmpegError, NotImplementedError) as error:
        return _reason(error, lines)
    finally:
        av.logging.set_level(level)
    return "" if pictures else "it gave no picture"


@cache
def encoding_fails(name: str) -> str:
    """Why that encoder of FFmpeg's encodes nothing here; "": it does."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with Capture() as lines:
            encoder = _encoder(name)
            packets = [packet for picture in (_picture(encoder), None) for packet in encoder.encode(picture)]
    except av.codec.codec.UnknownCodecError:
        return f"this build of FFmpeg has no {name}"
    except av.FFmpegError as error:
        return _reason(error, lines)
    finally:
        av.logging.set_level(level)
    return "" if packets else "it encoded nothing"


def _encoder(name: str) -> VideoCodecContext:
    encoder = cast(VideoCodecContext, av.CodecContext.create(name, "w"))
    encoder.width = encoder.height = PROBE_PX
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, 25)
    return encoder


def _picture(encoder: VideoCodecContext) -> av.VideoFrame:
    black = av.VideoFrame.from_ndarray(np.zeros((PROBE_PX, PROBE_PX, 3), np.uint8), format="rgb24")
    picture = black.reformat(format=encoder.pix_fmt)
    picture.pts, picture.time_base = 0, encoder.time_base
    return picture


def _reason(error: Exception, lines: list[tuple[int, str, str]]) -> str:
    """FFmpeg's own words, of which the first say most; the error's number alone says nothing."""
    said = next((" ".join(line.split()) for _, _, line in lines if line.strip()), "")
    return (said or str(getattr(error, "strerror", None) or error)).rstrip(".")
