"""streamsr bench watch and watch_quality: whole runs of ``streamsr watch`` on small clips."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from media import moving_portrait, write_video

from streamsr.bench import watch, watch_quality

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "clips").mkdir()
    for name in ("scene_a", "talk_a"):
        clip = folder / "clips" / f"{name}.mp4"
        write_video(clip, count=12, size=(512, 288), rate=Fraction(25), picture_of=moving_portrait)
    return folder


def test_a_camera_with_a_face_and_one_without(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--cameras", "2", "--rate", "5", "--seconds", "5"]
    assert watch.main(["--data", str(data), *options, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert (row["cameras"], row["with_face"], row["streaming"], row["restarts"]) == (2, 1, 2, 0)
    assert 0 < row["fps_least"] <= row["fps_mean"] < 7
    faces = sum(row["rungs"].values())
    assert 0 < faces < 40, "only one of the cameras shows a face"
    assert row["rss_mb"] > 300 and 0 < row["cpu_share"] <= 1.1


def test_more_faces_than_cameras(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch.main(["--data", str(data), "--cameras", "1", "--with-face", "2"]) == 2
    assert capsys.readouterr().err == (
        "streamsr bench watch: --with-face must be in 0..--cameras, got 2 of 1\n"
    )


@pytest.mark.soak
def test_watch_gives_what_enhance_gives(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch_quality.main(["--data", str(data), "--conditions", "call", "--frames", "6", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    score = {row["method"]: row["face_psnr_y"] for row in rows}
    assert set(score) == {"bicubic", "enhance", "watch"}
    assert score["watch"] == pytest.approx(score["enhance"], abs=0.1)
    assert abs(score["watch"] - score["bicubic"]) > 0.02, "something was done"
