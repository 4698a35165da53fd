"""Sinks that are slow, fail or hang beside one that must not notice."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from helpers import MemorySink, enhance, live, make_frame, names_in, wait_until
from rtsp_server import RtspServer, publish_in, publish_out, publishers

from streamsr.errors import ConfigError, SinkError
from streamsr.frame import Frame, Sink, StreamInfo
from streamsr.io.rtsp import RtspSource
from streamsr.watch.fan_out import FanOut, SinkPlan, recording_plan, sink_plan
from streamsr.watch.segments import SegmentSink, segments_in

RECOVERY_S = 10
RTP = Fraction(1, 90_000)
INFO = StreamInfo(160, 120, Fraction(25), RTP)

pytest_plugins = ["shared_fixtures"]
pytestmark = pytest.mark.timeout(90)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No thread, process or descriptor outlives a test."""
    av.open(os.devnull, format="rawvideo", options={"video_size": "2x2"}).close()  # loads what loads once
    threads, descriptors = set(threading.enumerate()), os.listdir("/proc/self/fd")
    yield
    wait_until(lambda: not set(threading.enumerate()) - threads, 8)
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)
    assert not publishers()


@pytest.fixture
def fan_out() -> Iterator[Callable[..., FanOut]]:
    with ExitStack() as made:

        def make(*plans: SinkPlan) -> FanOut:
            sinks = FanOut(plans)
            made.callback(sinks.abort)
            return sinks

        yield make


class Writer:
    """Writes 25 pictures a second on its own thread, counts them, remembers the longest ``write``."""

    def __init__(self, sink: Sink, first: int = 0) -> None:
        self.sink = sink
        self.count, self.slowest_s = first, 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.04):
            frame = replace(make_frame(160, 120, self.count), captured_ns=time.monotonic_ns())
            began_s = time.monotonic()
            self.sink.write(frame)
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            self.count += 1


class PipeSink:
    """Writes raw pictures into a named pipe: hangs in ``open`` until somebody reads, then in ``write``."""

    def __init__(self, path: Path) -> None:
        self.url, self.file = str(path), -1

    def open(self, info: StreamInfo) -> None:
        self.file = os.open(self.url, os.O_WRONLY)

    def write(self, frame: Frame) -> None:
        try:
            os.write(self.file, frame.image.tobytes())
        except BrokenPipeError:
            raise SinkError("nobody reads", self.url) from None

    def close(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    abort = close


def memory(
    url: str = "memory:out", pictures: int = 100, **options: object
) -> tuple[SinkPlan, list[MemorySink]]:
    """A plan and, in the order of their making, its sinks."""
    made: list[MemorySink] = []

    def make() -> MemorySink:
        made.append(MemorySink(url=url, **options))  # type: ignore[arg-type]
        return made[-1]

    return SinkPlan(url, make, pictures=pictures), made


async def test_in_a_pipeline_one_sink_gets_every_picture(fan_out: Callable[..., FanOut]) -> None:
    plan, made = memory()
    sinks = fan_out(plan)
    report = await enhance(live(50, fps=50), sinks)
    assert report.frames_out + report.frames_dropped == 50 and report.warnings == ()
    [sink] = made
    assert sink.final is not None and len(sink.final) == report.frames_out > 25
    assert sink.info is not None and (sink.info.width, sink.info.height) == (128, 96)
    [status] = sinks.statistics()
    assert status.model_dump() == {
        "url": "memory:out",
        "state": "closed",
        "written": report.frames_out,
        "dropped": 0,
        "reconnects": 0,
        "error": None,
    }


def test_a_slow_sink_drops_the_oldest_and_the_others_get_all(fan_out: Callable[..., FanOut]) -> None:
    quick, quick_made = memory("memory:quick")
    slow, slow_made = memory("memory:slow", pictures=2, write_s=0.2)
    sinks = fan_out(quick, slow)
    sinks.open(INFO)
    with Writer(sinks) as writer:
        time.sleep(2)
    sinks.close()
    assert writer.slowest_s < 0.05
    assert [frame.index for frame in quick_made[0].final or ()] == list(range(writer.count))
    late = [frame.index for frame in slow_made[0].final or ()]
    assert late[-1] == writer.count - 1 and len(late) < 15
    status = sinks.statistics()[1]
    assert status.written == len(late) and status.written + status.dropped == writer.count


def test_a_failing_sink_is_made_anew(fan_out: Callable[..., FanOut]) -> None:
    good, good_made = memory("memory:good")
    bad, bad_made = memory("memory:bad", fail_at=10)
    sinks = fan_out(good, bad)
    sinks.open(INFO)
    with Writer(sinks) as writer:
        wait_until(lambda: sinks.statistics()[1].reconnects >= 2, 8)
        status = sinks.statistics()[1]
        assert status.error == "memory:bad: no space left on device"
    sinks.close()
    assert len(bad_made) >= 3 and all(sink.aborted for sink in bad_made[:2])
    status = sinks.statistics()[1]
    assert status.written >= 20 and status.written + status.dropped == writer.count
    assert len(good_made) == 1 and len(good_made[0].final or ()) == writer.count


def test_another_size_opens_the_sink_anew(fan_out: Callable[..., FanOut]) -> None:
    plan, made = memory()
    sinks = fan_out(plan)
    sinks.open(INFO)
    for index, size in enumerate([(160, 120)] * 2 + [(320, 240)] * 2 + [(160, 120)]):
        sinks.write(make_frame(*size, index))
        wait_until(lambda count=index + 1: sinks.statistics()[0].written == count, 2)
    sinks.close()
    infos = [sink.info for sink in made]
    assert [(info.width, info.height) for info in infos if info] == [(160, 120), (320, 240), (160, 120)]
    assert [len(sink.final or ()) for sink in made] == [2, 2, 1]
    assert sinks.statistics()[0].reconnects == 2 and sinks.statistics()[0].error is None


def test_a_pipe_that_nobody_reads_hangs_alone_and_comes_back(
    tmp_path: Path, fan_out: Callable[..., FanOut], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamsr.watch.branch.HUNG_S", 0.5)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    good, made = memory("memory:good")
    sinks = fan_out(SinkPlan(str(pipe), lambda: PipeSink(pipe)), good)
    sinks.open(INFO)
    with Writer(sinks) as writer:
        wait_until(lambda: sinks.statistics()[0].state == "hung", 2)
        assert sinks.statistics()[0].written == 0
        with pipe.open("rb") as reader:
            began = time.monotonic()
            assert len(reader.read(10 * 160 * 120 * 3)) == 10 * 160 * 120 * 3
            assert time.monotonic() - began < RECOVERY_S
            assert sinks.statistics()[0].state == "writing"
            wait_until(lambda: sinks.statistics()[0].state == "hung", 3)  # the pipe is full
        # nobody reads again
        wait_until(lambda: "nobody reads" in (sinks.statistics()[0].error or ""), 2)
        wait_until(lambda: sinks.statistics()[0].state == "hung", 4)
    assert writer.slowest_s < 0.05
    began = time.monotonic()
    sinks.close()
    sinks.close()
    assert 4 < time.monotonic() - began < 6
    assert len(made[0].final or ()) == writer.count
    assert sinks.warnings == [f"{pipe} did not finish in time and was left behind"]
    os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))  # ends the thread that was left behind
    wait_until(lambda: sinks.statistics()[0].state == "closed", 2)


@pytest.fixture
def server(gstreamer: None) -> Iterator[RtspServer]:
    with RtspServer({"/out": publish_out("a")}, {"/in": publish_in("a")}) as server:
        yield server


def test_live_and_recorded_at_once_while_the_server_comes_and_goes(
    server: RtspServer, tmp_path: Path, fan_out: Callable[..., FanOut]
) -> None:
    folder = tmp_path / "rec"
    sinks = fan_out(sink_plan(server.url("/in", "ann:s3cret")), recording_plan(str(folder), segment_s=2))
    server.kill()
    sinks.open(INFO)
    with Writer(sinks) as writer:
        wait_until(lambda: "refused the connection" in (sinks.statistics()[0].error or ""), 5)
        server.start()
        wait_until(lambda: sinks.statistics()[0].state == "writing", RECOVERY_S)
        source = RtspSource(server.url("/out"))
        try:
            source.open()
            assert all(source.read() for _ in range(10))
        finally:
            source.close()
        server.kill()
        wait_until(lambda: sinks.statistics()[0].state == "backoff", 5)
        server.start()
        wait_until(lambda: sinks.statistics()[0].state == "writing", RECOVERY_S)
        written = sinks.statistics()[0].written
        wait_until(lambda: sinks.statistics()[0].written > written + 10, 5)
        wait_until(lambda: len(segments_in(folder)) >= 2, 5)  # and a third one that is open
    live_status, recorded = sinks.statistics()
    assert "s3cret" not in f"{live_status} {sinks.url} {sinks.warnings}"
    assert live_status.reconnects == 1 and live_status.dropped > 0
    sinks.close()
    recorded = sinks.statistics()[1]
    assert recorded.written + recorded.dropped == writer.count and recorded.reconnects == 0
    assert recorded.dropped < writer.count / 10  # on a busy machine; else none
    assert writer.slowest_s < 0.1
    assert len(segments_in(folder)) >= 3
    pictures = 0
    for path in segments_in(folder):
        with av.open(str(path)) as container:
            pictures += sum(1 for _ in container.decode(video=0))
    assert pictures == recorded.written


def test_a_server_that_accepts_and_never_answers(server: RtspServer, fan_out: Callable[..., FanOut]) -> None:
    server.kill()
    good, made = memory("memory:good")
    sinks = fan_out(sink_plan(server.url("/in")), good)
    with socket.create_server(("127.0.0.1", server.port)):
        sinks.open(INFO)
        with Writer(sinks) as writer:
            wait_until(lambda: "did not answer within 5 s" in (sinks.statistics()[0].error or ""), 12)
        assert writer.slowest_s < 0.1
        wait_until(lambda: sinks.statistics()[0].state == "opening", 4)
    server.start()
    with Writer(sinks, first=writer.count) as again:
        wait_until(lambda: sinks.statistics()[0].state == "writing", RECOVERY_S)
        wait_until(lambda: sinks.statistics()[0].written > 10, 5)
    sinks.close()
    assert len(made[0].final or ()) == again.count


def test_closing_does_not_wait_for_a_server_that_never_answers(fan_out: Callable[..., FanOut]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sinks = fan_out(sink_plan(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/in"))
        sinks.open(INFO)
        time.sleep(1)
        began = time.monotonic()
        sinks.close()
        assert time.monotonic() - began < 6


def test_a_full_disk_stops_the_recording_alone_and_it_comes_back(
    small_disk: Path, fan_out: Callable[..., FanOut]
) -> None:
    good, made = memory("memory:good")
    recording = SinkPlan(
        str(small_disk), lambda: SegmentSink(small_disk, segment_s=1, min_free_bytes=2_000_000)
    )
    sinks = fan_out(recording, good)
    sinks.open(INFO)
    ballast = small_disk / "ballast"
    with Writer(sinks) as writer:
        wait_until(lambda: sinks.statistics()[0].written > 50, 10)
        ballast.write_bytes(bytes(7_000_000))
        wait_until(lambda: sinks.statistics()[0].state == "full", RECOVERY_S)
        assert "the disk is full" in (sinks.statistics()[0].error or "")
        assert not any(name.endswith(".partial") for name in names_in(small_disk))
        time.sleep(2)
        assert sinks.statistics()[0].dropped > 0
        ballast.unlink()
        wait_until(lambda: sinks.statistics()[0].state == "writing", RECOVERY_S)
    sinks.close()
    assert len(made[0].final or ()) == writer.count
    assert len(segments_in(small_disk)) >= 3


def test_a_video_file_that_is_there_is_left_alone(tmp_path: Path, fan_out: Callable[..., FanOut]) -> None:
    path = tmp_path / "gate.north.mp4"
    path.write_bytes(b"precious")
    sinks = fan_out(sink_plan(str(path)))
    sinks.open(INFO)
    sinks.write(make_frame(160, 120))
    sinks.close()
    assert path.read_bytes() == b"precious"
    assert [re.sub(r"\d{8}T\d{12}Z", "NOW", name) for name in names_in(tmp_path)] == [
        "gate.north.NOW.mp4",
        "gate.north.mp4",
    ]
    assert sinks.statistics()[0].written == 1


def test_refuses_what_cannot_be() -> None:
    for url in ("rtsp://ann:s3cret@host:port/x", "out.webm", "frames/%05d.png", "http://host/x"):
        with pytest.raises(ConfigError) as failure:
            FanOut([sink_plan(url)])
        assert "s3cret" not in str(failure.value)
    with pytest.raises(ConfigError, match="at least one sink"):
        FanOut([])
    sinks = FanOut([memory()[0]])
    with pytest.raises(SinkError, match="not open"):
        sinks.write(make_frame())
    sinks.close()
    with pytest.raises(SinkError, match="can be opened once"):
        sinks.open(INFO)
