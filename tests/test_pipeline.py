"""The way of a frame through a pipeline, how old it gets, and what is reported of it."""

from __future__ import annotations

import asyncio
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import (
    BypassEnhancer,
    BypassSession,
    FakeClock,
    MemorySink,
    MemorySource,
    enhance,
    frames,
    live,
    make_face,
    make_frame,
    names_in,
    nothing_left,
    owned_threads,
    until,
)
from media import write_video

from streamsr import loop as event_loop
from streamsr import pipeline as pipeline_module
from streamsr.errors import SourceError
from streamsr.fit import fit_image
from streamsr.frame import Frame, StreamInfo
from streamsr.pipeline import Pipeline
from streamsr.report import FrameReport, Outcome
from streamsr.run_report import RunReport

# -- files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "slow",
    [
        dict(),
        dict(read_s=0.004),
        dict(track_s=0.004),
        dict(restore_s=0.004),
        dict(write_s=0.004),
    ],
    ids=lambda slow: next(iter(slow), "none"),
)
async def test_a_file_loses_nothing_and_keeps_order_and_pts(slow: dict[str, float]) -> None:
    given = frames(40)
    source = MemorySource(given, read_s=slow.get("read_s", 0))
    sink = MemorySink(write_s=slow.get("write_s", 0))
    enhancer = BypassEnhancer(track_s=slow.get("track_s", 0), restore_s=slow.get("restore_s", 0))
    with nothing_left():
        report = await enhance(source, sink, enhancer)
    assert sink.final is not None
    assert [(f.index, f.pts, f.time_base, f.duration) for f in sink.final] == [
        (f.index, f.pts, f.time_base, f.duration) for f in given
    ]
    for had, got in zip(given, sink.final, strict=True):
        np.testing.assert_array_equal(got.image[::2, ::2], had.image)
    assert (report.frames_in, report.frames_out, report.frames_dropped) == (40, 40, 0)
    assert all(queue.max_depth <= queue.capacity == 4 for queue in report.queues.values())
    assert enhancer.sessions[0].deadlines == [None] * 40
    assert report.status == "done" and report.budget_ms is None


async def test_the_sink_learns_the_output_size_and_the_stages_keep_to_their_threads() -> None:
    source, sink, enhancer = MemorySource(frames(5, 65, 47)), MemorySink(), BypassEnhancer()
    report = await enhance(source, sink, enhancer, scale=4, fidelity=0.25, steps=2, seed=7)
    assert sink.info is not None and (sink.info.width, sink.info.height) == (260, 188)
    assert sink.info.rate == source.rate and sink.info.frames == 5
    assert (report.input_px, report.output_px) == ((65, 47), (260, 188))
    assert enhancer.options == [{"scale": 4, "fidelity": 0.25, "steps": 2, "seed": 7}]
    session = enhancer.sessions[0]
    assert source.threads == {"streamsr-decode"}
    assert session.track_threads == {"streamsr-track"}
    assert session.restore_threads == {"streamsr-restore"}
    assert session.composite_threads == {"streamsr-composite"}
    assert sink.threads == {"streamsr-encode"}
    assert (source.closed, session.closed) == (1, 1)


async def test_options_left_out_are_the_enhancers_own() -> None:
    enhancer = BypassEnhancer()
    await enhance(MemorySource(frames(1)), MemorySink(), enhancer)
    assert enhancer.options == [{"scale": 2}]


async def test_ages_stages_and_fps_of_one_frame_on_a_clock_of_ours() -> None:
    clock = FakeClock()
    enhancer = BypassEnhancer(track_s=0.003, restore_s=0.010, clock=clock)
    source = MemorySource(frames(1), clock=clock)
    report = await enhance(source, MemorySink(), enhancer, clock=clock)
    assert report.age_ms is not None
    assert report.age_ms.p50 == report.age_ms.p99 == pytest.approx(13.0)
    stages = {name: ms.p50 for name, ms in report.stage_ms.items()}
    assert stages == pytest.approx(
        {"decode": 0, "track": 3, "restore": 10, "net": 10, "composite": 0, "encode": 0}
    )
    assert report.elapsed_s == pytest.approx(0.013)
    assert report.fps == pytest.approx(1 / 0.013)


async def test_a_change_of_size_keeps_the_output_and_is_counted() -> None:
    given = [make_frame(64, 48, 0), make_frame(64, 48, 1), make_frame(48, 48, 2), make_frame(32, 24, 3)]
    sink, enhancer = MemorySink(), BypassEnhancer()
    report = await enhance(MemorySource(given), sink, enhancer)
    assert sink.final is not None
    assert {frame.image.shape for frame in sink.final} == {(96, 128, 3)}
    assert report.resolution_changes == 2
    assert report.output_px == (128, 96)
    assert [frame.discontinuity for frame in enhancer.sessions[0].tracked] == [False, False, True, True]
    square = sink.final[2].image
    assert not square[:, :16].any() and not square[:, -16:].any()  # another aspect: black bars
    assert square[:, 16:-16].any(axis=(0, 2)).all()
    assert sink.final[3].image.any(axis=2).mean() > 0.9  # the same aspect: none


def test_fit_image() -> None:
    same = make_frame(65, 47).image
    assert fit_image(same, 65, 47) is same
    white = np.full((270, 480, 3), 255, np.uint8)
    assert fit_image(white, 1280, 720).min() == 255
    assert fit_image(np.full((271, 480, 3), 255, np.uint8), 1280, 720).min() == 255  # rounding is no bar
    tall = fit_image(np.full((480, 270, 3), 255, np.uint8), 1280, 720)
    lit = np.flatnonzero(tall.any(axis=(0, 2)))
    assert tall.shape == (720, 1280, 3)
    assert lit[0] % 2 == 0 and len(lit) % 2 == 0
    assert abs(len(lit) - 720 * 270 / 480) <= 2 and abs(lit[0] - (1279 - lit[-1])) <= 2
    assert fit_image(np.full((5, 1000, 3), 255, np.uint8), 64, 64).any()


async def test_addresses_from_file_to_file(tmp_path: Path) -> None:
    """Real containers: as many frames as the source has, at the same times; nothing else in the folder."""
    given, made = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_video(given, count=12, size=(64, 48), rate=Fraction(30000, 1001))
    seen: list[int | None] = []
    with nothing_left():
        async with Pipeline(
            str(given),
            str(made),
            BypassEnhancer(),
            on_progress=lambda report: seen.append(report.frames_total),
        ) as pipeline:
            report = await pipeline.run()
    assert (report.frames_out, report.output_px, seen[-1]) == (12, (128, 96), 12)
    assert (report.source, report.sink) == (str(given), str(made))
    assert times_s(made) == pytest.approx(times_s(given), abs=1e-3)
    assert names_in(tmp_path) == ["in.mkv", "out.mkv"]


def times_s(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


# -- live -------------------------------------------------------------------------------------------


async def test_the_age_of_a_live_frame_stays_bounded_behind_a_slow_enhancer() -> None:
    """100 fps against 30 ms a frame for a second: a queue that grew would end 2 s late."""
    source, sink = live(100), MemorySink()
    enhancer = BypassEnhancer(restore_s=0.030)
    with nothing_left():
        report = await enhance(source, sink, enhancer)
    assert report.age_ms is not None and report.age_ms.p50 < 100 and report.age_ms.p99 < 400
    assert report.frames_in == 100 == report.frames_out + report.frames_dropped
    assert 10 <= report.frames_out <= 40
    assert report.frames_dropped >= 60
    assert 8 < report.fps < 35
    assert sink.final is not None
    assert all(early.index < late.index for early, late in pairwise(sink.final))
    assert sink.final[-1].index == 99  # the newest wins to the end
    assert report.queues["restore"].dropped == report.queues["composite"].dropped == 0


@pytest.mark.parametrize(("cores", "most"), [(1, 2), (2, 2), (16, 3)])
async def test_no_more_live_frames_are_on_the_way_than_can_be_worked_on(
    monkeypatch: pytest.MonkeyPatch, cores: int, most: int
) -> None:
    monkeypatch.setattr(pipeline_module, "usable_cpus", lambda: cores)
    enhancer = BypassEnhancer(track_s=0.01, restore_s=0.02)
    on_the_way: list[int] = []
    started = composited = 0

    def track(self: BypassSession, frame: Frame) -> Frame:
        nonlocal started
        started += 1
        on_the_way.append(started - composited)
        return bypass_track(self, frame)

    def composite(self: BypassSession, frame: Frame) -> tuple[Frame, FrameReport]:
        nonlocal composited
        time.sleep(0.02)
        composited += 1
        return bypass_composite(self, frame)

    bypass_track, bypass_composite = BypassSession.track, BypassSession.composite
    monkeypatch.setattr(BypassSession, "track", track)
    monkeypatch.setattr(BypassSession, "composite", composite)
    report = await enhance(live(60), MemorySink(), enhancer)
    assert max(on_the_way) == most
    capacities = {name: queue.capacity for name, queue in report.queues.items()}
    assert capacities == {"track": 1, "restore": most, "composite": most, "encode": 2}
    assert report.frames_out == composited and report.frames_dropped == report.queues["track"].dropped > 0


async def test_the_age_of_a_live_frame_stays_bounded_behind_a_slow_sink() -> None:
    report = await enhance(live(100), MemorySink(write_s=0.030))
    assert report.age_ms is not None and report.age_ms.p50 < 150 and report.age_ms.p99 < 500
    assert report.queues["encode"].dropped > 30


async def test_live_frames_carry_a_deadline() -> None:
    source, enhancer = live(6, fps=25), BypassEnhancer()
    report = await enhance(source, MemorySink(), enhancer)
    session = enhancer.sessions[0]
    assert report.budget_ms == 100.0  # 2.5 intervals of 40 ms
    assert session.deadlines == [frame.captured_ns + 100_000_000 for frame in session.tracked]
    assert "read" in report.stage_ms and "decode" not in report.stage_ms


@pytest.mark.parametrize(
    ("rate", "budget_ms", "expected"),
    [(1, None, 300.0), (90_000, None, 15.0), (0, None, 300.0), (30, 33.5, 33.5)],
)
async def test_the_budget_is_bounded(rate: int, budget_ms: float | None, expected: float) -> None:
    class Odd(MemorySource):
        def open(self) -> StreamInfo:
            info = super().open()
            return StreamInfo(info.width, info.height, Fraction(rate), info.time_base)

    report = await enhance(Odd(frames(2), live=True), MemorySink(), budget_ms=budget_ms)
    assert report.budget_ms == expected


async def test_a_discontinuity_outlives_the_frame_that_was_dropped() -> None:
    given = [make_frame(index=index, discontinuity=index in (0, 10)) for index in range(30)]
    source = MemorySource(given, live=True, rate=Fraction(200))
    enhancer = BypassEnhancer(track_s=0.032)
    report = await enhance(source, MemorySink(), enhancer)
    tracked = enhancer.sessions[0].tracked
    assert report.frames_dropped > 5
    told = [frame.index for frame in tracked if frame.discontinuity]
    assert told == [0, min(frame.index for frame in tracked if frame.index >= 10)]


async def test_gaps_of_the_source_are_counted() -> None:
    given = [make_frame(index=index) for index in (3, 4, 7, 8, 18)]
    report = await enhance(MemorySource(given, live=True, rate=Fraction(50)), MemorySink())
    assert report.frames_missed == 3 + 2 + 9


# -- the loop ---------------------------------------------------------------------------------------


async def longest_gap_ms(over: asyncio.Event) -> float:
    gap, last = 0.0, time.monotonic()
    while not over.is_set():
        await asyncio.sleep(0.002)
        now = time.monotonic()
        gap, last = max(gap, now - last), now
    return 1e3 * gap


async def test_nothing_blocks_the_loop() -> None:
    """Every call of every stage takes a second; the loop never stands still for half of that."""
    slow = 1.0
    source = MemorySource(frames(2), open_s=slow, read_s=slow)
    sink = MemorySink(open_s=slow, write_s=slow, close_s=slow)
    enhancer = BypassEnhancer(session_s=slow, track_s=slow, restore_s=slow)
    over = asyncio.Event()
    heartbeat = asyncio.create_task(longest_gap_ms(over))
    await enhance(source, sink, enhancer, on_progress=lambda report: report.model_dump_json())
    over.set()
    assert await heartbeat < 500


def test_it_runs_on_uvloop() -> None:
    pytest.importorskip("uvloop")
    sink = MemorySink()

    async def main() -> str:
        await enhance(MemorySource(frames(12)), sink)
        return type(asyncio.get_running_loop()).__module__

    assert event_loop.run(main()).startswith("uvloop")
    assert sink.final is not None and len(sink.final) == 12
    assert owned_threads() == set()


async def test_streams_side_by_side_do_not_touch_each_other() -> None:
    sinks = [MemorySink() for _ in range(3)]
    sources = [MemorySource(frames(20)), MemorySource(frames(20), fail_at=3), MemorySource(frames(20))]
    with nothing_left():
        results = await asyncio.gather(
            *(enhance(source, sink) for source, sink in zip(sources, sinks, strict=True)),
            return_exceptions=True,
        )
    assert isinstance(results[1], SourceError) and sinks[1].final is None
    assert [len(sink.final or ()) for sink in sinks] == [20, 0, 20]


# -- progress and report ----------------------------------------------------------------------------


async def test_progress_is_rare_and_ends_with_the_whole() -> None:
    seen: list[RunReport] = []
    report = await enhance(MemorySource(frames(60), read_s=0.01), MemorySink(), on_progress=seen.append)
    assert 3 <= len(seen) <= report.elapsed_s / 0.25 + 2
    assert seen[-1] == report and (report.frames_out, report.status) == (60, "done")
    assert seen[0].status == "running" and seen[0].frames_total == 60


async def test_the_report_is_there_at_any_time() -> None:
    source, sink = live(200, endless=True), MemorySink()
    pipeline = Pipeline(source, sink, BypassEnhancer(faces=(make_face(Outcome.RESTORED, nfe=1),)))
    assert pipeline.report().status == "waiting"
    async with pipeline:
        running = asyncio.create_task(pipeline.run())
        await until(lambda: pipeline.report().frames_out > 0)
        now = pipeline.report()
        assert now.status == "running" and now.restored_share == 1.0
        assert now.elapsed_s > 0 and now.device == "cpu"
        pipeline.stop()
        await running
    assert pipeline.report().status == "stopped"
    assert pipeline.report() == pipeline.report()  # it stands still after the end


async def test_addresses_in_the_report_carry_no_password() -> None:
    pipeline = Pipeline("rtsp://me:secret@cam/1", "rtsp://you:secret@server/2", BypassEnhancer())
    assert "secret" not in pipeline.report().model_dump_json()
