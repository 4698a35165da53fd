"""``streamsr enhance`` on files, from the command line to the last byte, with the packaged weights."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from commands import enhance, report_of
from helpers import MemorySink, MemorySource, nothing_left
from media import COUNT, FACE_PX, audio_packets, moving_portrait, read_all, times, write_video
from test_io_colour import COLOURS, chart, error, write_chart

from streamsr import Enhancer
from streamsr.face.background import Background
from streamsr.frame import Colour, Frame
from streamsr.model import weights
from streamsr.pipeline import Pipeline
from streamsr.report import Outcome

pytest_plugins = ["shared_fixtures"]
pytestmark = pytest.mark.usefixtures("no_thread_and_no_process")


@pytest.fixture(scope="module")
def enhancer() -> Enhancer:
    return Enhancer(device="cpu")


@pytest.fixture(scope="module")
def face_film(face_clip: Path) -> Path:
    """``face_clip`` enhanced, without loss; its report is beside it."""
    film = face_clip.with_name("film.mkv")
    assert enhance(face_clip, film, "--codec", "ffv1", "--report", film.with_suffix(".json")) == 0
    return film


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
    assert (document["device"], document["engine"]) == ("cpu", "openvino")
    assert document["model_sha256"] == weights.sha256_of(weights.packaged_path())
    assert {"streamsr", "torch", "av", "mediapipe"} <= document["versions"].keys()
    assert (document["status"], document["error"], document["warnings"]) == ("done", None, [])

    for before, after in zip(read_all(face_clip), read_all(face_film), strict=True):
        untouched = Background(2).enlarge(before.image).astype(int)
        change = np.abs(untouched - after.image).mean(axis=2)
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
    peak_kib = _peak_kib(process)
    assert (process.returncode, process.communicate()[1]) == (0, "")
    assert time.monotonic() - began < 40
    assert 0.2 * 2**20 < peak_kib < 2.5 * 2**20  # the picture itself has 0.19 GiB
    with av.open(str(out / "a.mp4")) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (8192, 8192)


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


def test_a_report_into_a_device_is_written_there(clip: Path, tmp_path: Path, out: Path) -> None:
    """/dev/null must still be /dev/null."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = subprocess.Popen(["cat", str(fifo)], stdout=subprocess.PIPE, text=True)
    assert enhance(clip, out / "a.mp4", "--report", fifo) == 0
    assert json.loads(reader.communicate(timeout=30)[0])["frames_out"] == 12
    assert fifo.is_fifo()
    assert list(out.iterdir()) == [out / "a.mp4"]


# -- ends that come early


def _peak_kib(process: subprocess.Popen[str]) -> int:
    """The most memory it held, once it has ended. (What wait4 tells is at least what this process holds.)"""
    peak_kib = 0
    while process.poll() is None:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        peak_kib = max([peak_kib, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))])
        time.sleep(0.02)
    return peak_kib


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
