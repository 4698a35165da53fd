"""The demo: the live path on the embedded sample, and what it leaves behind."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from io import StringIO
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from rich.console import Console

from streamsr import demo
from streamsr.bench.baselines import bicubic
from streamsr.errors import ConfigError, ModelError, SinkError
from streamsr.frame import Frame, StreamInfo
from streamsr.io.synthetic import TIME_BASE
from streamsr.report import FrameReport
from streamsr.side_by_side import FILM_SIZE


class Plain:
    """An enhancer, and its own session, that resizes: what comes out is known to the last bit."""

    device = "cpu"
    engine = None
    warnings = ()
    model_sha256 = None

    def __init__(self, pause_s: float = 0.0, fail_at: int | None = None) -> None:
        self.pause_s, self.fail_at = pause_s, fail_at

    def session(self, *, scale: int, **options: Any) -> Plain:
        self.scale = scale
        return self

    def track(self, frame: Frame) -> Frame:
        return frame

    def restore(self, tracked: Frame, deadline_ns: int | None = None) -> Frame:
        if self.fail_at is not None and tracked.index >= self.fail_at:
            raise ModelError("the network went away")
        time.sleep(self.pause_s)
        return tracked

    def composite(self, tracked: Frame) -> tuple[Frame, FrameReport]:
        return tracked.with_image(bicubic(tracked.image, self.scale)), FrameReport(stage_ms={"net": 1.5})

    def close(self) -> None:
        pass


def silent() -> Console:
    return Console(record=True, width=100, file=StringIO())


def film_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        assert (stream.width, stream.height) == FILM_SIZE
        assert stream.time_base is not None
        return [frame.pts * stream.time_base for frame in film.decode(stream) if frame.pts is not None]


def test_leaves_film_sheet_report_and_table(tmp_path: Path) -> None:
    console = silent()
    out_dir = tmp_path / "deep" / "out"
    report = demo.run(out_dir, seconds=0.8, enhancer=Plain(), console=console)

    assert sorted(path.name for path in out_dir.iterdir()) == ["demo.json", "demo.mp4", "demo.png"]
    assert report.status == "done" and report.live
    assert report.frames_in == 20 == report.frames_out + report.frames_dropped
    assert report.frames_shown == report.frames_out
    assert report.input_px == (256, 256) and report.output_px == (512, 512)
    assert 15 < report.fps < 35
    assert report.age_ms is not None and 0 < report.age_ms.p50 < 1000
    assert {"track", "restore", "net", "encode"} <= set(report.stage_ms)
    assert 0 < report.camera_kbps < report.outgoing_kbps

    assert len(film_times(out_dir / "demo.mp4")) == report.frames_shown
    sheet = cv2.imread(str(out_dir / "demo.png"))
    assert sheet is not None and sheet.shape[1] == 2168

    saved = json.loads((out_dir / "demo.json").read_text())
    assert saved["fps"] == pytest.approx(report.fps)
    assert set(saved["age_ms"]) == {"p50", "p95", "p99"}
    assert set(saved["quality"]["face_out"]) == {"psnr_y_db", "ssim", "haarpsi"}

    text = console.export_text()
    for word in ("fps", "age p50", "age p95", "age p99", "dropped", "restored share", "net", "HaarPSI"):
        assert word in text
    assert f"{report.quality.face_bicubic.psnr_y_db:.2f}" in text
    assert "demo.mp4" in text


def test_out_is_measured_against_its_own_moment_also_after_drops(tmp_path: Path) -> None:
    report = demo.run(tmp_path, seconds=1.6, enhancer=Plain(pause_s=0.1), console=silent())
    assert report.frames_dropped > 5
    assert report.frames_in == 40 == report.frames_out + report.frames_dropped
    # bicubic went in as the output: paired right, the two score the same
    assert report.quality.frame_out == report.quality.frame_bicubic
    assert report.quality.face_out == report.quality.face_bicubic
    assert 25 < report.quality.frame_out.psnr_y_db < 35
    # the film keeps the times of what came out: dropped frames leave gaps
    times = film_times(tmp_path / "demo.mp4")
    steps = np.diff([float(at) for at in times])
    assert len(times) == report.frames_out
    assert steps.max() > 0.07


def test_a_failure_in_the_live_run_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="went away"):
        demo.run(tmp_path, seconds=0.8, enhancer=Plain(fail_at=5), console=silent())
    assert list(tmp_path.iterdir()) == []


def test_runs_again_over_its_own_output(tmp_path: Path) -> None:
    for _ in range(2):
        demo.run(tmp_path, seconds=0.2, enhancer=Plain(), console=silent())
    assert len(list(tmp_path.iterdir())) == 3


def test_overwrites_only_where_allowed(tmp_path: Path) -> None:
    (tmp_path / "demo.png").write_text("mine")
    with pytest.raises(ConfigError, match=r"demo\.png exists"):
        demo.run(tmp_path, seconds=0.4, enhancer=Plain(), console=silent(), overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["demo.png"]
    assert (tmp_path / "demo.png").read_text() == "mine"


@pytest.mark.parametrize("seconds", [0.0, -1.0, 61.0, float("nan")])
def test_seconds_out_of_range(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(ConfigError, match=r"seconds must be in 0\.2\.\.60"):
        demo.run(tmp_path, seconds=seconds, enhancer=Plain(), console=silent())


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot make the folder"):
        demo.run(tmp_path / "file", seconds=0.4, enhancer=Plain(), console=silent())


def test_live_sink_codes_every_frame_and_keeps_the_first() -> None:
    sink = demo.LiveSink(keep=3)
    image = np.zeros((64, 96, 3), np.uint8)
    with pytest.raises(SinkError, match="before open"):
        sink.write(Frame(image, 0, TIME_BASE, 0))
    sink.open(StreamInfo(96, 64, Fraction(25), TIME_BASE))
    for index in range(6):
        image[:] = 40 * index  # the caller's buffer changes; what is kept must not
        sink.write(Frame(image, 3600 * index, TIME_BASE, time.monotonic_ns(), index))
    assert sink.frames == 6 and sink.coded_bytes > 0
    assert [int(one.frame.image[0, 0, 0]) for one in sink.kept] == [0, 40, 80]
    assert all(0 <= one.age_ms < 1000 for one in sink.kept)
    sink.close()
    sink.close()
    sink.abort()


def test_with_the_packaged_weights(tmp_path: Path) -> None:
    report = demo.run(tmp_path, seconds=2.0, device="cpu", console=silent())
    assert report.model_sha256
    assert report.device == "cpu"
    assert report.frames_out > 5
    assert report.faces >= report.frames_out / 2  # the portrait's face is found
    assert report.rungs["restored"] > 0
    assert report.quality.face_out != report.quality.face_bicubic
    assert (tmp_path / "demo.mp4").stat().st_size > 50_000
