"""Writing files: every time kept, no size changed, audio copied bit for bit, planes taken as they are."""

from __future__ import annotations

import os
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from media import audio_packets, moving_picture, write_video
from sink_files import RATE, copy, frame, read_all, write

from streamsr.errors import ConfigError, SinkError, SourceError
from streamsr.frame import Colour, Frame, Matrix, Range, StreamInfo, Yuv420p
from streamsr.io import open_sink
from streamsr.io.colour import from_rgb
from streamsr.io.file_sink import FileSink


def planar(index: int, size: tuple[int, int], colour: Colour) -> Frame:
    planes = from_rgb(moving_picture(index, *size), colour, "yuv420p", VideoReformatter()).to_ndarray()
    return Frame(Yuv420p(planes, colour), index, 1 / RATE, 0, index=index)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "m4v"])
@pytest.mark.parametrize(
    ("time_base", "pts"),
    [
        (Fraction(1001, 30000), list(range(12))),
        (Fraction(1, 30000), [500, 1501, 1502, 9000, 9100, 50000]),
        (Fraction(1, 90000), [270500, 271501, 271502, 279000]),
        (Fraction(1, 90000), [9720000500, 9720003500, 9720006500]),  # a camera that has run for 30 hours
        (Fraction(1, 1000), [0, 33, 67, 100]),
        (Fraction(1, 1000000), [7, 33340, 66673, 1000001]),
    ],
    ids=["29.97", "vfr", "90k late", "30 hours", "ms", "us"],
)
def test_every_pts_survives(tmp_path: Path, suffix: str, time_base: Fraction, pts: list[int]) -> None:
    frames = [frame(index, time, time_base) for index, time in enumerate(pts)]
    write(FileSink(str(tmp_path / f"a.{suffix}")), frames)
    info, again = read_all(tmp_path / f"a.{suffix}")
    assert [each.pts * each.time_base for each in again] == [time * time_base for time in pts]
    if time_base.numerator == 1:
        assert info.time_base == time_base
        assert [each.pts for each in again] == pts
    for one, other in zip(frames, again, strict=True):
        assert np.abs(one.image.astype(float) - other.image).mean() < 6


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_matroska_keeps_times_to_the_millisecond(tmp_path: Path, codec: str) -> None:
    pts = [500, 1501, 3002, 9000, 50000]
    write(
        FileSink(str(tmp_path / "a.mkv"), codec=codec),
        [frame(n, t, Fraction(1, 30000)) for n, t in enumerate(pts)],
    )
    _, again = read_all(tmp_path / "a.mkv")
    assert [each.time_s for each in again] == pytest.approx([time / 30000 for time in pts], abs=0.0005)


def test_last_duration_is_kept(tmp_path: Path) -> None:
    base = Fraction(1, 1000)
    write(
        FileSink(str(tmp_path / "a.mp4")),
        [frame(n, t, base, duration=d) for n, t, d in [(0, 0, 40), (1, 40, 777)]],
    )
    assert [each.duration for each in read_all(tmp_path / "a.mp4")[1]] == [40, 777]


def test_avi_holds_a_constant_rate_only(tmp_path: Path) -> None:
    base = Fraction(1, 30000)
    write(FileSink(str(tmp_path / "a.avi"), codec="ffv1"), [frame(n, 1000 * n, base) for n in range(5)])
    assert [each.time_s * 30 for each in read_all(tmp_path / "a.avi")[1]] == pytest.approx(range(5))
    with pytest.raises(SinkError, match=r"AVI holds no variable frame rate, write an \.mkv"):
        write(FileSink(str(tmp_path / "b.avi")), [frame(0, 0, base), frame(1, 100, base)])
    assert os.listdir(tmp_path) == ["a.avi"]


def test_a_start_before_zero_moves_to_zero(tmp_path: Path) -> None:
    pts = [-4500, -3499, 0, 2000]
    write(FileSink(str(tmp_path / "a.mp4")), [frame(n, t, Fraction(1, 30000)) for n, t in enumerate(pts)])
    assert [each.pts for each in read_all(tmp_path / "a.mp4")[1]] == [0, 1001, 4500, 6500]


@pytest.mark.parametrize("size", [(101, 57), (64, 33), (1, 1), (2, 2), (16, 16), (640, 2)])
@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_sizes_are_never_changed(tmp_path: Path, size: tuple[int, int], codec: str) -> None:
    frames = [frame(n, n, 1 / RATE, size) for n in range(3)]
    write(FileSink(str(tmp_path / "a.mkv"), codec=codec), frames)
    info, again = read_all(tmp_path / "a.mkv")
    assert (info.width, info.height) == size
    assert len(again) == 3
    if codec == "ffv1":
        assert all(np.array_equal(one.image, other.image) for one, other in zip(frames, again, strict=True))


def test_h264_is_yuv420p_unless_a_side_is_odd(tmp_path: Path) -> None:
    import av

    for size, pixel_format in (((64, 48), "yuv420p"), ((63, 48), "yuv444p"), ((64, 47), "yuv444p")):
        write(FileSink(str(tmp_path / "a.mp4"), overwrite=True), [frame(0, 0, 1 / RATE, size)])
        with av.open(str(tmp_path / "a.mp4")) as container:
            assert container.streams.video[0].codec_context.pix_fmt == pixel_format


def test_crf_sets_the_quality(tmp_path: Path) -> None:
    sizes = []
    for crf in (5, 18, 40):
        path = tmp_path / f"{crf}.mp4"
        write(FileSink(str(path), crf=crf), [frame(n, n, 1 / RATE, (160, 120)) for n in range(8)])
        sizes.append(path.stat().st_size)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 1.5 * sizes[2]
    write(FileSink(str(tmp_path / "default.mp4")), [frame(n, n, 1 / RATE, (160, 120)) for n in range(8)])
    assert (tmp_path / "default.mp4").stat().st_size == sizes[1]


@pytest.mark.parametrize("live", [False, True])
def test_a_live_file_holds_no_picture_back(tmp_path: Path, live: bool) -> None:
    """x264 writes its settings into the stream."""
    path = tmp_path / "a.mp4"
    frames = [frame(n, n, 1 / RATE, (160, 120)) for n in range(12)]
    write(FileSink(str(path), live=live), frames)
    settings = path.read_bytes().split(b"options: ")[1].split(b"\0")[0].split()
    assert any(each.startswith(b"rc_lookahead=") for each in settings) != live
    assert (b"aq=0" in settings) == live
    assert [each.pts for each in read_all(path)[1]] == [each.pts for each in frames]


@pytest.mark.parametrize("source_suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("sink_suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("audio_s", [0.3, 1.0, 3.0])
def test_audio_is_copied_bit_for_bit_in_sync(
    tmp_path: Path, source_suffix: str, sink_suffix: str, audio_s: float
) -> None:
    """Shorter than, as long as and longer than the second of video."""
    source, sink = tmp_path / f"in.{source_suffix}", tmp_path / f"out.{sink_suffix}"
    write_video(source, count=30, audio="aac", audio_s=audio_s)
    copy(source, sink)
    before, after = audio_packets(source), audio_packets(sink)
    assert [data for data, _ in after] == [data for data, _ in before]
    offsets = [
        (new - old) - (read_all(sink)[1][0].time_s - read_all(source)[1][0].time_s)
        for (_, new), (_, old) in [(after[0], before[0]), (after[-1], before[-1])]
    ]
    assert np.abs(np.array(offsets, float)).max() < 0.0015  # Matroska's millisecond
    video_before, video_after = read_all(source)[1], read_all(sink)[1]
    assert [each.time_s for each in video_after] == pytest.approx(
        [each.time_s for each in video_before], abs=0.0006
    )


def test_audio_is_interleaved(tmp_path: Path) -> None:
    import av

    write_video(tmp_path / "in.mp4", count=60, audio="aac", audio_s=2.0)
    copy(tmp_path / "in.mp4", tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        packets = [packet for packet in container.demux() if packet.pos and packet.pts is not None]
    stored = sorted((packet.pos, float((packet.pts or 0) * packet.time_base)) for packet in packets)
    times = [time for _, time in stored]
    assert max(abs(a - b) for a, b in pairwise(times)) < 0.5


def test_a_source_without_audio_or_of_pictures(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4", count=3)
    copy(tmp_path / "in.mp4", tmp_path / "out.mp4")
    assert audio_packets(tmp_path / "out.mp4") == []
    copy(tmp_path / "out.mp4", tmp_path / "p%03d.png")
    copy(tmp_path / "p%03d.png", tmp_path / "again.mp4")
    assert len(read_all(tmp_path / "again.mp4")[1]) == 3


def test_audio_that_the_container_cannot_hold(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mkv", count=5, audio="tta")
    with pytest.raises(SinkError, match=r"mp4 cannot hold the source's tta audio: write an \.mkv"):
        copy(tmp_path / "in.mkv", tmp_path / "out.mp4")
    assert os.listdir(tmp_path) == ["in.mkv"]
    copy(tmp_path / "in.mkv", tmp_path / "out.mkv")
    assert [data for data, _ in audio_packets(tmp_path / "out.mkv")] == [
        data for data, _ in audio_packets(tmp_path / "in.mkv")
    ]


def test_audio_that_no_output_can_hold(tmp_path: Path) -> None:
    write_video(tmp_path / "in.asf", count=5, audio="wmav2")
    with pytest.raises(SinkError, match="matroska cannot hold the source's wmav2 audio: convert"):
        copy(tmp_path / "in.asf", tmp_path / "out.mkv")
    assert os.listdir(tmp_path) == ["in.asf"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("", {}, "output is empty"),
        ("a", {}, r"must end in \.mp4"),
        ("a.webm", {}, r"must end in \.mp4"),
        ("a.mp4", {"codec": "ffv1"}, r"\.mp4 cannot hold ffv1: write an \.mkv"),
        ("a.mp4", {"codec": "av1"}, "codec must be one of h264, ffv1, h264_nvenc, hevc_nvenc, got 'av1'"),
        ("a.mp4", {"crf": 52}, "crf must be 0 to 51"),
        ("a.mkv", {"codec": "ffv1", "crf": 3}, "crf must be 0 to 51 and is for h264"),
        ("ftp://host/a.mp4", {}, "got ftp://"),
        ("a%d.png", {"crf": 3}, "not for pictures"),
    ],
)
def test_outputs_that_cannot_be(name: str, options: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ConfigError, match=message):
        open_sink(name, **options)


def test_audio_source_that_is_gone(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "a.mp4"), source_path=str(tmp_path / "gone.mp4"))
    with pytest.raises(SourceError, match="cannot read the audio"):
        sink.open(StreamInfo(64, 48, RATE, 1 / RATE))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "codec", "size", "taken"),
    [
        ("a.mp4", "h264", (64, 48), True),
        ("a.mp4", "h264", (64, 47), False),
        ("a.mp4", "h264", (63, 48), False),
        ("a.mkv", "ffv1", (64, 48), False),
    ],
)
def test_who_takes_planes(tmp_path: Path, name: str, codec: str, size: tuple[int, int], taken: bool) -> None:
    sink = FileSink(str(tmp_path / name), codec=codec)
    assert not sink.takes_yuv420p
    sink.open(StreamInfo(*size, RATE, 1 / RATE))
    assert sink.takes_yuv420p is taken
    sink.abort()


@pytest.mark.parametrize("size", [(64, 48), (62, 46)])
def test_planes_and_pictures_by_turns(tmp_path: Path, size: tuple[int, int]) -> None:
    """Planes reach the encoder untouched, and are what it would have made of the pictures."""
    colour = Colour(Matrix.BT709, Range.FULL, 1, 1)
    sink = FileSink(str(tmp_path / "a.mp4"), crf=0)  # x264's lossless
    sink.open(StreamInfo(*size, RATE, 1 / RATE, colour))
    for index in range(6):
        sink.write(planar(index, size, colour) if index % 2 else frame(index, index, 1 / RATE, size))
    sink.close()
    info, _ = read_all(tmp_path / "a.mp4")
    assert info.colour == colour
    with av.open(str(tmp_path / "a.mp4")) as container:
        for index, decoded in enumerate(container.decode(video=0)):
            wanted = planar(index, size, colour).image.planes  # type: ignore[attr-defined]
            assert np.array_equal(decoded.to_ndarray(), wanted)
    assert index == 5


def test_planes_of_another_size_are_refused(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "a.mp4"))
    sink.open(StreamInfo(64, 48, RATE, 1 / RATE))
    with pytest.raises(SinkError, match="must be 64x48, got 48x64"):
        sink.write(planar(0, (48, 64), Colour()))
    assert not list(tmp_path.iterdir())
