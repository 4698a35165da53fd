"""Reading files: times, sizes, formats, orientation, and everything that can be wrong with a file."""

from __future__ import annotations

import os
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media import moving_picture, write_video

from streamsr.clock import NS_PER_MS, NS_PER_S
from streamsr.errors import ConfigError, DecodeError, SourceError
from streamsr.frame import Frame, Range, StreamInfo
from streamsr.io import open_source
from streamsr.io.camera import CameraSource
from streamsr.io.file import FileSource
from streamsr.io.pts import IncreasingPts


def read_all(source: FileSource) -> tuple[StreamInfo, list[Frame]]:
    info = source.open()
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return info, frames


def error(frame: Frame, index: int) -> float:
    wanted = moving_picture(index, frame.width, frame.height)
    return float(np.abs(frame.image.astype(float) - wanted).mean())


def test_frames_in_order_with_their_times(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    write_video(tmp_path / "a.mp4", count=25, rate=rate, options={"crf": "4", "bf": "3"})
    info, frames = read_all(FileSource(str(tmp_path / "a.mp4")))
    assert (info.width, info.height, info.rate, info.frames) == (64, 48, rate, 25)
    assert [frame.index for frame in frames] == list(range(25))
    assert [frame.pts * frame.time_base for frame in frames] == [index / rate for index in range(25)]
    assert {frame.duration * frame.time_base for frame in frames} == {1 / rate}
    assert {frame.time_base for frame in frames} == {info.time_base}
    assert [frame.discontinuity for frame in frames] == [True] + [False] * 24
    assert max(error(frame, index) for index, frame in enumerate(frames)) < 6
    assert all(frame.image.flags.c_contiguous and frame.image.dtype == np.uint8 for frame in frames)


def test_variable_rate_and_gaps(tmp_path: Path) -> None:
    pts = [500, 1501, 1502, 9000, 9100, 50000]
    scale = {"video_track_timescale": "30000", "movie_timescale": "30000"}
    base = Fraction(1, 30000)
    write_video(tmp_path / "a.mp4", pts=pts, time_base=base, container_options=scale, options={"bf": "0"})
    info, frames = read_all(FileSource(str(tmp_path / "a.mp4")))
    assert [frame.pts for frame in frames] == pts
    assert info.time_base == base
    assert info.frames == len(pts)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p"])
@pytest.mark.parametrize("size", [(101, 57), (1, 1), (2, 2), (5, 200)])
def test_odd_and_tiny_sizes(tmp_path: Path, size: tuple[int, int], pixel_format: str) -> None:
    write_video(tmp_path / "a.mkv", count=3, size=size, codec="ffv1", pixel_format=pixel_format)
    info, frames = read_all(FileSource(str(tmp_path / "a.mkv")))
    assert (info.width, info.height) == size
    assert [frame.image.shape for frame in frames] == [(size[1], size[0], 3)] * 3


def test_large_picture(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mov"), "w") as container:
        stream = container.add_stream("qtrle", rate=25)  # run lengths: quick, and a few kB for one colour
        stream.width = stream.height = 8192
        stream.pix_fmt = "gray"
        frame = av.VideoFrame(8192, 8192, "gray")
        frame.planes[0].update(bytes([120]) * frame.planes[0].buffer_size)
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    info, frames = read_all(FileSource(str(tmp_path / "a.mov")))
    assert (info.width, info.height) == (8192, 8192)
    assert frames[0].image.shape == (8192, 8192, 3)
    assert set(np.unique(frames[0].image[::512])) <= {119, 120, 121}


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_metadata_is_applied(tmp_path: Path, rotation: int) -> None:
    write_video(tmp_path / "a.mp4", count=3, rotation=rotation, options={"crf": "1"}, pixel_format="yuv444p")
    info, frames = read_all(FileSource(str(tmp_path / "a.mp4")))
    wanted = np.rot90(moving_picture(0, 64, 48), rotation // 90)
    assert (info.height, info.width) == wanted.shape[:2]
    assert frames[0].image.shape == wanted.shape and frames[0].image.flags.c_contiguous
    assert np.abs(frames[0].image.astype(float) - wanted).mean() < 3


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix", "colour_range"),
    [
        ("ffv1", "yuv420p10le", "mkv", Range.LIMITED),
        ("libx264", "yuv420p10le", "mp4", Range.LIMITED),
        ("libx264", "yuvj420p", "mp4", Range.FULL),
        ("mjpeg", "yuvj444p", "mov", Range.FULL),
        ("libvpx-vp9", "yuv420p", "webm", Range.LIMITED),
        ("ffv1", "bgr0", "avi", Range.LIMITED),
    ],
)
def test_formats_and_depths(
    tmp_path: Path, codec: str, pixel_format: str, suffix: str, colour_range: Range
) -> None:
    path = tmp_path / f"a.{suffix}"
    options = {"libx264": {"crf": "4"}, "libvpx-vp9": {"crf": "4", "b": "0", "cpu-used": "8"}}.get(codec)
    write_video(path, count=4, codec=codec, pixel_format=pixel_format, options=options)
    info, frames = read_all(FileSource(str(path)))
    assert len(frames) == 4
    assert info.colour.range is colour_range
    assert max(error(frame, index) for index, frame in enumerate(frames)) < 6


def test_change_of_size_midway(tmp_path: Path) -> None:
    """Two streams of different size joined, as a recorder does when its camera switches."""
    for name, size in (("a", (64, 48)), ("b", (96, 80))):
        write_video(tmp_path / f"{name}.ts", count=6, size=size, options={"bf": "0"})
    (tmp_path / "both.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    info, frames = read_all(FileSource(str(tmp_path / "both.ts")))
    assert (info.width, info.height) == (64, 48)
    assert [frame.width for frame in frames] == [64] * 6 + [96] * 6
    assert [frame.index for frame in frames if frame.discontinuity] == [0, 6]
    pts = [frame.pts for frame in frames]
    assert pts == sorted(set(pts))


def test_stream_without_times(tmp_path: Path) -> None:
    write_video(tmp_path / "a.h264", count=8, rate=Fraction(25), options={"bf": "0"})
    info, frames = read_all(FileSource(str(tmp_path / "a.h264")))
    assert info.rate == 25
    assert [float(frame.time_s - frames[0].time_s) for frame in frames] == pytest.approx(
        [index / 25 for index in range(8)], abs=1e-4
    )


def test_increasing_pts() -> None:
    increasing = IncreasingPts(10)
    given = [None, 10, None, 25, 25, 24, 40, 0, 10, None]
    placed = [increasing.place(pts) for pts in given]
    assert placed == [0, 10, 20, 25, 26, 27, 40, 50, 60, 70]
    assert increasing.jumps == 1


def test_loop_goes_on_in_time(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", count=5)
    source = FileSource(str(tmp_path / "a.mp4"), loop=True)
    assert source.open().frames is None
    frames = [source.read() for _ in range(12)]
    source.close()
    pts = [frame.pts for frame in frames if frame is not None]
    assert np.diff(pts).tolist() == [pts[1] - pts[0]] * 11
    assert [frame.index for frame in frames if frame and frame.discontinuity] == [0, 5, 10]
    assert np.array_equal(frames[0].image, frames[5].image)  # type: ignore[union-attr]


class StepClock:
    """A clock moved by hand."""

    def __init__(self) -> None:
        self.ns = 0

    def now_ns(self) -> int:
        return self.ns


def test_paced_frames_come_when_they_are_due(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", count=4, rate=Fraction(10))
    clock = StepClock()
    source = FileSource(str(tmp_path / "a.mp4"), clock=clock, paced=True)
    assert source.live
    source.open()
    seen: list[tuple[int, Frame]] = []

    def consume() -> None:
        while (frame := source.read()) is not None:
            seen.append((clock.ns, frame))

    thread = threading.Thread(target=consume)
    thread.start()
    for _ in range(45):
        time.sleep(0.012)
        clock.ns += 10 * NS_PER_MS
    thread.join(timeout=5)
    source.close()
    assert not thread.is_alive()
    due = [index * NS_PER_S // 10 for index in range(4)]
    assert [frame.captured_ns - seen[0][1].captured_ns for _, frame in seen] == due
    assert all(0 <= at - frame.captured_ns <= 50 * NS_PER_MS for at, frame in seen)


def test_interrupt_ends_a_waiting_read(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", pts=[0, 3000], time_base=Fraction(1, 30))
    source = FileSource(str(tmp_path / "a.mp4"), paced=True)
    source.open()
    assert source.read() is not None
    threading.Timer(0.1, source.interrupt).start()
    began = time.monotonic()
    assert source.read() is None
    assert time.monotonic() - began < 2
    assert source.read() is None
    source.close()
    source.close()


def test_truncated_file_gives_what_is_there(tmp_path: Path) -> None:
    write_video(
        tmp_path / "whole.mp4",
        count=30,
        size=(160, 120),
        options={"crf": "10", "bf": "0", "g": "5"},
        container_options={"movflags": "faststart"},
    )
    data = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    source = FileSource(str(tmp_path / "cut.mp4"))
    info, frames = read_all(source)
    assert info.frames == 30
    assert 8 <= len(frames) <= 20
    assert max(error(frame, index) for index, frame in enumerate(frames[:-1])) < 6
    assert len(source.warnings) >= 1 and "is cut off" in source.warnings[0]


def test_truncated_matroska(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mkv", count=60, size=(160, 120), options={"crf": "10"})
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    source = FileSource(str(tmp_path / "cut.mkv"))
    _, frames = read_all(source)
    assert 15 <= len(frames) <= 45
    assert "is cut off" in source.warnings[0]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "webm"])
@pytest.mark.parametrize("audio_s", [0.0, 4.0])
def test_a_whole_file_gives_no_warning(tmp_path: Path, suffix: str, audio_s: float) -> None:
    """With B-frames, and with audio that is longer than the pictures."""
    codec, audio = ("libvpx-vp9", "libopus") if suffix == "webm" else ("libx264", "mp2")
    path = tmp_path / f"a.{suffix}"
    write_video(path, count=20, codec=codec, audio=audio if audio_s else None, audio_s=audio_s)
    source = FileSource(str(path))
    _, frames = read_all(source)
    assert source.warnings == []
    assert np.diff([frame.time_s for frame in frames]) == pytest.approx([1 / 30] * 19, abs=0.0011)
    assert max(error(frame, index) for index, frame in enumerate(frames)) < 12


def test_damage_in_the_middle_is_told(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", count=30, size=(160, 120), options={"crf": "10", "g": "5", "bf": "0"})
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    middle = len(data) // 3
    data[middle : middle + 3000] = os.urandom(3000)
    (tmp_path / "bad.mp4").write_bytes(data)
    source = FileSource(str(tmp_path / "bad.mp4"))
    _, frames = read_all(source)
    assert len(frames) >= 20
    assert any("damaged" in warning for warning in source.warnings)


def make_bad_file(path: Path, kind: str) -> None:
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(7).integers(0, 256, 20000, dtype=np.uint8).tobytes())
    elif kind == "text":
        path.write_text("just a few words\n" * 50)
    elif kind == "directory":
        path.mkdir()
    elif kind == "no index":
        write_video(path.with_name("whole.mp4"), count=20)
        path.write_bytes(path.with_name("whole.mp4").read_bytes()[:1500])
    elif kind == "audio only":
        with av.open(str(path), "w", format="mp4") as container:
            audio = container.add_stream("aac", rate=48000)
            frame = av.AudioFrame.from_ndarray(
                np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
            )
            frame.sample_rate = 48000
            container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
    elif kind == "no frames":
        with av.open(str(path), "w", format="avi") as container:
            stream = container.add_stream("mjpeg", rate=25)
            stream.width = stream.height = 16
            stream.pix_fmt = "yuvj420p"
            container.start_encoding()
    elif kind == "fifo":
        os.mkfifo(path)


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("missing", "a.mp4", "no such file"),
        ("empty", "a.mp4", "holds no video frames: it is empty"),
        ("noise", "a.mp4", "is not a video"),
        ("text", "a.txt", "is not a video"),
        ("text", "a.mp4", "is not a video"),
        ("directory", "a", "is a directory"),
        ("no index", "a.mp4", "is not a video, or is cut off before its index"),
        ("audio only", "a.mp4", "is not a video: it holds audio"),
        ("no frames", "a.avi", "holds no video frames"),
        ("fifo", "a.mp4", "is not a regular file"),
        ("missing", "frames%05d.png", "no picture matches"),
    ],
)
def test_bad_files_give_one_clear_line(tmp_path: Path, kind: str, name: str, message: str) -> None:
    make_bad_file(tmp_path / name, kind)
    source = open_source(str(tmp_path / name))
    with pytest.raises(SourceError, match=message) as caught:
        source.open()
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert source.read() is None
    source.close()


def test_names_that_look_like_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "concat:100% a.mp4", count=2, container_format="mp4")
    monkeypatch.chdir(tmp_path)
    assert len(read_all(FileSource("concat:100% a.mp4"))[1]) == 2


def test_unknown_colour_matrix_is_an_error(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", count=2, options={"colorspace": "ycgco"})
    with pytest.raises(DecodeError, match=r"a\.mp4: colour matrix must be"):
        FileSource(str(tmp_path / "a.mp4")).open()


@pytest.mark.parametrize("url", ["", "  ", "ftp://host/a.mp4", "http://host/a.mp4", "camera:front"])
def test_sources_that_cannot_be(url: str) -> None:
    with pytest.raises(ConfigError, match=r"camera:0|empty"):
        open_source(url)


@pytest.mark.parametrize("url", ["camera:63", "/dev/video63"])
def test_missing_camera(url: str) -> None:
    """No camera is needed for this; frames from a real one are not tested here."""
    source = open_source(url)
    assert isinstance(source, CameraSource) and source.live
    with pytest.raises(SourceError, match="no camera at /dev/video63"):
        source.open()
    assert source.read() is None
    source.close()
