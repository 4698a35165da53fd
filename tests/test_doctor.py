"""The doctor's rows against this machine, and against machines with something broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from streamsr import doctor
from streamsr.cli import main
from streamsr.model import weights
from streamsr.model.openvino_engine import OpenVinoEngine


@pytest.fixture(scope="module")
def rows() -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine()}


def test_the_core_works_here(rows: dict[str, doctor.Check]) -> None:
    assert [(row.name, row.found) for row in rows.values() if row.required and not row.ok] == []


@pytest.mark.parametrize(
    "name",
    [
        *(
            "python",
            "cores",
            "torch",
            "device",
            "bf16",
            "openvino",
            "av",
            "H264 encode",
            "H264 decode",
            "HEVC decode",
        ),
        *("cuda decode", "vaapi decode", "h264_nvenc encode", "hevc_nvenc encode", "h264_v4l2m2m encode"),
        *("VP8 encode", "FFV1 encode", "MJPEG decode", "opencv", "mediapipe", "mediapipe models"),
        *(
            "aiortc",
            "aiohttp",
            "cupy",
            "torch-tensorrt",
            "tcp ports",
            "udp ports",
            "ice addresses",
            "gstreamer rtsp server",
        ),
    ],
)
def test_has_row(rows: dict[str, doctor.Check], name: str) -> None:
    assert rows[name].found


def test_a_fix_stands_exactly_where_something_is_missing(rows: dict[str, doctor.Check]) -> None:
    for row in rows.values():
        assert bool(row.fix) is not row.ok, row
        assert "\n" not in row.found + row.fix


def test_bf16_figures_are_measured(rows: dict[str, doctor.Check]) -> None:
    found = re.fullmatch(
        r"([\d.]+)x the speed of float32 on the cpu \(([\d.]+) ms, ([\d.]+) ms\)", rows["bf16"].found
    )
    assert found
    ratio, half_ms, plain_ms = map(float, found.groups())
    assert ratio == pytest.approx(plain_ms / half_ms, rel=0.1, abs=0.06)


def test_json_and_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["doctor", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert status == (0 if document["ok"] else 2)
    for row in document["checks"]:
        assert row.keys() == {"name", "status", "found", "fix", "required"}
        assert row["status"] in ("ok", "missing")
    assert document["ok"] is all(row["status"] == "ok" for row in document["checks"] if row["required"])


def test_table_says_what_is_missing_and_the_fix(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    assert main(["doctor"]) == 2
    out = capsys.readouterr().out
    assert "missing av" in out
    assert "fix: pip install 'av>=17,<19'" in out
    assert out.splitlines()[-1] == "the core does not work: av"


def test_missing_extra_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    rows = list(doctor._extras())
    fix = "pip install 'streamsr[cuda]' (only with an NVIDIA GPU)"
    assert rows[0] == doctor.Check("cupy", False, "not installed (cupy)", fix)
    assert doctor.core_works(rows)


def test_opencv_without_libgl(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text('raise ImportError("libGL.so.1: cannot open shared object file")\n')
    code = (
        "from streamsr import doctor; row = next(doctor._faces());"
        "print(row.ok, row.found, row.fix, sep=chr(10))"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    ok, found, fix = done.stdout.splitlines()
    assert (ok, found) == ("False", "ImportError: libGL.so.1: cannot open shared object file")
    assert "opencv-contrib-python-headless==" in fix


def test_the_precision_of_the_packaged_weights_on_this_processor() -> None:
    (row,) = doctor._openvino()
    assert row.found.endswith(f", in {OpenVinoEngine(weights.load_weights(), 1).precision}")


def test_altered_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = shutil.copytree(weights.PACKAGED, tmp_path / "packaged")
    file = next(packaged.glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    monkeypatch.setattr(weights, "PACKAGED", packaged)
    altered = [row for row in doctor._weights() if not row.ok]
    assert len(altered) == 1
    assert f"weights altered: {file.name}" in altered[0].found
    assert altered[0].required


def test_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "MANIFEST", tmp_path / "manifest.json")
    (row,) = doctor._weights()
    assert not row.ok
    assert row.required


def test_codec_that_ffmpeg_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CODECS", (("XYZ decode", "xyz", "r", True),))
    _, row = doctor._media()
    assert (row.ok, row.required) == (False, True)
    assert "xyz" in row.fix


def test_rtp_pair_is_free_again() -> None:
    low = doctor._rtp_pair()
    assert low % 2 == 0
    for port in (low, low + 1):
        with socket.socket(type=socket.SOCK_DGRAM) as probe:
            probe.bind(("127.0.0.1", port))
