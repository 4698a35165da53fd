"""Frames into a file and out of it again, for the tests of the file sink."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from media import moving_picture

from streamsr.frame import Frame, StreamInfo
from streamsr.io import open_sink, open_source
from streamsr.io.file import FileSource
from streamsr.io.file_sink import FileSink

RATE = Fraction(30)


def frame(
    index: int, pts: int, time_base: Fraction, size: tuple[int, int] = (64, 48), duration: int = 0
) -> Frame:
    return Frame(moving_picture(index, *size), pts, time_base, 0, index=index, duration=duration)


def write(sink: FileSink, frames: list[Frame], rate: Fraction = RATE) -> None:
    sink.open(StreamInfo(frames[0].width, frames[0].height, rate, frames[0].time_base))
    for each in frames:
        sink.write(each)
    sink.close()


def copy(source_path: Path, sink_path: Path, **options) -> None:  # type: ignore[no-untyped-def]
    source = open_source(str(source_path))
    sink = open_sink(str(sink_path), source_url=str(source_path), **options)
    try:
        sink.open(source.open())
        while (each := source.read()) is not None:
            sink.write(each)
        sink.close()
    finally:
        sink.abort()
        source.close()


def read_all(path: Path) -> tuple[StreamInfo, list[Frame]]:
    source = FileSource(str(path))
    info = source.open()
    frames = []
    while (each := source.read()) is not None:
        frames.append(each)
    source.close()
    assert source.warnings == []
    return info, frames
