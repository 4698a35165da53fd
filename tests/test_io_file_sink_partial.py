"""A file not yet complete: hidden until ``close``, and gone, with nothing else touched, if it fails."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from media import write_video
from sink_files import RATE, copy, frame, read_all, write

from streamsr.errors import SinkError
from streamsr.frame import Frame, StreamInfo
from streamsr.io.file_sink import FileSink

pytest_plugins = ["shared_fixtures"]


def test_long_names(tmp_path: Path) -> None:
    name = f"{'ä' * 120}.mp4"  # 244 bytes of the 255 that a name may have
    write(FileSink(str(tmp_path / name)), [frame(0, 0, 1 / RATE)])
    assert os.listdir(tmp_path) == [name]


def test_only_close_gives_the_file_its_name(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "a.mp4"))
    sink.open(StreamInfo(64, 48, RATE, 1 / RATE))
    sink.write(frame(0, 0, 1 / RATE))
    assert not (tmp_path / "a.mp4").exists()
    assert all(name.startswith(".a.mp4.") and name.endswith(".partial") for name in os.listdir(tmp_path))
    sink.close()
    sink.close()
    sink.abort()
    assert os.listdir(tmp_path) == ["a.mp4"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a.mp4").stat().st_mode & 0o777 == 0o666 & ~umask


def test_abort_leaves_nothing(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "a.mp4"))
    sink.abort()
    sink.open(StreamInfo(64, 48, RATE, 1 / RATE))
    sink.write(frame(0, 0, 1 / RATE))
    sink.abort()
    sink.abort()
    sink.close()
    assert os.listdir(tmp_path) == []
    with pytest.raises(SinkError, match="is not open"):
        sink.write(frame(1, 1, 1 / RATE))


def test_abort_keeps_the_file_that_was_to_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"precious")
    sink = FileSink(str(tmp_path / "a.mp4"), overwrite=True)
    sink.open(StreamInfo(64, 48, RATE, 1 / RATE))
    sink.write(frame(0, 0, 1 / RATE))
    sink.abort()
    assert (tmp_path / "a.mp4").read_bytes() == b"precious"


def test_existing_files(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"precious")
    with pytest.raises(SinkError, match=r"a\.mp4 exists: use --overwrite"):
        FileSink(str(tmp_path / "a.mp4")).open(StreamInfo(64, 48, RATE, 1 / RATE))
    assert (tmp_path / "a.mp4").read_bytes() == b"precious"
    write(FileSink(str(tmp_path / "a.mp4"), overwrite=True), [frame(0, 0, 1 / RATE)])
    assert len(read_all(tmp_path / "a.mp4")[1]) == 1
    assert os.listdir(tmp_path) == ["a.mp4"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "a.mp4"))
    sink.open(StreamInfo(64, 48, RATE, 1 / RATE))
    sink.write(frame(0, 0, 1 / RATE))
    (tmp_path / "a.mp4").write_bytes(b"precious")
    with pytest.raises(SinkError, match="exists"):
        sink.close()
    assert os.listdir(tmp_path) == ["a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"precious"


def test_the_source_is_never_the_output(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", count=3)
    os.link(tmp_path / "a.mp4", tmp_path / "b.mp4")
    with pytest.raises(SinkError, match="is the source itself"):
        copy(tmp_path / "a.mp4", tmp_path / "b.mp4", overwrite=True)
    assert len(read_all(tmp_path / "a.mp4")[1]) == 3


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    info = StreamInfo(64, 48, RATE, 1 / RATE)
    (tmp_path / "folder.mp4").mkdir()
    for path, message in (
        (tmp_path / "none" / "a.mp4", "no such directory"),
        (tmp_path / "folder.mp4", "is a directory"),
        (Path("/proc/self/a.mp4"), "cannot write /proc/self/a.mp4: "),
        (tmp_path / f"{'x' * 300}.mp4", "File name too long"),
    ):
        with pytest.raises(SinkError, match=message):
            FileSink(str(path)).open(info)
    assert os.listdir(tmp_path) == ["folder.mp4"]


def test_no_frames_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    sink = FileSink(str(tmp_path / "a.mp4"))
    sink.open(StreamInfo(64, 48, RATE, 1 / RATE))
    with pytest.raises(SinkError, match="there were no frames"):
        sink.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "second", [frame(1, 0, 1 / RATE), frame(1, 1, 1 / RATE, (64, 50))], ids=["pts", "size"]
)
def test_frames_that_do_not_fit(tmp_path: Path, second: Frame) -> None:
    with pytest.raises(SinkError, match=r"pts must increase, got 0 after 0|must be 64x48, got 64x50"):
        write(FileSink(str(tmp_path / "a.mp4")), [frame(0, 0, 1 / RATE), second])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "h264"), ("a.mkv", "h264"), ("a.mkv", "ffv1")])
def test_full_disk(tiny_disk: Path, name: str, codec: str) -> None:
    random = np.random.default_rng(0)
    frames = [
        Frame(random.integers(0, 256, (240, 320, 3), dtype=np.uint8), n, 1 / RATE, 0, n) for n in range(12)
    ]
    sink = FileSink(str(tiny_disk / name), codec=codec, threads=1)
    with pytest.raises(SinkError, match=f"cannot write .*{name}: No space left on device"):
        write(sink, frames)
    assert os.listdir(tiny_disk) == []
    sink.abort()


def test_disk_that_fills_up_at_the_end(tiny_disk: Path) -> None:
    """All pictures are still in the encoder when ``close`` finds no room."""
    (tiny_disk / "filler").write_bytes(bytes(190_000))
    random = np.random.default_rng(0)
    sink = FileSink(str(tiny_disk / "a.mp4"))
    sink.open(StreamInfo(320, 240, RATE, 1 / RATE))
    sink.write(Frame(random.integers(0, 256, (240, 320, 3), dtype=np.uint8), 0, 1 / RATE, 0))
    with pytest.raises(SinkError, match="No space left on device"):
        sink.close()
    assert os.listdir(tiny_disk) == ["filler"]


def test_file_size_limit(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    random = np.random.default_rng(0)
    try:
        with pytest.raises(SinkError, match="File too large"):
            write(
                FileSink(str(tmp_path / "a.mp4")),
                [
                    Frame(random.integers(0, 256, (240, 320, 3), dtype=np.uint8), n, 1 / RATE, 0)
                    for n in range(9)
                ],
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == []
