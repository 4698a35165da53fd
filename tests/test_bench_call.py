"""streamsr bench call: its marker, its scene, and a whole run of three processes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from media import moving_portrait

from streamsr.bench.call import COLUMNS, main
from streamsr.bench.call_figures import Taken, figures
from streamsr.bench.call_marker import PERIOD_MS, STRIP_PX, draw_marker, read_marker
from streamsr.bench.call_quality import measured
from streamsr.bench.call_scene import CAMERA_PX, FRAMES, TRUTH_PX, CallScene, place
from streamsr.errors import ConfigError

# -- the marker ---------------------------------------------------------------------------------------


def luma() -> np.ndarray:
    return np.ascontiguousarray(moving_portrait(0, *CAMERA_PX)[..., 1])


@pytest.mark.parametrize("ms", [0, 1, 12_345, PERIOD_MS - 1, PERIOD_MS, 987_654_321])
@pytest.mark.parametrize("flash", [False, True])
def test_the_marker_is_read_as_it_was_drawn(ms: int, flash: bool) -> None:
    picture = luma()
    draw_marker(picture, ms, flash)
    assert read_marker(picture, 1) == (ms % PERIOD_MS, flash)


def test_the_marker_survives_a_bad_codec_and_enlargement() -> None:
    for ms in range(0, PERIOD_MS, 997):
        picture = luma()
        draw_marker(picture, ms, False)
        _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 10])
        large = cv2.resize(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), TRUTH_PX, interpolation=cv2.INTER_CUBIC)
        assert read_marker(large, 2) == (ms, False)


def test_a_marker_that_is_not_sure_is_not_read() -> None:
    assert read_marker(np.full(CAMERA_PX[::-1], 127, np.uint8), 1) is None
    picture = luma()
    draw_marker(picture, 1, False)
    later = luma()
    draw_marker(later, 2, False)
    later[:, :40] = picture[:, :40]  # one square of another picture: the parity tells
    assert read_marker(later, 1) is None


def test_two_moments_that_are_blended_are_never_a_third() -> None:
    before, after = luma(), luma()
    draw_marker(before, 1000, False)
    draw_marker(after, 1001, False)
    for share in (0.2, 0.5, 0.8):
        mixed = cv2.addWeighted(before, 1 - share, after, share, 0)
        assert read_marker(mixed, 1) in (None, (1000, False), (1001, False))


# -- the scene ----------------------------------------------------------------------------------------


def test_the_packaged_scene() -> None:
    truth = next(CallScene.of(None).truth())
    assert truth.shape == (*TRUTH_PX[::-1], 3) and truth.dtype == np.uint8
    assert [place(index, 4) for index in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert max(place(index, FRAMES) for index in range(1000)) == FRAMES - 1
    assert STRIP_PX[0] < CAMERA_PX[0]


def test_a_folder_without_the_clip(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--data must hold clips/"):
        CallScene.of(tmp_path)


# -- a run --------------------------------------------------------------------------------------------


def test_refusals(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--seconds", "1"]) == 2
    assert "seconds must be at least 6" in capsys.readouterr().err
    assert main(["--seconds", "6", "--weights", str(tmp_path / "none.safetensors")]) == 2  # a process's
    assert "none.safetensors" in capsys.readouterr().err


def test_a_call_in_which_nothing_came_is_said(tmp_path: Path) -> None:
    call = Taken({}, {"shown": []}, {"frames": []}, tmp_path / "none.npz")
    with pytest.raises(ConfigError, match="no picture reached the viewer"):
        measured(CallScene.of(None), {"enhanced": call})
    with pytest.raises(ConfigError, match="only 0 of 0 pictures"):
        figures(call, 7.0)


@pytest.mark.soak
def test_a_call_is_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it says of a call; bounds are wide, the figures are in the README."""
    assert main(["--seconds", "7", "--codec", "h264", "--json"]) == 0
    line = capsys.readouterr().out
    figures: dict[str, Any] = json.loads(line)
    assert line.count("\n") == 1
    enhanced, relayed = figures["rows"]
    assert [row["call"] for row in figures["rows"]] == ["enhanced", "relayed"]
    assert all(name in enhanced for name in COLUMNS)
    assert 22 < relayed["fps"] < 27 and 5 < figures["fps"] < 27
    assert 0 < relayed["glass_to_glass_ms"]["p50"] < figures["glass_to_glass_ms"]["p50"] < 1000
    assert figures["added_ms"]["p50"] < figures["glass_to_glass_ms"]["p50"]
    assert sum(figures["split_ms"].values()) == pytest.approx(figures["glass_to_glass_ms"]["p50"], abs=0.5)
    assert enhanced["unread"] + relayed["unread"] <= 2
    assert 0 < figures["restored_share"] <= 1 and enhanced["rungs"]["restored"] > 0
    assert abs(relayed["lip_sync_ms"]) < 60 and figures["lip_sync_ms"] is not None
    for row in figures["rows"]:
        assert 30 < row["psnr_y"] < 60 and 0.5 < row["face_haarpsi"] <= 1 and row["measured"] >= 5

    spec = importlib.util.spec_from_file_location(
        "latency", Path(__file__).parents[1] / "demos" / "latency.py"
    )
    assert spec is not None and spec.loader is not None
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    monkeypatch.setattr(demo, "run", lambda seconds: (figures, figures["rows"]))  # not once more
    demo.main(7.0)
    assert f"{figures['glass_to_glass_ms']['p50']:.1f} ms glass to glass" in capsys.readouterr().out


@pytest.mark.soak
def test_a_call_is_as_quick_as_promised(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds", "15", "--codec", "h264", "--json"]) == 0
    figures: dict[str, Any] = json.loads(capsys.readouterr().out)
    relayed = figures["rows"][1]
    assert figures["fps"] >= 20 and figures["restored_share"] >= 0.9
    assert figures["glass_to_glass_ms"]["p50"] < 200 and figures["glass_to_glass_ms"]["p95"] < 300
    assert figures["added_ms"]["p95"] < 80
    assert abs(figures["lip_sync_ms"]) < 40 and abs(relayed["lip_sync_ms"]) < 40
