"""``streamsr enhance`` on files that it refuses: one line that says why, status 2, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from commands import enhance, error_line, report_of
from media import times, tone, write_video

from streamsr.model import weights

pytest_plugins = ["shared_fixtures"]
pytestmark = pytest.mark.usefixtures("no_thread_and_no_process")


# -- sources that cannot be read


def _text(folder: Path) -> Path:
    path = folder / "words.mp4"
    path.write_text("these are words\n" * 200)
    return path


def _subtitles(folder: Path) -> Path:
    path = folder / "words.txt"
    path.write_text("these are words\n" * 200)
    return path


def _audio_only(folder: Path) -> Path:
    path = folder / "song.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        for packet in tone(stream, 0.5):
            container.mux(packet)
        container.mux(stream.encode(None))
    return path


def _without_frames(folder: Path) -> Path:
    path = folder / "empty.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    return path


def _without_bytes(folder: Path) -> Path:
    path = folder / "empty.mp4"
    path.touch()
    return path


def _cut_before_its_index(folder: Path) -> Path:
    path = folder / "cut.mp4"
    write_video(path, count=30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (lambda folder: folder / "no.mp4", "no such file: "),
        (lambda folder: folder, "is a directory"),
        (_text, "is not a video"),
        (_subtitles, "is not a video: it holds text"),
        (_audio_only, "is not a video: it holds audio"),
        (_without_frames, "holds no video frames"),
        (_without_bytes, "it is empty (0 bytes)"),
        (_cut_before_its_index, "is cut off before its index"),
    ],
)
def test_a_source_that_is_no_video(  # type: ignore[no-untyped-def]
    made, says: str, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = made(tmp_path)
    assert enhance(source, out / "a.mp4", "--report", tmp_path / "report.json") == 2
    line = error_line(capsys)
    assert says in line and source.name in line
    assert list(out.iterdir()) == []
    document = report_of(tmp_path / "report.json")
    assert (document["status"], document["frames_out"]) == ("failed", 0)
    assert f"error: {document['error']}\n" == line


@pytest.mark.parametrize(
    ("size", "scale", "says"),
    [((8192, 8192), 2, "more than a video can hold"), ((5000, 16), 4, "more than 16384 px")],
)
def test_a_picture_too_huge(
    tmp_path: Path,
    out: Path,
    size: tuple[int, int],
    scale: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cv2.imwrite(str(tmp_path / "00001.jpg"), np.zeros((size[1], size[0], 3), np.uint8))
    assert enhance(tmp_path / "%05d.jpg", out / "a.mp4", "--scale", scale) == 2
    line = error_line(capsys)
    assert says in line and "choose a smaller --scale" in line
    assert list(out.iterdir()) == []


# -- outputs that cannot be written


def test_an_output_that_exists_is_kept_unless_told_otherwise(
    clip: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = out / "mine.mp4"
    mine = os.urandom(5000)
    output.write_bytes(mine)
    assert enhance(clip, output) == 2
    assert f"{output} exists: use --overwrite" in error_line(capsys)
    assert output.read_bytes() == mine
    broken = clip.with_name("broken.mp4")
    broken.write_text("no video")
    assert enhance(broken, output, "--overwrite") == 2  # what fails has not replaced it either
    assert output.read_bytes() == mine
    assert enhance(clip, output, "--overwrite") == 0
    assert len(times(output)) == 12
    assert list(out.iterdir()) == [output]


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_the_source_is_never_the_output(
    clip: Path, options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = clip.read_bytes()
    link = clip.with_name("link.mp4")
    link.symlink_to(clip)
    for name in (clip, link):
        assert enhance(clip, name, *options) == 2
        assert "is the source itself" in error_line(capsys)
    assert clip.read_bytes() == before


@pytest.mark.parametrize("what", ["source", "output"])
def test_the_report_replaces_neither_source_nor_output(
    clip: Path, out: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = clip.read_bytes()
    assert enhance(clip, out / "a.mp4", "--report", clip if what == "source" else out / "a.mp4") == 2
    assert "--report must not be the source or the output" in error_line(capsys)
    assert clip.read_bytes() == before
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no/such/a.mp4", "no such directory"),
        ("a.xyz", "the output must end in .mp4"),
        ("a", "the output must end in .mp4"),
        (".", "the output must end in .mp4"),
        ("folder.mp4", "is a directory"),
        ("a.png", "must hold one number such as %05d"),
        ("/proc/a.mp4", "cannot write /proc/a.mp4"),
    ],
)
def test_an_output_that_cannot_be(
    clip: Path, out: Path, name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name == "folder.mp4":
        (out / name).mkdir()
    before = sorted(out.iterdir())
    assert enhance(clip, out / name) == 2
    assert says in error_line(capsys)
    assert sorted(out.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp4", ["--crf", "0"]), ("a.mkv", ["--codec", "ffv1"]), ("%03d.png", [])],
)
def test_a_full_disk(
    face_clip: Path, tiny_disk: Path, name: str, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert enhance(face_clip, tiny_disk / name, *options) == 2
    assert "No space left on device" in error_line(capsys)
    assert os.listdir(tiny_disk) == []


# -- options, weights and devices


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--codec", "ffv1"], ".mp4 cannot hold ffv1: write an .mkv file"),
        (["--scale", "3"], "'--scale'"),
        (["--steps", "none"], "'none' is neither 'auto' nor in 1..64"),
        (["--fidelity", "2"], "'--fidelity'"),
        (["--crf", "99"], "'--crf'"),
        (["--device", "npu"], "'--device'"),
        (["--device", "cpu", "--engine", "inductor"], "engine must be auto or openvino on cpu, got inductor"),
        (["--hwaccel", "dxva2"], "'--hwaccel'"),
    ],
)
def test_options_that_cannot_be(
    clip: Path, out: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enhance(clip, out / "a.mp4", *options) == 2
    assert says in error_line(capsys)
    assert list(out.iterdir()) == []


def _copied_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = folder / "packaged"
    shutil.copytree(weights.PACKAGED, copy)
    monkeypatch.setattr(weights, "PACKAGED", copy)
    monkeypatch.setattr(weights, "MANIFEST", copy / weights.MANIFEST.name)
    return copy / json.loads((copy / weights.MANIFEST.name).read_text())["M"]["file"]


def test_altered_weights_are_refused(
    clip: Path,
    tmp_path: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = _copied_weights(tmp_path, monkeypatch)
    expected = weights.sha256_of(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert enhance(clip, out / "a.mp4", "--report", tmp_path / "report.json") == 2
    line = error_line(capsys)
    assert f"{path.name} has sha256 {weights.sha256_of(path)}, expected {expected}" in line
    assert list(out.iterdir()) == []
    document = report_of(tmp_path / "report.json")
    assert document["status"] == "failed"
    assert expected in document["error"]


def test_missing_weights_are_named_with_their_sha256(
    clip: Path,
    tmp_path: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = _copied_weights(tmp_path, monkeypatch)
    expected = weights.sha256_of(path)
    path.unlink()
    assert enhance(clip, out / "a.mp4") == 2
    line = error_line(capsys)
    assert path.name in line and expected in line and "reinstall" in line
    assert list(out.iterdir()) == []


def test_cuda_that_is_not_there(
    clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert enhance(clip, out / "a.mp4", "--device", "cuda") == 2
    assert "torch sees no NVIDIA GPU: use --device cpu or auto" in error_line(capsys)
    assert list(out.iterdir()) == []
