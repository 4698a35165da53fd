"""DelayedAudioTrack: sound that stays whole and fits the pictures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from time import monotonic

import aiortc.rtp
import numpy as np
import pytest
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame
from helpers import BypassEnhancer, make_frame, nothing_left
from rtc_peers import AUDIO_RATE, AUDIO_SAMPLES, LossyWire, PacedTrack, SoundTrack, call

from streamsr import EnhancedTrack
from streamsr.bench.call_tracks import CameraTrack, MicrophoneTrack, beep_onset, marked_ms
from streamsr.errors import ConfigError
from streamsr.rtc import DelayedAudioTrack, tune
from streamsr.rtc.audio_level import audio_level_dbov
from streamsr.rtc.delayed_audio import CAPACITY, SLEW

pytest_plugins = ["rtc_fixtures"]

TONE_HZ = 440
PRE_ROLL = 50  # frames: Opus and the receiver settle


def tone(first: int, count: int) -> np.ndarray:
    t = (first + np.arange(count)) / AUDIO_RATE
    return (8000 * np.sin(2 * np.pi * TONE_HZ * t)).astype(np.int16)


async def taken(track: MediaStreamTrack, count: int) -> list[tuple[AudioFrame, float]]:
    return [(await track.recv(), monotonic()) for _ in range(count)]


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize("peak", [0, 1, 40, 3000, 32767])
def test_the_level_told_is_the_one_aiortc_computes(untuned: None, layout: str, peak: int) -> None:
    aiortcs_own = aiortc.rtp.compute_audio_level_dbov
    channels = {"mono": 1, "stereo": 2}[layout]
    samples = np.random.default_rng(peak).integers(-peak, peak + 1, (1, 960 * channels)).astype(np.int16)
    loudest = np.where(samples < 0, -peak, peak).astype(np.int16)
    tune()
    for each in (samples, loudest):
        frame = AudioFrame.from_ndarray(each, format="s16", layout=layout)
        assert aiortc.rtp.compute_audio_level_dbov(frame) == aiortcs_own(frame) <= 0
    assert aiortcs_own is not audio_level_dbov is aiortc.rtp.compute_audio_level_dbov


async def test_frames_come_as_they_are_and_a_frame_less_than_the_delay_later() -> None:
    came: dict[int, float] = {}

    class Noted(SoundTrack):
        async def recv(self) -> AudioFrame:
            frame = await super().recv()
            came[frame.pts] = monotonic()
            return frame

    with nothing_left():
        track = DelayedAudioTrack(Noted(tone), lambda: 120.0)
        got = await taken(track, 30)
        await track.close()
        await track.close()
    assert [frame.pts for frame, _ in got] == [AUDIO_SAMPLES * index for index in range(30)]
    assert median(1e3 * (at - came[frame.pts]) for frame, at in got) == pytest.approx(100, abs=5)
    np.testing.assert_array_equal(got[3][0].to_ndarray()[0], tone(3 * AUDIO_SAMPLES, AUDIO_SAMPLES))


@pytest.mark.parametrize(("before", "after"), [(0.0, 60.0), (60.0, 0.0)])
async def test_the_hold_follows_slowly(before: float, after: float) -> None:
    wanted = before
    track = DelayedAudioTrack(SoundTrack(tone), lambda: wanted)
    await taken(track, 5)
    assert track.held_ms == max(0.0, before - 20)
    wanted = after
    held = []
    for _ in range(50):
        await track.recv()
        held.append(track.held_ms)
    steps = [abs(late - early) for early, late in pairwise([max(0.0, before - 20), *held])]
    assert max(steps) <= 20 * SLEW + 1e-9 and held[-1] == max(0.0, after - 20)
    await track.close()


@pytest.mark.parametrize("delay_ms", [-1.0, float("nan"), float("inf")])
async def test_a_delay_that_is_none_is_refused(delay_ms: float) -> None:
    track = DelayedAudioTrack(SoundTrack(tone), lambda: delay_ms)
    with pytest.raises(ConfigError, match="delay_ms must give a number of at least 0"):
        await track.recv()
    await track.close()


async def test_what_waits_is_bounded() -> None:
    class Flood(SoundTrack):
        async def recv(self) -> AudioFrame:
            await asyncio.sleep(0)
            frame = AudioFrame.from_ndarray(self.samples(0, AUDIO_SAMPLES)[None], "s16", "mono")
            frame.sample_rate = AUDIO_RATE
            return frame

    track = DelayedAudioTrack(Flood(tone), lambda: 0.0)
    await asyncio.sleep(0.3)
    assert track._frames.statistics().depth == CAPACITY
    await track.close()


async def test_stop_wakes_whoever_waits() -> None:
    with nothing_left():
        source = SoundTrack(tone)
        track = DelayedAudioTrack(source, lambda: 2000.0)
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0.1)
        track.stop()
        with pytest.raises(MediaStreamError):
            async with asyncio.timeout(0.1):
                await waiting
        await track.close()
        assert source.readyState == "ended"


async def test_refuses_pictures() -> None:
    with pytest.raises(ConfigError, match="track must be of audio, got video"):
        DelayedAudioTrack(PacedTrack(lambda index: make_frame().image), lambda: 0.0)


# -- through peers ------------------------------------------------------------------------------------


async def heard(delay_ms: Callable[[], float], frames: int) -> tuple[np.ndarray, list[int]]:
    """The tone through two calls, held back between them: samples, and pts of each frame."""
    async with call(SoundTrack(tone)) as (_, _, got):
        delayed = DelayedAudioTrack(got["audio"], delay_ms)
        async with call(delayed) as (_, _, end):
            got_frames = [frame for frame, _ in await taken(end["audio"], PRE_ROLL + frames)][PRE_ROLL:]
    samples = [frame.to_ndarray().reshape(-1, 2)[:, 0] for frame in got_frames]
    return np.concatenate(samples).astype(np.float64), [frame.pts for frame in got_frames]


def noise_db(samples: np.ndarray) -> float:
    """The worst 5 ms of what is left of the samples when the tone is taken out, below the tone."""
    t = np.arange(len(samples)) / AUDIO_RATE
    basis = np.stack([np.sin(2 * np.pi * TONE_HZ * t), np.cos(2 * np.pi * TONE_HZ * t)], axis=1)
    size = AUDIO_RATE // 2  # fitted by half seconds
    worst = 0.0
    for start in range(0, len(samples) - size + 1, size):
        part = slice(start, start + size)
        factors, *_ = np.linalg.lstsq(basis[part], samples[part], rcond=None)
        left = samples[part] - basis[part] @ factors
        power = (left.reshape(-1, AUDIO_RATE // 200) ** 2).mean(axis=1).max()
        worst = max(worst, power / (factors @ factors / 2))
    return float(10 * np.log10(worst))


async def test_the_sound_stays_whole_while_the_delay_changes(call_address: None) -> None:
    tune()
    began_s = monotonic()

    def delay_ms() -> float:
        return 30.0 if (monotonic() - began_s) % 1.0 < 0.5 else 90.0

    plain, _ = await heard(lambda: 0.0, 100)
    samples, pts = await heard(delay_ms, 150)
    assert [late - early for early, late in pairwise(pts)] == [AUDIO_SAMPLES] * 149
    assert noise_db(samples) < max(noise_db(plain) + 3, -25)
    torn = np.concatenate([samples[:30_000], samples[30_240:]])  # 5 ms left out
    assert noise_db(torn) > noise_db(samples) + 10  # the measure would have told


async def test_lost_sound_does_not_delay_what_follows(call_address: None) -> None:
    """aiortc's own buffer would keep a third of a second more after the first loss, for ever."""
    tune()
    came: dict[int, float] = {}

    class Noted(SoundTrack):
        async def recv(self) -> AudioFrame:
            frame = await super().recv()
            came[frame.pts] = monotonic()
            return frame

    async with call(Noted(tone)) as (here, _, got):
        await taken(got["audio"], 20)
        with LossyWire(here, lose=0.05) as wire:
            frames = await taken(got["audio"], 150)
        later = await taken(got["audio"], 20)
    assert wire.lost > 2
    delays = [1e3 * (at - came[frame.pts]) for frame, at in [*frames, *later]]
    assert median(delays[-20:]) < 30 and max(delays) < 120


@pytest.mark.soak
async def test_lips_and_voice_agree(call_address: None) -> None:
    """A flash and a beep, shown and sounded together, through an enhancer that takes 60 ms a picture."""
    tune()
    pictures = [make_frame(640, 360, index).image for index in range(10)]
    start_s = monotonic() + 1.0
    camera = CameraTrack(pictures, start_s)
    enhancer = BypassEnhancer(track_s=0.03, restore_s=0.03)
    flashes: list[float] = []
    beeps: list[float] = []

    async def watch(track: MediaStreamTrack) -> None:
        lit = False
        while True:
            frame = await track.recv()
            now_s = monotonic()
            found = marked_ms(frame, round(1e3 * now_s))
            if found is not None:
                if found[1] and not lit:
                    flashes.append(now_s)
                lit = found[1]

    async def listen(track: MediaStreamTrack) -> None:
        last_s = 0.0
        while True:
            frame = await track.recv()
            now_s, onset = monotonic(), beep_onset(frame)
            if onset is not None:
                if now_s - last_s > 0.5:
                    beeps.append(now_s + onset)
                last_s = now_s

    async with call(camera, MicrophoneTrack(start_s)) as (_, _, got):
        enhanced = EnhancedTrack(got["video"], enhancer, scale=1)
        delayed = DelayedAudioTrack(got["audio"], lambda: enhanced.delay_ms)
        async with call(enhanced, delayed) as (_, _, end):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(10.5), asyncio.TaskGroup() as tasks:
                    tasks.create_task(watch(end["video"]))
                    tasks.create_task(listen(end["audio"]))
        held_ms, delay_ms = delayed.held_ms, enhanced.delay_ms
        await enhanced.close()
        await delayed.close()
    assert held_ms > 35 and abs(held_ms + 20 - delay_ms) < 30
    errors = [1e3 * (min(beeps, key=lambda at: abs(at - seen)) - seen) for seen in flashes[1:]]
    assert len(errors) >= 3
    assert abs(median(errors)) < 40, errors
