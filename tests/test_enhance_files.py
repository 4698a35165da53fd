"""``streamsr enhance`` on files, from the command line to the last byte, with the packaged weights."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from commands import enhance, report_of
from helpers import MemorySink, MemorySource, nothing_left, owned_threads
from media import audio_packets, moving_portrait, tone, write_video
from test_io_colour import COLOURS, chart, error, write_chart

from streamsr import Enhancer
from streamsr.frame import Colour, Frame
from streamsr.io.file import FileSource
from streamsr.model import weights
from streamsr.pipeline import Pipeline
from streamsr.report import Outcome

FACE_PX, COUNT = (160, 120), 16  # of the clip with a face


@pytest.fixture(autouse=True)
def no_thread_and_no_process() -> Iterator[None]:
    threads = set(threading.enumerate())
    yield
    assert owned_threads() == set()
    assert set(threading.enumerate()) - threads == set()
    assert _children() == []


def _children() -> list[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    return [child for task in tasks for child in task.read_text().split()]


@pytest.fixture(scope="module")
def enhancer() -> Enhancer:
    return Enhancer(device="cpu")


@pytest.fixture(scope="module")
def face_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("face") / "face.mp4"
    write_video(path, count=COUNT, size=FACE_PX, picture_of=moving_portrait, options={"crf": "20"})
    return path


@pytest.fixture(scope="module")
def face_film(face_clip: Path) -> Path:
    """``face_clip`` enhanced, without loss; its report is beside it."""
    film = face_clip.with_name("film.mkv")
    assert enhance(face_clip, film, "--codec", "ffv1", "--report", film.with_suffix(".json")) == 0
    return film


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Without a face, in a folder of its own."""
    path = tmp_path / "clip" / "in.mp4"
    path.parent.mkdir()
    write_video(path, count=12, size=(64, 48))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder: whatever is left behind is seen in it."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def read_all(path: Path) -> list[Frame]:
    source = FileSource(str(path))
    source.open()
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def times(path: Path) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in read_all(path)]


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    return stderr


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
    ("suffix", "muxing", "says"),
    [
        ("mkv", {}, "are missing"),
        ("mp4", {"movflags": "faststart"}, "its last picture is incomplete"),
        ("avi", {}, "its last picture is incomplete"),
    ],
)
def test_what_is_left_of_a_truncated_file_is_delivered_and_said(
    suffix: str, muxing: dict[str, str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output, report = tmp_path / f"a.{suffix}", tmp_path / "out.mp4", tmp_path / "report.json"
    write_video(source, count=60, size=(160, 120), options={"g": "10"}, container_options=muxing)
    source.write_bytes(source.read_bytes()[: int(0.6 * source.stat().st_size)])
    assert enhance(source, output, "--report", report) == 0
    stdout, stderr = capsys.readouterr()
    document = report_of(report)
    assert document["status"] == "done"
    assert 20 < document["frames_out"] < 50
    assert len(times(output)) == document["frames_out"] == document["frames_in"]
    assert stdout.startswith(f"{output}: {document['frames_out']} frames of 320x240, ")
    assert says in document["warnings"][0] and source.name in document["warnings"][0]
    assert stderr == "".join(f"warning: {line}\n" for line in document["warnings"])


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


def test_a_report_into_a_device_is_written_there(clip: Path, tmp_path: Path, out: Path) -> None:
    """/dev/null must still be /dev/null."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE, text=True)
    assert enhance(clip, out / "a.mp4", "--report", fifo) == 0
    assert json.loads(reader.communicate(timeout=30)[0])["frames_out"] == 12
    assert fifo.is_fifo()
    assert list(out.iterdir()) == [out / "a.mp4"]


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
    ("options", "says"),
    [
        (["--codec", "ffv1"], ".mp4 cannot hold ffv1: write an .mkv file"),
        (["--scale", "3"], "'--scale'"),
        (["--steps", "none"], "'none' is neither 'auto' nor in 1..64"),
        (["--fidelity", "2"], "'--fidelity'"),
        (["--crf", "99"], "'--crf'"),
        (["--device", "npu"], "'--device'"),
    ],
)
def test_options_that_cannot_be(
    clip: Path, out: Path, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert enhance(clip, out / "a.mp4", *options) == 2
    assert says in error_line(capsys)
    assert list(out.iterdir()) == []


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"cannot mount a tmpfs: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


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


# -- weights and devices


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


# -- what comes out


def test_a_face_is_restored_and_the_report_says_so(face_clip: Path, face_film: Path) -> None:
    document = report_of(face_film.with_suffix(".json"))
    assert document["restored_share"] == document["restored_share_due"] == 1.0
    assert document["rungs"]["restored"] == sum(document["rungs"].values()) == COUNT
    assert document["rungs"].keys() == set(Outcome)
    assert document["frames_total"] == document["frames_in"] == document["frames_out"] == COUNT
    assert (document["frames_dropped"], document["faces"], document["faces_max"]) == (0, COUNT, 1)
    assert (document["input_px"], document["output_px"]) == ([160, 120], [320, 240])
    assert document["nfe"] == {"1": COUNT}
    assert 0 < document["t0_mean"] < 1
    assert 0 < document["certificate_rms"] <= document["certificate_rms_before"] < 20
    assert document["certificate_rms"] < document["certificate_max"] <= 255
    assert document["fps"] == pytest.approx(COUNT / document["elapsed_s"])
    stages = {"decode", "track", "restore", "align", "guide", "net", "composite", "encode"}
    assert document["stage_ms"].keys() == stages
    for figures in (document["age_ms"], *document["stage_ms"].values()):
        assert 0 < figures["p50"] <= figures["p95"] <= figures["p99"] < 60_000
    assert document["device"] == "cpu"
    assert document["model_sha256"] == weights.sha256_of(weights.packaged_path())
    assert {"streamsr", "torch", "av", "mediapipe"} <= document["versions"].keys()
    assert (document["status"], document["error"], document["warnings"]) == ("done", None, [])

    for before, after in zip(read_all(face_clip), read_all(face_film), strict=True):
        bicubic = cv2.resize(before.image, (320, 240), interpolation=cv2.INTER_CUBIC).astype(int)
        change = np.abs(bicubic - after.image).mean(axis=2)
        assert change[20:110, 110:210].mean() > 0.1  # the face
        assert change[180:].max() == 0  # and not the rest


def test_every_frame_keeps_its_time_and_the_audio_its_bytes(tmp_path: Path) -> None:
    source, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
    pts = [0, 1001, 2002, 2003, 9009, 9010, 20020, 21021, 40040, 41041]  # of 1/30000 s
    write_video(source, pts=pts, size=(101, 75), rate=Fraction(30000, 1001), time_base=Fraction(1, 30000),
                pixel_format="yuv444p", audio="aac")  # fmt: skip
    assert enhance(source, output) == 0
    assert times(output) == times(source) == [Fraction(time, 30000) for time in pts]
    assert audio_packets(output) == audio_packets(source) != []
    assert read_all(output)[0].image.shape == (150, 202, 3)


@pytest.mark.parametrize(
    "colour", COLOURS[:4], ids=lambda colour: f"{colour.matrix.value}-{colour.range.value}"
)
@pytest.mark.parametrize(("name", "options"), [("a.mkv", ["--codec", "ffv1"]), ("a.mp4", ["--crf", "4"])])
def test_colour_survives_where_there_is_no_face(
    tmp_path: Path, colour: Colour, name: str, options: list[str]
) -> None:
    source, output, report = tmp_path / "in.mp4", tmp_path / name, tmp_path / "report.json"
    write_chart(source, chart(), colour)
    assert enhance(source, output, "--scale", 1, "--report", report, *options) == 0
    assert report_of(report)["faces"] == 0
    pairs = list(zip(read_all(source), read_all(output), strict=True))
    assert len(pairs) == 3
    for before, after in pairs:
        assert error(before.image, after.image) < (1.5 if name == "a.mp4" else 1e-9)


def test_pictures_out_are_those_of_the_film(face_clip: Path, face_film: Path, out: Path) -> None:
    """Also: the same input and seed give the same pictures, another seed gives others."""
    assert enhance(face_clip, out / "frames" / "%05d.png") == 0
    assert enhance(face_clip, out / "other" / "%05d.png", "--seed", 1) == 0
    names = sorted(os.listdir(out / "frames"))
    assert names == [f"{number:05d}.png" for number in range(1, COUNT + 1)]
    for name, frame in zip(names, read_all(face_film), strict=True):
        same, other = (cv2.imread(str(out / folder / name))[..., ::-1] for folder in ("frames", "other"))
        assert np.array_equal(same, frame.image)
        assert not np.array_equal(other, frame.image)


def test_another_size_in_mid_stream(tmp_path: Path) -> None:
    """The output keeps its size; the face is found anew and nothing of the old one is used."""
    source, output, report = tmp_path / "in.h264", tmp_path / "out.mp4", tmp_path / "report.json"
    for part, size in enumerate([(160, 120), (240, 180), (120, 160)]):
        write_video(tmp_path / "part.h264", count=8, size=size, picture_of=moving_portrait)
        with source.open("ab") as file:
            file.write((tmp_path / "part.h264").read_bytes())
        assert part == 0 or source.stat().st_size > (tmp_path / "part.h264").stat().st_size
    assert enhance(source, output, "--report", report) == 0
    document = report_of(report)
    assert (document["frames_in"], document["frames_out"]) == (24, 24)
    assert (document["resolution_changes"], document["cache_resets"]) == (2, 2)
    assert document["rungs"]["restored"] >= 20
    frames = read_all(output)
    assert {frame.image.shape for frame in frames} == {(240, 320, 3)}
    assert frames[-1].image[:, :40].mean() < 3  # the upright pictures stand between bars


@pytest.mark.parametrize(("size", "scale"), [((1, 1), 1), ((1, 1), 8), ((3, 1), 2), ((17, 15), 2)])
def test_tiny_pictures(tmp_path: Path, size: tuple[int, int], scale: int) -> None:
    source = tmp_path / "in.mkv"
    write_video(
        source, count=2, size=size, codec="ffv1", pixel_format="bgr0",
        picture_of=lambda index, width, height: np.full((height, width, 3), 90 + index, np.uint8),
    )  # fmt: skip
    for name, options in (("a.mkv", ["--codec", "ffv1"]), ("a.mp4", [])):
        assert enhance(source, tmp_path / name, "--scale", scale, *options) == 0
        shape = (size[1] * scale, size[0] * scale, 3)
        assert [frame.image.shape for frame in read_all(tmp_path / name)] == [shape] * 2
    assert [int(frame.image.max()) for frame in read_all(tmp_path / "a.mkv")] == [90, 91]


def test_a_huge_picture(tmp_path: Path, out: Path) -> None:
    large = cv2.resize(moving_portrait(0, 512, 512), (8192, 8192), interpolation=cv2.INTER_LINEAR)
    assert cv2.imwrite(str(tmp_path / "00001.jpg"), large[..., ::-1])
    process = _start(tmp_path / "%05d.jpg", out / "a.mp4", "--scale", 1)
    began = time.monotonic()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)  # for Popen, which did not wait itself
    stderr = process.communicate()[1]
    assert (process.returncode, stderr) == (0, "")
    assert time.monotonic() - began < 20
    assert usage.ru_maxrss < 2.5 * 2**20  # KiB; the picture itself has 0.19 GiB
    with av.open(str(out / "a.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (8192, 8192)


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


# -- ends that come early


def _start(source: object, sink: object, *options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "streamsr", "enhance", source, "-o", sink, "--device", "cpu", *options]
    return subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_ctrl_c_leaves_nothing(tmp_path: Path, out: Path) -> None:
    source = tmp_path / "in.mp4"
    write_video(source, count=150, size=FACE_PX, picture_of=moving_portrait, options={"preset": "ultrafast"})
    process = _start(source, out / "a.mp4", "--report", tmp_path / "report.json")
    deadline = time.monotonic() + 60
    while not any(out.iterdir()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (stdout, stderr) == ("", "interrupted by SIGINT: nothing was written\n")
    assert list(out.iterdir()) == []
    document = report_of(tmp_path / "report.json")
    assert (document["status"], document["error"]) == ("cancelled", None)
    assert document["frames_out"] < 150


@pytest.mark.parametrize("delay_s", [0.3, 1.0])
def test_ctrl_c_while_the_model_loads(face_clip: Path, out: Path, delay_s: float) -> None:
    process = _start(face_clip, out / "a.mp4")
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode in (130, -signal.SIGINT)  # the latter before there is a handler
    assert list(out.iterdir()) == []


def test_closed_standard_streams(clip: Path, out: Path) -> None:
    command = f'"{sys.executable}" -m streamsr enhance "{clip}" -o "{out}/a.mp4" >&- 2>&- <&-'
    assert subprocess.run(command, shell=True, check=False).returncode == 0
    assert len(times(out / "a.mp4")) == 12


@pytest.mark.parametrize("moment", range(6))
async def test_cancelled_at_any_moment(face_clip: Path, enhancer: Enhancer, out: Path, moment: int) -> None:
    """From before anything is open to after the last frame: no thread, no half of a file."""
    with nothing_left():
        task = asyncio.create_task(_to_file(face_clip, enhancer, out / "a.mp4"))
        await asyncio.sleep(random.Random(moment).uniform(0.2 * moment, 0.2 * moment + 0.2))
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() or task.exception() is None  # None: it had just been done
        left = os.listdir(out)
        assert left in ([], ["a.mp4"])
        assert not left or len(times(out / "a.mp4")) == COUNT


async def _to_file(source: Path, enhancer: Enhancer, path: Path) -> None:
    async with Pipeline(str(source), str(path), enhancer) as pipeline:
        await pipeline.run()


# -- several streams


async def test_streams_on_one_enhancer_do_not_see_each_other(enhancer: Enhancer) -> None:
    def source(shift: int) -> MemorySource:
        base = Fraction(1, 25)
        size = (160, 120) if shift else (192, 144)
        return MemorySource(
            [
                Frame(moving_portrait(index + shift, *size), index, base, 0, index, 1, index == 0)
                for index in range(10)
            ]
        )

    async def pictures(shift: int, seed: int) -> list[np.ndarray]:
        sink = MemorySink()
        async with Pipeline(source(shift), sink, enhancer, seed=seed) as pipeline:
            report = await pipeline.run()
        assert report.restored_share == 1.0
        assert sink.final is not None
        return [frame.image for frame in sink.final]

    with nothing_left():
        alone = [await pictures(0, 1), await pictures(40, 2)]
        together = await asyncio.gather(pictures(0, 1), pictures(40, 2))
    for first, second in zip(alone, together, strict=True):
        assert len(first) == len(second) == 10
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
