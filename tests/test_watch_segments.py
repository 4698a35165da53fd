"""Real files on real file systems: rotation, limits, kills, a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import FakeClock, make_frame, names_in

from streamsr.errors import ConfigError, DiskFullError, SinkError
from streamsr.frame import Frame, StreamInfo
from streamsr.io.fragments import complete_length
from streamsr.watch.segments import SegmentSink, segments_in

RTP = Fraction(1, 90_000)
INFO = StreamInfo(160, 120, Fraction(25), RTP)
NOON = 1_795_262_400.0  # 2026-11-21 12:00:00 UTC

pytest_plugins = ["shared_fixtures"]
pytestmark = pytest.mark.timeout(60)


class Camera:
    """25 pictures a second of noise, on clocks of its own: those of the day and of the machine."""

    def __init__(self, sink_folder: Path, *, noise: int = 60, **options) -> None:  # type: ignore[no-untyped-def]
        self.clock, self.index, self.offset_s = FakeClock(), 0, 0.0
        self.start_ns = self.clock.now_ns()
        self.generator = np.random.default_rng(0)
        self.noise = noise
        self.sink = SegmentSink(
            sink_folder, **{"min_free_bytes": 0, "clock": self.clock, "wall": self.wall} | options
        )

    def wall(self) -> float:
        return NOON + self.offset_s + (self.clock.now_ns() - self.start_ns) / 1e9

    def record(self, seconds: float) -> None:
        for _ in range(round(25 * seconds)):
            image = make_frame(160, 120, self.index).image.astype(int)
            image += self.generator.integers(-self.noise, self.noise + 1, image.shape)
            picture = np.clip(image, 0, 255).astype(np.uint8)
            self.sink.write(
                Frame(picture, 270_000 + 3600 * self.index, RTP, self.clock.now_ns(), self.index, 3600)
            )
            self.index += 1
            self.clock.advance_ms(40)


def pts_of(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
        return [time - times[0] for time in times]


def test_segments_are_named_by_time_and_nothing_is_lost_between_them(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "rec", segment_s=2.0)
    camera.sink.open(INFO)
    camera.record(5)
    assert names_in(tmp_path / "rec")[0].endswith(".partial")  # the third
    camera.sink.close()
    camera.sink.close()
    segments = segments_in(tmp_path / "rec")
    assert [path.name for path in segments] == [
        "20261121T120000.000Z.mp4",
        "20261121T120002.000Z.mp4",
        "20261121T120004.000Z.mp4",
    ]
    assert [len(pts_of(path)) for path in segments] == [50, 50, 25]
    for path in segments:
        assert pts_of(path) == [Fraction(index, 25) for index in range(len(pts_of(path)))]
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.start_time in (None, 0)
            assert next(container.demux(stream)).is_keyframe
    assert names_in(tmp_path / "rec") == [".recording", *(path.name for path in segments)]
    assert camera.sink.warnings == []


def test_a_gap_in_the_pictures_begins_a_new_segment(tmp_path: Path) -> None:
    camera = Camera(tmp_path, segment_s=60)
    camera.sink.open(INFO)
    camera.record(1)
    camera.index += 25 * 600
    camera.clock.advance_ms(600_000)
    camera.record(1)
    camera.sink.close()
    assert [path.name for path in segments_in(tmp_path)] == [
        "20261121T120000.000Z.mp4",
        "20261121T121001.000Z.mp4",
    ]


def test_a_camera_that_is_away_leaves_a_complete_segment(tmp_path: Path) -> None:
    camera = Camera(tmp_path, segment_s=60)
    camera.sink.open(INFO)
    camera.record(3)
    camera.clock.advance_ms(59_000)
    camera.sink.idle()
    assert segments_in(tmp_path) == []
    camera.clock.advance_ms(2_000)
    camera.sink.idle()
    assert [len(pts_of(path)) for path in segments_in(tmp_path)] == [75]
    camera.record(1)
    camera.sink.close()
    assert [len(pts_of(path)) for path in segments_in(tmp_path)] == [75, 25]


def test_a_wall_clock_that_is_set_back_overwrites_nothing(tmp_path: Path) -> None:
    camera = Camera(tmp_path, segment_s=1)
    camera.sink.open(INFO)
    camera.record(1)
    camera.offset_s = -1.0
    camera.record(1)
    camera.sink.close()
    assert [path.name for path in segments_in(tmp_path)] == [
        "20261121T120000.000Z.mp4",
        "20261121T120000.001Z.mp4",
    ]


def test_the_size_limit_deletes_the_oldest(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(bytes(500_000))
    (tmp_path / "0.mp4").write_bytes(bytes(500_000))
    camera = Camera(tmp_path, noise=56, segment_s=60, max_bytes=1_000_000)
    camera.sink.open(INFO)
    most = 0
    for _ in range(40):
        camera.record(0.5)
        recorded = [path for path in tmp_path.iterdir() if path.name not in ("notes.txt", "0.mp4")]
        most = max(most, sum(path.stat().st_size for path in recorded))
    camera.sink.close()
    segments = segments_in(tmp_path)
    assert 700_000 < most < 1_300_000  # a fragment, of 200 kB here, may come between two looks
    assert segments[0].name > "20261121T120004" and len(segments) >= 2
    assert (tmp_path / "notes.txt").exists() and (tmp_path / "0.mp4").exists()
    assert camera.sink.warnings == []


def test_the_age_limit_holds_while_no_pictures_come(tmp_path: Path) -> None:
    camera = Camera(tmp_path, segment_s=1, max_age_s=3600)
    camera.sink.open(INFO)
    camera.record(2.5)
    camera.clock.advance_ms(3_500_000)
    camera.sink.idle()
    assert len(segments_in(tmp_path)) == 3
    for path in segments_in(tmp_path):
        os.utime(path, (NOON + 3, NOON + 3))
    camera.clock.advance_ms(200_000)
    camera.sink.idle()
    assert segments_in(tmp_path) == []
    camera.sink.close()


RECORD_UNTIL_KILLED = """
import sys, time
from fractions import Fraction
import numpy as np
from streamsr.frame import Frame, StreamInfo
from streamsr.watch.segments import SegmentSink
sink = SegmentSink(sys.argv[1], segment_s=5.0, min_free_bytes=0)
sink.open(StreamInfo(160, 120, Fraction(25), Fraction(1, 90000)))
for index in range(10**6):
    image = np.random.default_rng(index).integers(0, 256, (120, 160, 3), np.uint8)
    sink.write(Frame(image, 3600 * index, Fraction(1, 90000), time.monotonic_ns(), index, 3600))
    print(index, flush=True)
    time.sleep(0.002)
"""


@pytest.mark.parametrize("pictures", [1, 190])
def test_what_a_kill_leaves_is_kept_at_the_next_start(tmp_path: Path, pictures: int) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", RECORD_UNTIL_KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    while int(child.stdout.readline()) + 1 < pictures:
        pass
    child.send_signal(signal.SIGKILL)
    child.communicate()
    before = segments_in(tmp_path)
    assert len(before) == pictures // 125
    assert any(name.endswith(".partial") for name in names_in(tmp_path))
    sink = SegmentSink(tmp_path, min_free_bytes=0)
    sink.open(INFO)
    sink.close()
    assert not any(name.endswith(".partial") for name in names_in(tmp_path))
    kept = segments_in(tmp_path)
    if pictures == 1:  # not a fragment was complete
        assert kept == [] and sink.warnings == []
        return
    assert kept[:1] == before and len(kept) == 2
    assert sink.warnings == [f"{tmp_path}: segments that were cut short, and kept: 1"]
    times = pts_of(kept[1])
    assert len(times) >= 50 and pictures - 125 - len(times) <= 50 + 15  # fragment and encoder's delay
    assert {late - early for early, late in pairwise(times)} == {Fraction(1, 25)}


def test_the_length_of_what_is_complete(tmp_path: Path) -> None:
    camera = Camera(tmp_path, segment_s=60)
    camera.sink.open(INFO)
    camera.record(5)
    camera.sink.close()
    [segment] = segments_in(tmp_path)
    whole = segment.read_bytes()
    full = complete_length(segment)
    assert len(whole) - 200 < full <= len(whole)
    lengths = set()
    for cut in range(0, full, full // 300):
        segment.write_bytes(whole[:cut])
        lengths.add(complete_length(segment))
        assert complete_length(segment) <= cut
    assert len(lengths) == 3  # none, one and two of the three fragments
    segment.write_bytes(whole[: min(lengths - {0})] + bytes(5000))  # zeros of a power cut
    assert complete_length(segment) == min(lengths - {0})


def test_one_recording_has_the_folder(tmp_path: Path) -> None:
    first, second = SegmentSink(tmp_path, min_free_bytes=0), SegmentSink(tmp_path, min_free_bytes=0)
    first.open(INFO)
    with pytest.raises(SinkError, match="in use by another recording"):
        second.open(INFO)
    first.close()
    second.open(INFO)
    second.abort()


def test_a_full_disk_deletes_the_oldest_where_there_is_a_limit(small_disk: Path) -> None:
    camera = Camera(small_disk, noise=120, segment_s=4, max_bytes=100_000_000, min_free_bytes=2_000_000)
    camera.sink.open(INFO)
    camera.record(60)
    camera.sink.close()
    segments = segments_in(small_disk)
    assert segments[0].name > "20261121T120000" and len(segments) >= 2
    assert segments[-1].name > "20261121T120054"
    assert "deleted early because the disk was full" in camera.sink.warnings[0]
    for path in segments:
        assert len(pts_of(path)) > 0


@pytest.mark.parametrize("suddenly", [False, True], ids=["in time", "in mid-write"])
def test_a_full_disk_without_a_limit_keeps_all_and_recording_comes_back(
    small_disk: Path, suddenly: bool
) -> None:
    camera = Camera(small_disk, noise=120, segment_s=60, min_free_bytes=2_000_000)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2_000_000))
    camera.sink.open(INFO)
    camera.record(7.04)
    if suddenly:  # the last look at the disk was one picture ago
        with pytest.raises(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    with pytest.raises(DiskFullError, match=r"the disk is full: \d\.\d MB free, recording wants 2 MB"):
        camera.record(60)
    camera.sink.abort()
    [kept] = segments_in(small_disk)
    recorded = len(pts_of(kept))
    assert recorded > 100
    if suddenly:
        with pytest.raises(DiskFullError):
            camera.sink.open(INFO)
        ballast.unlink()
    else:
        ballast.write_bytes(b"")
    camera.sink.open(INFO)
    camera.record(2)
    camera.sink.close()
    assert [len(pts_of(path)) for path in segments_in(small_disk)] == [recorded, 50]


def test_refuses_what_cannot_be(tmp_path: Path) -> None:
    for options in ({"segment_s": 0}, {"max_age_s": -1}, {"max_bytes": 0}, {"min_free_bytes": -1}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            SegmentSink(tmp_path, **options)
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot record to"):
        SegmentSink(tmp_path / "file").open(INFO)
    with pytest.raises(SinkError, match="is not open"):
        SegmentSink(tmp_path).write(make_frame())


def test_a_folder_that_cannot_be_made_is_named() -> None:
    sink = SegmentSink("/proc/recordings")
    with pytest.raises(SinkError, match="cannot record to /proc/recordings: No such file or directory"):
        sink.open(INFO)
    sink.abort()
