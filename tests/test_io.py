"""Which source and which sink a name stands for; files and pictures are tested in their own files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamsr.errors import ConfigError
from streamsr.io import open_sink, open_source
from streamsr.io.camera import CameraSource
from streamsr.io.file import FileSource
from streamsr.io.file_sink import FileSink
from streamsr.io.images import ImageSequenceSink
from streamsr.io.rtsp import RtspSource
from streamsr.io.rtsp_sink import RtspSink


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("clip.mp4", FileSource),
        ("frames/%05d.png", FileSource),
        ("odd:name.mkv", FileSource),
        ("camera:0", CameraSource),
        ("/dev/video1", CameraSource),
        ("rtsp://host/camera", RtspSource),
        ("RTSP://user:secret@host/camera", RtspSource),
    ],
)
def test_sources(url: str, kind: type) -> None:
    source = open_source(url)
    assert type(source) is kind
    assert "secret" not in source.url
    source.close()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("out.mp4", FileSink),
        ("OUT.MKV", FileSink),
        ("frames/%05d.png", ImageSequenceSink),
        ("frames/%d.JPG", ImageSequenceSink),
        ("rtsp://user:secret@host/out", RtspSink),
    ],
)
def test_sinks(url: str, kind: type) -> None:
    sink = open_sink(url)
    assert type(sink) is kind
    assert "secret" not in sink.url
    sink.abort()


def test_a_single_picture_needs_a_number() -> None:
    with pytest.raises(ConfigError, match="one number such as %05d"):
        open_sink("out.png")


def test_nothing_is_made_before_open(tmp_path: Path) -> None:
    open_sink(str(tmp_path / "a.mp4"))
    open_sink(str(tmp_path / "frames" / "%05d.png"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "module", ["streamsr.io.file", "streamsr.io.file_sink", "streamsr.io.images", "streamsr.io"]
)
def test_no_torch_and_no_early_av(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules, 'av' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["False", str(module != "streamsr.io")]
