"""EnhancedTrack: what comes out of it, how old it is, and what is left when it ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from aiortc import MediaStreamTrack
from aiortc.codecs.base import Encoder
from aiortc.mediastreams import VIDEO_TIME_BASE, MediaStreamError
from av import AudioFrame, VideoFrame
from av.video.reformatter import VideoReformatter
from helpers import BypassEnhancer, make_face, make_frame, nothing_left, until
from rtc_peers import PacedTrack, call

from streamsr import EnhancedTrack
from streamsr.clock import MONOTONIC
from streamsr.errors import ConfigError
from streamsr.frame import Colour, Frame, Matrix, Range, StreamInfo, Yuv420p
from streamsr.io.colour import colour_of, from_rgb
from streamsr.report import Outcome
from streamsr.rtc import CodecProfile
from streamsr.rtc.bridge import TrackSink
from streamsr.rtc.encoders import SteadyH264Encoder, SteadyVp8Encoder

pytest_plugins = ["rtc_fixtures"]


def picture(index: int) -> np.ndarray:
    return make_frame(64, 48, index).image


class ScriptedTrack(MediaStreamTrack):
    """Gives its first frame at once and each other one when ``more`` is called; then ends, if ``ends``."""

    kind = "video"

    def __init__(self, frames: Iterable[VideoFrame | AudioFrame], ends: bool = False) -> None:
        super().__init__()
        self._frames, self._ends = iter(frames), ends
        self._due = asyncio.Semaphore(1)
        self.more = self._due.release

    async def recv(self) -> VideoFrame | AudioFrame:
        await self._due.acquire()
        for frame in self._frames:
            return frame
        if not self._ends:
            await asyncio.Event().wait()
        raise MediaStreamError


def video_frame(index: int, pts: int | None = None, size: tuple[int, int] = (64, 48)) -> VideoFrame:
    frame = VideoFrame.from_ndarray(make_frame(*size, index).image, format="rgb24")
    frame.pts, frame.time_base = 3600 * index if pts is None else pts, VIDEO_TIME_BASE
    return frame


async def drain(track: MediaStreamTrack, source: ScriptedTrack | None = None) -> list[VideoFrame]:
    """What comes out until the end. Of a ScriptedTrack each frame is asked for when the last one is out."""
    got = []
    with pytest.raises(MediaStreamError):
        while True:
            got.append(await track.recv())
            if source is not None:
                source.more()
    return got


async def test_pictures_of_a_call_come_out_enlarged_at_their_own_times(call_address: None) -> None:
    source, enhancer = PacedTrack(picture, rate=25), BypassEnhancer()
    with nothing_left():
        async with call(source) as (_, _, got):
            track = EnhancedTrack(got["video"], enhancer, scale=4)
            frames = [await track.recv() for _ in range(30)]
            assert {(f.width, f.height, f.format.name) for f in frames} == {(256, 192, "yuv420p")}
            steps = [late.pts - early.pts for early, late in pairwise(frames)]
            assert min(steps) > 0 and {step % 3600 for step in steps} == {0}  # times of the source
            assert frames[0].time_base == VIDEO_TIME_BASE
            report = track.report()
            assert 20 < report.fps < 30 and report.live and report.status == "running"
            assert 0 < track.delay_ms < 100 and report.output_px == (256, 192)
            await track.close()
            assert got["video"].readyState == "ended"


async def test_nothing_piles_up_before_the_first_recv() -> None:
    source = PacedTrack(picture, rate=100)
    with nothing_left():
        track = EnhancedTrack(source, BypassEnhancer())
        await asyncio.sleep(0.3)
        first = await track.recv()
        assert first.pts >= 20 * 900 and track.report().frames_in <= 10
        await track.close()


async def test_the_newest_frame_wins_behind_a_slow_enhancer() -> None:
    with nothing_left():
        track = EnhancedTrack(PacedTrack(picture, rate=100, count=100), BypassEnhancer(restore_s=0.03))
        frames = await drain(track)
        report = track.report()
        await track.close()
    assert track.delay_ms < 150 and report.age_ms is not None and report.age_ms.p95 < 200
    assert report.frames_in + report.frames_missed == 100
    assert len(frames) == report.frames_out == report.frames_in - report.frames_dropped <= 40
    assert frames[-1].pts == 99 * 900 and report.status == "done"


async def test_the_newest_frame_wins_behind_a_slow_consumer() -> None:
    with nothing_left():
        track = EnhancedTrack(PacedTrack(picture, rate=100, count=100), BypassEnhancer())
        for _ in range(8):
            await track.recv()
            await asyncio.sleep(0.1)
        report = track.report()
        assert report.queues["recv"].dropped > 40 and report.queues["recv"].max_depth == 1
        assert report.frames_out <= 9 and track.delay_ms < 50
        await track.close()


@pytest.mark.parametrize("kind", [SteadyH264Encoder, SteadyVp8Encoder])
async def test_the_delay_counts_until_a_picture_is_encoded(kind: type[Encoder]) -> None:
    encoder = kind(CodecProfile())
    with nothing_left():
        track = EnhancedTrack(PacedTrack(picture, rate=25), BypassEnhancer())
        for _ in range(3):
            frame = await track.recv()
            assert track.delay_ms < 100  # as long as nobody says that he encodes
        await asyncio.sleep(0.2)
        payloads, _ = await asyncio.to_thread(encoder.encode, frame)
        await asyncio.sleep(0)
        assert payloads and track.delay_ms >= 200
        await track.close()
    await asyncio.to_thread(encoder.encode, frame)  # a viewer's last picture may come later than the end


async def test_the_output_keeps_its_size() -> None:
    sizes = [(64, 48)] * 3 + [(96, 72)] * 3 + [(48, 48)] * 3
    source = ScriptedTrack([video_frame(index, size=size) for index, size in enumerate(sizes)], ends=True)
    enhancer = BypassEnhancer()
    track = EnhancedTrack(source, enhancer)
    frames = await drain(track, source)
    await track.close()
    assert len(frames) == 9 and {(frame.width, frame.height) for frame in frames} == {(128, 96)}
    assert track.report().resolution_changes == 2
    tracked = enhancer.sessions[0].tracked
    assert [frame.discontinuity for frame in tracked] == [index in (0, 3, 6) for index in range(9)]


async def test_the_size_of_the_output_may_be_given() -> None:
    track = EnhancedTrack(ScriptedTrack([video_frame(0)]), BypassEnhancer(), size=(320, 240))
    frame = await track.recv()
    assert (frame.width, frame.height) == (320, 240)
    await track.close()


async def test_times_never_go_back() -> None:
    """Another source behind the same track starts at 0 again; a long pause is no motion."""
    given = [9000, 12600, 16200, 0, 3600, 3600 + 2 * 90_000]
    source = ScriptedTrack([video_frame(index, pts) for index, pts in enumerate(given)], ends=True)
    enhancer = BypassEnhancer()
    track = EnhancedTrack(source, enhancer)
    times = [frame.pts for frame in await drain(track, source)]
    await track.close()
    assert times == [9000, 12600, 16200, 19200, 22800, 22800 + 2 * 90_000]
    tracked = enhancer.sessions[0].tracked
    assert [frame.discontinuity for frame in tracked] == [True, False, False, True, False, True]


async def test_stop_wakes_the_consumer_and_leaves_nothing() -> None:
    source = ScriptedTrack([video_frame(0)])
    with nothing_left():
        track = EnhancedTrack(source, BypassEnhancer(restore_s=0.2))
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0.15)  # the frame is in the enhancer
        track.stop()
        with pytest.raises(MediaStreamError):
            async with asyncio.timeout(0.1):
                await waiting
        await track.close()
        await track.close()
    assert (track.readyState, source.readyState) == ("ended", "ended")
    with pytest.raises(MediaStreamError):
        await track.recv()


async def test_a_consumer_may_give_up_and_come_back() -> None:
    track = EnhancedTrack(PacedTrack(picture, rate=20), BypassEnhancer())
    await track.recv()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await track.recv()
    async with asyncio.timeout(1):
        await track.recv()
    await track.close()


async def test_a_source_without_a_picture_ends_the_track() -> None:
    with nothing_left():
        track = EnhancedTrack(ScriptedTrack([], ends=True), BypassEnhancer())
        with pytest.raises(MediaStreamError, match="ended before its first picture"):
            await track.recv()
        assert track.report().status == "failed"
        await track.close()


async def test_a_failing_enhancer_ends_the_track_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with nothing_left(), caplog.at_level(logging.ERROR):
        track = EnhancedTrack(PacedTrack(picture), BypassEnhancer(fail_at=2))
        async with asyncio.timeout(5):
            await drain(track)
        report = track.report()
        await track.close()
    assert (report.status, report.error) == ("failed", "a bug in the model")
    assert "an enhanced track ended" in caplog.text


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (AudioFrame(format="s16", layout="mono", samples=960), "must be a VideoFrame, got AudioFrame"),
        (VideoFrame(64, 48, "rgb24"), "has no pts"),
    ],
)
async def test_a_frame_that_is_none_ends_the_track(frame: VideoFrame | AudioFrame, message: str) -> None:
    track = EnhancedTrack(ScriptedTrack([frame]), BypassEnhancer())
    with pytest.raises(MediaStreamError, match=message):
        await track.recv()
    await track.close()


async def test_controls_reach_the_session() -> None:
    enhancer = BypassEnhancer(faces=(make_face(Outcome.RESTORED, nfe=1),))
    track = EnhancedTrack(PacedTrack(picture), enhancer, fidelity=0.25, seed=3)
    assert (track.fidelity, track.steps, track.enabled) == (0.25, None, True)
    track.enabled = False  # before the session exists
    await track.recv()
    session = enhancer.sessions[0]
    assert enhancer.options == [{"scale": 2, "fidelity": 0.25, "seed": 3}]
    assert session.enabled is False
    track.fidelity, track.steps, track.enabled = 1.0, 2, True
    await until(lambda: session.enabled is True)
    assert (session.fidelity, session.steps) == (1.0, 2)
    assert (track.fidelity, track.steps, track.report().fidelity) == (1.0, 2, 1.0)
    for name, value in (("fidelity", 1.5), ("steps", 0), ("steps", "many")):
        with pytest.raises(ConfigError, match=name):
            setattr(track, name, value)
    assert (track.fidelity, track.steps) == (1.0, 2)
    await track.close()


@pytest.mark.parametrize(
    "options", [dict(scale=3), dict(size=(1280, 719)), dict(budget_ms=0), dict(fidelity=-1), dict(steps=0)]
)
async def test_refuses(options: dict[str, object]) -> None:
    with nothing_left(), pytest.raises(ConfigError):
        EnhancedTrack(PacedTrack(picture), BypassEnhancer(), **options)


async def test_refuses_sound() -> None:
    sound = PacedTrack(picture)
    sound.kind = "audio"
    with pytest.raises(ConfigError, match="track must be of video, got audio"):
        EnhancedTrack(sound, BypassEnhancer())


async def test_time_bases_of_other_tracks() -> None:
    frame = video_frame(0)
    frame.pts, frame.time_base = 5, Fraction(1, 30)
    track = EnhancedTrack(ScriptedTrack([frame]), BypassEnhancer())
    assert (await track.recv()).pts == 15_000
    await track.close()


async def test_planes_come_out_as_the_picture_they_were_made_of() -> None:
    colour = Colour(Matrix.BT709, Range.LIMITED)
    made = from_rgb(picture(3), colour, "yuv420p", VideoReformatter())
    planes = Yuv420p(made.to_ndarray(), colour)
    sink = TrackSink(MONOTONIC, asyncio.get_running_loop())
    sink.open(StreamInfo(64, 47, Fraction(25), VIDEO_TIME_BASE, colour))
    assert not sink.takes_yuv420p
    sink.open(StreamInfo(64, 48, Fraction(25), VIDEO_TIME_BASE, colour))
    assert sink.takes_yuv420p
    for image in (picture(3), planes):
        sink.write(Frame(image, 3600, VIDEO_TIME_BASE, 0))  # type: ignore[arg-type]
        out, _ = await sink.frames.receive()
        assert np.array_equal(out.to_ndarray(), planes.planes)
        assert (out.format.name, out.pts, out.time_base) == ("yuv420p", 3600, VIDEO_TIME_BASE)
        assert colour_of(out) == colour
