"""Codecs of GPUs: probed with a picture; one that does not work is refused, and says why."""

from __future__ import annotations

from pathlib import Path

import av.logging
import pytest
from av.codec.hwaccel import HWAccel, hwdevices_available
from media import write_video

from streamsr.errors import ConfigError, DecodeError
from streamsr.io import open_source
from streamsr.io.file import FileSource
from streamsr.io.file_sink import FileSink
from streamsr.io.hardware import DEVICES, ENCODERS, accelerator, decoding_fails, encoding_fails
from streamsr.io.rtsp import RtspSource
from streamsr.io.rtsp_sink import RtspSink

WORKING = [device for device in DEVICES if not decoding_fails(device)]
REFUSED = [device for device in DEVICES if device not in WORKING]
NO_ENCODER = [name for name in ENCODERS if encoding_fails(name)]

refused = pytest.mark.skipif(not REFUSED, reason="all of them work here")
without_encoders = pytest.mark.skipif(not NO_ENCODER, reason="all of them work here")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    write_video(path, size=(320, 256))
    return path


def _pictures(source: FileSource) -> list[bytes]:
    source.open()
    found = []
    while (frame := source.read()) is not None:
        found.append(frame.image.tobytes())
    source.close()
    return found


def test_a_probe_codes_a_picture() -> None:
    level = av.logging.get_level()
    assert encoding_fails("libx264") == ""
    assert encoding_fails("no_such") == "this build of FFmpeg has no no_such"
    assert decoding_fails("no_such") == "this build of FFmpeg has no no_such"
    assert av.logging.get_level() == level


@pytest.mark.skipif("cuda" not in hwdevices_available(), reason="this FFmpeg has no cuda")
@pytest.mark.skipif("cuda" in WORKING, reason="an NVIDIA GPU is here")
def test_the_reason_is_ffmpegs_own() -> None:
    """Its error number says "operation not permitted"."""
    assert decoding_fails("cuda") == encoding_fails("h264_nvenc")
    assert "cu" in decoding_fails("cuda").lower() and "permitted" not in decoding_fails("cuda")


@refused
@pytest.mark.parametrize("device", REFUSED)
def test_a_device_that_does_not_work_is_refused(clip: Path, device: str) -> None:
    said = f"hwaccel {device} does not work here: {decoding_fails(device)}"
    for make in (
        lambda: FileSource(str(clip), hwaccel=device),
        lambda: RtspSource("rtsp://camera/1", hwaccel=device),
        lambda: open_source(str(clip), hwaccel=device),
    ):
        with pytest.raises(ConfigError) as caught:
            make()
        assert str(caught.value) == said


@without_encoders
@pytest.mark.parametrize("name", NO_ENCODER)
def test_an_encoder_that_does_not_work_is_refused(tmp_path: Path, name: str) -> None:
    said = f"codec {name} does not work here: {encoding_fails(name)}"
    with pytest.raises(ConfigError) as caught:
        FileSink(str(tmp_path / "out.mp4"), codec=name)
    assert str(caught.value) == said
    if name == "h264_nvenc":
        with pytest.raises(ConfigError) as caught:
            RtspSink("rtsp://server/1", codec=name)
        assert str(caught.value) == said


def test_auto_takes_what_works_and_else_the_cpu(clip: Path) -> None:
    assert accelerator("none") is None
    assert (accelerator("auto") is None) is not bool(WORKING)
    assert len(_pictures(FileSource(str(clip), hwaccel="auto"))) == 10
    if not WORKING:
        assert _pictures(FileSource(str(clip), hwaccel="auto")) == _pictures(FileSource(str(clip)))


def test_other_names_are_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"hwaccel must be none, auto, cuda or vaapi, got 'dxva2'"):
        FileSource(str(clip), hwaccel="dxva2")
    with pytest.raises(ConfigError, match=r"hwaccel is for files and rtsp://, got camera:0"):
        open_source("camera:0", hwaccel="auto")
    with pytest.raises(ConfigError, match=r"\.avi cannot hold h264_nvenc: write an \.mkv file"):
        FileSink(str(tmp_path / "out.avi"), codec="h264_nvenc")


def test_what_a_chosen_device_cannot_decode_is_never_left_to_the_cpu(clip: Path) -> None:
    """A device that needs no card to be asked: FFmpeg's own H264 decoder has no use for it."""
    useless = next(name for name in hwdevices_available() if "decodes no H264" in decoding_fails(name))
    source = FileSource(str(clip))
    source._hwaccel = HWAccel(useless, allow_software_fallback=False)
    with pytest.raises(DecodeError, match="no stream is compatible"):
        source.open()
