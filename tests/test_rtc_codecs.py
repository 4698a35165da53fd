"""The codec profile: what aiortc's encoders do with it, alone and between peers."""

from __future__ import annotations

import asyncio

import aiortc.codecs.h264
import aiortc.codecs.vpx
import aiortc.rtcrtpreceiver
import aiortc.rtcrtpsender
import numpy as np
import pytest
from aiortc import RTCPeerConnection
from aiortc.codecs.h264 import H264Encoder, h264_depayload
from aiortc.codecs.vpx import Vp8Encoder, vp8_depayload
from aiortc.jitterbuffer import JitterBuffer
from aiortc.mediastreams import VIDEO_TIME_BASE
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av import VideoFrame
from av.video.reformatter import VideoReformatter
from media import moving_portrait
from rtc_peers import LossyWire, PacedTrack, call

from streamsr.bench.fidelity import psnr_y
from streamsr.errors import ConfigError
from streamsr.frame import Colour
from streamsr.io.colour import from_rgb, to_rgb
from streamsr.rtc import CodecProfile, tune, with_start_bitrate
from streamsr.rtc.encoders import RISE_EVERY_S, SteadyH264Encoder, SteadyVp8Encoder
from streamsr.rtc.jitter_buffer import PromptJitterBuffer

pytest_plugins = ["rtc_fixtures"]

SIZE = (640, 360)
Steady = SteadyH264Encoder | SteadyVp8Encoder
ENCODERS = {"h264": SteadyH264Encoder, "vp8": SteadyVp8Encoder}


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return [moving_portrait(index, *SIZE) for index in range(50)]


def frame(image: np.ndarray, index: int) -> VideoFrame:
    made = from_rgb(image, Colour(), "yuv420p", VideoReformatter())
    made.pts, made.time_base = 3600 * index, VIDEO_TIME_BASE
    return made


class Seconds:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def encoded(encoder: Steady | H264Encoder | Vp8Encoder, pictures: list[np.ndarray], count: int) -> list[int]:
    """Sizes in bytes of ``count`` pictures, 40 ms apart."""
    sizes = []
    for index in range(count):
        payloads, _ = encoder.encode(frame(pictures[index % len(pictures)], index), index == 0)
        sizes.append(sum(map(len, payloads)))
        clock = getattr(getattr(encoder, "_steps", None), "_clock", None)
        if isinstance(clock, Seconds):
            clock.now += 0.04
    return sizes


def test_rates_follow_the_size_of_the_output() -> None:
    hd = CodecProfile.for_output(1280, 720)
    assert hd == CodecProfile() and (hd.min_kbps, hd.start_kbps, hd.max_kbps) == (500, 3000, 6000)
    small, large = CodecProfile.for_output(640, 360), CodecProfile.for_output(1920, 1080, rate=60)
    assert 800 < small.start_kbps < 1300 and 5000 < large.start_kbps < 6000 and large.rate == 60


@pytest.mark.parametrize(
    "options",
    [
        dict(start_kbps=100),
        dict(max_kbps=10),
        dict(rate=0),
        dict(x264_preset="placebo"),
        dict(vp8_cpu_used=3),
    ],
)
def test_refuses(options: dict[str, int | str]) -> None:
    with pytest.raises(ConfigError):
        CodecProfile(**options)  # type: ignore[arg-type]


def test_importing_changes_nothing_and_tune_says_all(untuned: None) -> None:
    assert (aiortc.codecs.vpx.DEFAULT_BITRATE, aiortc.codecs.h264.MAX_BITRATE) == (500_000, 3_000_000)
    tune(CodecProfile(2000, 300, 4000))
    for module in (aiortc.codecs.vpx, aiortc.codecs.h264):
        rates = (module.MIN_BITRATE, module.DEFAULT_BITRATE, module.MAX_BITRATE)
        assert rates == (300_000, 2_000_000, 4_000_000)
    for name, kind in ENCODERS.items():
        codec = RTCRtpCodecParameters(mimeType=f"video/{name.upper()}", clockRate=90_000, payloadType=96)
        made = aiortc.rtcrtpsender.get_encoder(codec)
        assert isinstance(made, kind) and made.target_bitrate == 2_000_000
    opus = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48_000, channels=2, payloadType=97)
    assert type(aiortc.rtcrtpsender.get_encoder(opus)).__name__ == "OpusEncoder"
    assert aiortc.rtcrtpreceiver.JitterBuffer is PromptJitterBuffer
    tune(prompt=False)
    assert aiortc.rtcrtpreceiver.JitterBuffer is JitterBuffer
    assert aiortc.codecs.vpx.DEFAULT_BITRATE == 3_000_000


def test_an_aiortc_that_lacks_a_name_is_refused(untuned: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(aiortc.rtcrtpreceiver, "JitterBuffer")
    with pytest.raises(ConfigError, match=r"aiortc \S+ has no aiortc.rtcrtpreceiver.JitterBuffer"):
        tune()
    assert aiortc.codecs.vpx.DEFAULT_BITRATE == 500_000  # nothing was begun


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_keeps_its_rate(name: str, pictures: list[np.ndarray], untuned: None) -> None:
    profile = CodecProfile(1000, 200, 2000, rate=25)
    tune(profile)
    sizes = encoded(ENCODERS[name](profile), pictures, 100)
    assert 0.7e6 < 8 * sum(sizes[50:]) / 2 < 1.2e6


@pytest.mark.parametrize("name", ENCODERS)
def test_an_estimate_is_followed_in_steps(name: str, pictures: list[np.ndarray], untuned: None) -> None:
    profile, clock = CodecProfile(1000, 200, 2000, rate=25), Seconds()
    tune(profile)
    encoder = ENCODERS[name](profile, clock)
    encoded(encoder, pictures, 50)
    codec = encoder.codec

    def after(estimate: int) -> int:
        encoder.target_bitrate = estimate
        return encoder.target_bitrate

    assert after(950_000) == after(1_200_000) == 1_000_000  # not worth a key frame
    clock.now += 10
    assert after(600_000) == 1_000_000  # nothing was sent in the last second: it says nothing
    encoded(encoder, pictures, 50)
    assert encoder.codec is codec  # all the while the same
    assert after(400_400) == 400_000  # congestion: at once
    assert after(2_000_000) == 400_000  # up: not before it has rested
    clock.now += RISE_EVERY_S
    assert after(9_000_000) == 2_000_000
    encoded(encoder, pictures, 2)
    assert encoder.codec is not codec
    codec = encoder.codec
    encoded(encoder, pictures, 10)
    assert encoder.codec is codec


@pytest.mark.parametrize("name", ENCODERS)
def test_a_new_size_opens_a_new_codec_with_a_key_frame(name: str, untuned: None) -> None:
    tune()
    encoder = ENCODERS[name](CodecProfile())
    depayload = {"h264": h264_depayload, "vp8": vp8_depayload}[name]
    decoder = {"h264": aiortc.codecs.h264.H264Decoder, "vp8": aiortc.codecs.vpx.Vp8Decoder}[name]()
    sizes = []
    for index, size in enumerate([(64, 48)] * 3 + [(96, 72)] * 3):
        payloads, timestamp = encoder.encode(frame(moving_portrait(index, *size), index))
        jitter_frame = aiortc.jitterbuffer.JitterFrame(b"".join(map(depayload, payloads)), timestamp)
        sizes += [(picture.width, picture.height) for picture in decoder.decode(jitter_frame)]
    assert sizes == [(64, 48)] * 3 + [(96, 72)] * 3


def test_detail_survives_720p_better_than_at_aiortcs_rates(untuned: None) -> None:
    """The reason for all this: the same pictures, aiortc's encoders as they come and ours, decoded again."""
    pictures = [moving_portrait(index, 1280, 720) for index in range(40)]

    def quality(encoder: Vp8Encoder) -> float:
        decoder, scores = aiortc.codecs.vpx.Vp8Decoder(), []
        for index, picture in enumerate(pictures):
            payloads, timestamp = encoder.encode(frame(picture, index))
            jitter_frame = aiortc.jitterbuffer.JitterFrame(b"".join(map(vp8_depayload, payloads)), timestamp)
            (decoded,) = decoder.decode(jitter_frame)
            decoded.colorspace = 6
            scores.append(psnr_y(to_rgb(decoded, VideoReformatter()), picture))
        return float(np.mean(scores[20:]))

    theirs = quality(Vp8Encoder())
    tune()
    assert quality(SteadyVp8Encoder(CodecProfile())) > theirs + 3


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_a_viewer_that_lost_its_place_gets_a_key_frame(
    call_address: None, pictures: list[np.ndarray], codec: str
) -> None:
    """A second's packets are lost, more than a sender keeps: the viewer asks, and soon sees again."""
    tune()
    source = PacedTrack(lambda index: pictures[index % 50], rate=25)
    async with call(source, codec=codec) as (here, _, got):
        for _ in range(5):
            await got["video"].recv()
        (sender,) = here.getSenders()
        asked: list[bool] = []
        force = sender._send_keyframe
        sender._send_keyframe = lambda: (asked.append(True), force())
        with LossyWire(here, lose=1.0) as wire:
            await asyncio.sleep(1)
        assert wire.lost > 128
        async with asyncio.timeout(3):
            while (await got["video"].recv()).pts < 3600 * (source.index - 3):
                pass
        assert asked


async def test_an_offer_asks_browsers_to_begin_at_a_good_rate() -> None:
    peer = RTCPeerConnection()
    peer.addTransceiver("video", direction="recvonly")
    peer.addTransceiver("audio", direction="recvonly")
    await peer.setLocalDescription(await peer.createOffer())
    plain = peer.localDescription.sdp
    await peer.close()
    asking = with_start_bitrate(plain, 2500)
    lines = asking.splitlines()
    assert len([line for line in lines if "x-google-start-bitrate=2500" in line]) == 3  # VP8, H.264 twice
    assert "a=fmtp:97 apt=96" not in plain or "a=fmtp:97 apt=96" in lines
    for line in plain.splitlines():
        assert line in lines or f"{line};x-google-start-bitrate=2500" in lines
    assert asking.endswith("\r\n") and "\n\n" not in asking
    with pytest.raises(ConfigError):
        with_start_bitrate(plain, 0)
