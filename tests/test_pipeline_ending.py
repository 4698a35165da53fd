"""How a run ends: by a failure, by ``stop``, by cancellation at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from helpers import (
    BypassEnhancer,
    MemorySink,
    MemorySource,
    enhance,
    frames,
    live,
    make_frame,
    names_in,
    nothing_left,
    owned_threads,
    until,
)
from media import write_video

from streamsr import pipeline as pipeline_module
from streamsr import stages as stages_module
from streamsr.errors import ConfigError, FrameError, SinkError, SourceError
from streamsr.frame import StreamInfo
from streamsr.pipeline import Pipeline

# -- errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "error", "message"),
    [
        (lambda: dict(source=MemorySource(frames(30), fail_at=7)), SourceError, "died at frame 7"),
        (lambda: dict(source=MemorySource(frames(30), fail_at=0)), SourceError, "died at frame 0"),
        (lambda: dict(source=MemorySource([])), SourceError, "without a picture"),
        (lambda: dict(sink=MemorySink(fail_at=5)), SinkError, "no space left"),
        (lambda: dict(sink=MemorySink(fail_close=True)), SinkError, "trailer"),
        (lambda: dict(enhancer=BypassEnhancer(fail_at=4)), ZeroDivisionError, "a bug"),
        (lambda: dict(on_progress=lambda report: {}["key"]), KeyError, "key"),
    ],
    ids=["source", "first", "empty", "sink", "close", "model", "progress"],
)
async def test_an_error_stops_everything_and_is_raised_itself(
    broken: Callable[[], dict[str, Any]], error: type[Exception], message: str
) -> None:
    parts = {"source": MemorySource(frames(30)), "sink": MemorySink(), "enhancer": BypassEnhancer()}
    parts |= broken()
    pipeline = Pipeline(**parts)
    with nothing_left(), pytest.raises(error, match=message):
        async with pipeline:
            await pipeline.run()
    assert parts["sink"].final is None and parts["sink"].aborted
    assert parts["source"].closed == 1
    assert parts["enhancer"].sessions[0].closed == 1
    report = pipeline.report()
    assert report.status == "failed" and report.error is not None and message in report.error


async def test_a_live_source_that_dies_while_a_stage_is_slow() -> None:
    source, sink = live(40, fail_at=20), MemorySink(write_s=0.1)
    with nothing_left(), pytest.raises(SourceError, match="died at frame 20"):
        await enhance(source, sink, BypassEnhancer(restore_s=0.1))
    assert sink.final is None


async def test_errors_in_opening() -> None:
    class BadSource(MemorySource):
        def open(self) -> StreamInfo:
            raise SourceError("no such camera", self.url)

    class BadSink(MemorySink):
        def open(self, info: StreamInfo) -> None:
            raise SinkError("folder is not writable", self.url)

    with nothing_left():
        sink, source, enhancer = MemorySink(), BadSource(frames(3)), BypassEnhancer()
        with pytest.raises(SourceError, match="no such camera"):
            await enhance(source, sink, enhancer)
        assert sink.info is None and not sink.aborted  # never touched
        assert source.closed == 1 and enhancer.sessions[0].closed == 1

        bad_sink, source = BadSink(), MemorySource(frames(3))
        with pytest.raises(SinkError, match="not writable"):
            await enhance(source, bad_sink)
        assert bad_sink.aborted and source.closed == 1

        with pytest.raises(ConfigError, match="16400x160, more than 16384"):
            await enhance(MemorySource(frames(1, 2050, 20)), MemorySink(), scale=8)


async def test_wrong_options_and_wrong_use() -> None:
    source, sink = MemorySource(frames(2)), MemorySink()
    with pytest.raises(ConfigError, match="scale must be one of 1, 2, 4, 8, got 3"):
        Pipeline(source, sink, BypassEnhancer(), scale=3)
    with pytest.raises(ConfigError, match="budget_ms must be above 0, got -1"):
        Pipeline(source, sink, BypassEnhancer(), budget_ms=-1)
    pipeline = Pipeline(source, sink, BypassEnhancer())
    with pytest.raises(RuntimeError, match="inside 'async with'"):
        await pipeline.run()
    async with pipeline:
        await pipeline.run()
        with pytest.raises(RuntimeError, match="once"):
            await pipeline.run()
    with pytest.raises(RuntimeError, match="once"):
        async with pipeline:
            pass


async def test_a_source_with_wrong_pictures() -> None:
    grey = make_frame().with_image(np.zeros((48, 64), np.uint8))
    with pytest.raises(FrameError, match=r"must be \(H, W, 3\), got \(48, 64\)"):
        await enhance(MemorySource([make_frame(), grey]), MemorySink())


async def test_an_error_in_closing_is_a_warning() -> None:
    class Clumsy(MemorySource):
        def close(self) -> None:
            super().close()
            raise SourceError("rtsp://me:secret@cam/1 hung up", self.url)

    sink = MemorySink()
    report = await enhance(Clumsy(frames(3)), sink)
    assert report.status == "done" and sink.final is not None
    assert report.warnings == ("the decode thread failed in closing: memory:in: rtsp://***@cam/1 hung up",)


# -- stopping and cancelling ------------------------------------------------------------------------


async def test_stop_finishes_the_output_with_what_was_read() -> None:
    source, sink = live(20, fps=100, endless=True), MemorySink()
    with nothing_left():
        async with Pipeline(source, sink, BypassEnhancer()) as pipeline:
            running = asyncio.create_task(pipeline.run())
            await until(lambda: pipeline.report().frames_in == 20)
            pipeline.stop()
            report = await asyncio.wait_for(running, 5)
            pipeline.stop()  # late and twice
    assert report.status == "stopped"
    assert sink.final is not None and sink.final[-1].index == 19
    assert report.frames_in == report.frames_out + report.frames_dropped == 20


async def test_stop_of_a_file_keeps_all_that_was_read() -> None:
    source, sink = MemorySource(frames(500), read_s=0.002), MemorySink()
    async with Pipeline(source, sink, BypassEnhancer(restore_s=0.01)) as pipeline:
        running = asyncio.create_task(pipeline.run())
        await until(lambda: pipeline.report().frames_out > 5)
        pipeline.stop()
        report = await running
    assert sink.final is not None
    assert [frame.index for frame in sink.final] == list(range(report.frames_in))
    assert 5 < report.frames_in == report.frames_out < 100


async def test_stop_before_the_first_frame_leaves_no_output() -> None:
    sink = MemorySink()
    async with Pipeline(MemorySource([], live=True, endless=True), sink, BypassEnhancer()) as pipeline:
        asyncio.get_running_loop().call_later(0.05, pipeline.stop)
        report = await asyncio.wait_for(pipeline.run(), 5)
    assert sink.final is None and sink.aborted
    assert report.frames_out == 0 and "stopped before the first frame" in report.warnings[0]


async def test_stop_gives_up_on_a_source_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "STOP_GRACE_S", 0.2)
    monkeypatch.setattr(stages_module, "SHUTDOWN_GRACE_S", 0.2)
    source, sink = live(10, endless=True, deaf=True), MemorySink()
    async with Pipeline(source, sink, BypassEnhancer()) as pipeline:
        running = asyncio.create_task(pipeline.run())
        await until(lambda: pipeline.report().frames_in == 10)
        pipeline.stop()
        report = await asyncio.wait_for(running, 5)
    assert sink.final is not None and sink.final[-1].index == 9
    assert report.warnings == ("the decode thread is stuck and was left behind",)
    assert owned_threads() == {"streamsr-decode"}
    source.release()
    await until(lambda: not owned_threads())
    assert source.closed == 1


async def test_a_cancelled_file_leaves_nothing_under_its_name(tmp_path: Path) -> None:
    given, made = tmp_path / "in.mkv", tmp_path / "out.mp4"
    write_video(given, count=12)
    with nothing_left():
        async with Pipeline(str(given), str(made), BypassEnhancer(restore_s=0.02)) as pipeline:
            running = asyncio.create_task(pipeline.run())
            await until(lambda: pipeline.report().frames_out > 3)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        with pytest.raises(SourceError):
            async with Pipeline(str(tmp_path / "none.mkv"), str(made), BypassEnhancer()):
                pass
    assert names_in(tmp_path) == ["in.mkv"]


@pytest.mark.parametrize("kind", ["file", "live"])
async def test_cancelling_at_any_moment_leaves_nothing(kind: str) -> None:
    random = Random(11)
    finished = cancelled = 0
    for moment in range(24):
        source = MemorySource(frames(8), live=kind == "live", rate=Fraction(200), open_s=0.01, read_s=0.002)
        sink = MemorySink(open_s=0.01, write_s=0.004, close_s=0.02)
        enhancer = BypassEnhancer(session_s=0.01, track_s=0.003, restore_s=0.006)
        with nothing_left():
            task = asyncio.create_task(enhance(source, sink, enhancer))
            await asyncio.sleep(random.uniform(0, 0.14) if moment else 0)
            task.cancel()
            try:
                report = await asyncio.wait_for(asyncio.shield(task), 5)
                finished += 1
                assert sink.final is not None and len(sink.final) == report.frames_out
            except asyncio.CancelledError:
                assert task.cancelled()
                cancelled += 1
        if sink.final is None and sink.info is not None:
            assert sink.aborted and sink.part == []
        elif kind == "file" and sink.final is not None:
            assert len(sink.final) == 8
        assert all(session.closed == 1 and not session.closed_while_busy for session in enhancer.sessions)
        assert source.closed == (1 if source.threads else 0)
    assert cancelled >= 12


async def test_a_second_cancellation_does_not_cut_the_first_short() -> None:
    source, sink = live(100, endless=True), MemorySink(write_s=0.1)
    with nothing_left():
        task = asyncio.create_task(enhance(source, sink, BypassEnhancer(restore_s=0.05)))
        await until(lambda: bool(sink.part))
        for _ in range(4):
            task.cancel()
            await asyncio.sleep(0.005)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert sink.final is None and sink.aborted and source.closed == 1


async def test_the_session_is_closed_after_its_threads_have_left_it() -> None:
    enhancer = BypassEnhancer(track_s=0.2)
    with nothing_left():
        task = asyncio.create_task(enhance(MemorySource(frames(3)), MemorySink(), enhancer))
        await until(lambda: bool(enhancer.sessions) and enhancer.sessions[0].busy)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert enhancer.sessions[0].closed == 1 and not enhancer.sessions[0].closed_while_busy


async def test_leaving_the_block_ends_a_run_in_another_task() -> None:
    source, sink = live(100, endless=True), MemorySink()
    with nothing_left():
        async with Pipeline(source, sink, BypassEnhancer()) as pipeline:
            running = asyncio.create_task(pipeline.run())
            await until(lambda: pipeline.report().frames_out > 3)
        assert running.cancelled()
    assert sink.final is None and sink.aborted
    assert pipeline.report().status == "cancelled"


async def test_leaving_the_block_without_a_run() -> None:
    source, sink = MemorySource(frames(3)), MemorySink()
    with nothing_left():
        async with Pipeline(source, sink, BypassEnhancer()):
            assert owned_threads() == {
                f"streamsr-{name}" for name in ("decode", "track", "restore", "composite", "encode")
            }
    assert sink.aborted and source.closed == 1


async def test_a_time_limit_around_a_run() -> None:
    source, sink = live(100, endless=True), MemorySink()
    with nothing_left(), pytest.raises(TimeoutError):
        async with asyncio.timeout(0.15):
            await enhance(source, sink)
    assert sink.aborted
