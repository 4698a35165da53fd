"""Image sequences, written and read."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media import moving_picture

from streamsr.errors import ConfigError, SinkError
from streamsr.frame import Frame, StreamInfo
from streamsr.io import open_sink, open_source
from streamsr.io.images import ImageSequenceSink, is_sequence, sequence_numbers

RATE = Fraction(25)


def info(size: tuple[int, int] = (64, 48)) -> StreamInfo:
    return StreamInfo(*size, RATE, 1 / RATE)


def frame(index: int, size: tuple[int, int] = (64, 48)) -> Frame:
    return Frame(moving_picture(index, *size), index, 1 / RATE, 0, index=index)


def write(pattern: Path, count: int, size: tuple[int, int] = (64, 48), overwrite: bool = False) -> None:
    sink = open_sink(str(pattern), overwrite=overwrite)
    sink.open(info(size))
    for index in range(count):
        sink.write(frame(index, size))
    sink.close()


@pytest.mark.parametrize(("suffix", "limit"), [("png", 0.0), ("jpg", 2.5), ("jpeg", 2.5), ("webp", 4.0)])
@pytest.mark.parametrize("size", [(64, 48), (101, 57), (1, 1)])
def test_round_trip(tmp_path: Path, suffix: str, limit: float, size: tuple[int, int]) -> None:
    pattern = tmp_path / "frames" / f"%05d.{suffix}"
    write(pattern, 4, size)
    assert sorted(os.listdir(pattern.parent)) == [f"{number:05d}.{suffix}" for number in range(1, 5)]
    source = open_source(str(pattern))
    opened = source.open()
    assert (opened.width, opened.height, opened.frames, opened.rate) == (*size, 4, RATE)
    for index in range(4):
        read = source.read()
        assert read is not None and read.time_s == pytest.approx(index / RATE)
        assert np.abs(read.image.astype(float) - frame(index, size).image).mean() <= limit
    assert source.read() is None
    source.close()


def test_sequence_that_starts_late_and_has_a_gap(tmp_path: Path) -> None:
    write(tmp_path / "p%d.png", 12)
    for number in (1, 2, 3, 4, 5, 6, 10):
        (tmp_path / f"p{number}.png").unlink()
    assert sequence_numbers(str(tmp_path / "p%d.png")) == [7, 8, 9, 11, 12]
    source = open_source(str(tmp_path / "p%d.png"))
    assert source.open().frames == 3
    first = source.read()
    assert first is not None and np.array_equal(first.image, frame(6).image)
    assert [source.read() is None for _ in range(3)] == [False, False, True]
    assert "gaps" in source.warnings[0]  # type: ignore[attr-defined]


def test_existing_pictures_are_kept(tmp_path: Path) -> None:
    (tmp_path / "00007.png").write_bytes(b"precious")
    with pytest.raises(SinkError, match=r"00007\.png exists: use --overwrite"):
        write(tmp_path / "%05d.png", 2)
    assert os.listdir(tmp_path) == ["00007.png"]
    write(tmp_path / "%05d.png", 2, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["00001.png", "00002.png"]  # the sequence was replaced


def test_abort_removes_what_this_run_wrote(tmp_path: Path) -> None:
    sink = ImageSequenceSink(str(tmp_path / "new" / "deep" / "%03d.png"))
    sink.open(info())
    sink.write(frame(0))
    sink.write(frame(1))
    assert len(os.listdir(tmp_path / "new" / "deep")) == 2
    sink.abort()
    sink.abort()
    assert os.listdir(tmp_path) == []


def test_abort_after_close_keeps_the_pictures(tmp_path: Path) -> None:
    sink = ImageSequenceSink(str(tmp_path / "%03d.png"))
    sink.open(info())
    sink.write(frame(0))
    sink.close()
    sink.abort()
    sink.close()
    assert os.listdir(tmp_path) == ["001.png"]


def test_other_files_stay(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    (tmp_path / "x00001.png").write_bytes(b"mine")
    sink = ImageSequenceSink(str(tmp_path / "%05d.png"), overwrite=True)
    sink.open(info())
    sink.write(frame(0))
    sink.abort()
    assert sorted(os.listdir(tmp_path)) == ["note.txt", "x00001.png"]


def test_a_picture_of_another_size(tmp_path: Path) -> None:
    sink = ImageSequenceSink(str(tmp_path / "%05d.png"))
    sink.open(info())
    sink.write(frame(0))
    with pytest.raises(SinkError, match="must be 64x48, got 64x50"):
        sink.write(frame(1, (64, 50)))
    sink.abort()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SinkError, match="cannot make the folder"):
        write(tmp_path / "file" / "%05d.png", 1)


@pytest.mark.parametrize("name", ["a.png", "%s.png", "%d-%d.png", "%d/%d%%.png", "%5d.png", "50%.png"])
def test_patterns_without_one_number(name: str) -> None:
    assert not is_sequence(name)
    with pytest.raises(ConfigError, match="must hold one number such as %05d"):
        ImageSequenceSink(name)
