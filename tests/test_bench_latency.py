"""The latency benchmark: the crowd before its camera, its rows, and what it refuses."""

from __future__ import annotations

import json
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from streamsr.bench import latency
from streamsr.bench.crowd import Crowd
from streamsr.errors import ConfigError


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("size", [256, 512])
def test_a_face_is_as_large_as_its_size_wants_it(size: int, scale: int) -> None:
    from streamsr.aligner import choose_size
    from streamsr.face.alignment import native_side
    from streamsr.face.tracker import MediaPipeTracker

    tracker = MediaPipeTracker()
    found = [
        choose_size(native_side(face.matrix) * scale, None, (256, 512))
        for k, picture in enumerate(islice(Crowd(1, size, (1280, 720), scale).pictures(), 0, 150, 10))
        for face in tracker.track(picture, 0.4 * k)
    ]
    tracker.close()
    assert len(found) >= 14 and set(found) == {size}


def test_everybody_in_a_crowd_is_found_and_moves() -> None:
    from streamsr.face.tracker import MediaPipeTracker

    tracker = MediaPipeTracker(max_faces=12)
    pictures = list(islice(Crowd(12, 256, (1280, 720), 2).pictures(), 40))
    seen = [len(tracker.track(picture, k / 25)) for k, picture in enumerate(pictures)]
    tracker.close()
    assert seen[-1] == 12
    assert all((before != after).any() for before, after in pairwise(pictures))
    faces = np.split(pictures[0][70:652, 150:1130], 2)
    assert (faces[0] != faces[1]).any()  # each at a moment of its own


def test_too_many_faces_for_a_picture_are_refused() -> None:
    Crowd(3, 512, (640, 360), 2).pictures()
    with pytest.raises(ConfigError, match="4 faces of S = 512 do not fit into 640x360 at scale 2, 3 do"):
        Crowd(4, 512, (640, 360), 2).pictures()


def test_a_row_for_each_combination(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines, page = tmp_path / "rows.jsonl", tmp_path / "report.html"
    options = ["--sizes=256", "--steps=1,2", "--faces=1,2", "--batches=1,3", "--frames=4", "--runs=2"]
    options += ["--device=cpu", "--jsonl", str(lines), "--html", str(page)]
    assert latency.main(options) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(row["faces"], row["steps"]) for row in found["rows"]] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for row in found["rows"]:
        assert row["engine"] == "openvino"
        assert row["n"] == 4 and row["input_px"] == "640x360" and row["restored_share"] == 1
        assert row["faces_seen"] == row["faces"] and row["sizes_seen"] == {"256": 4 * row["faces"]}
        assert row["nfe"] == row["steps"]
        for name in ("track", "align", "guide", "net", "composite", "frame"):
            assert 0 <= row[f"{name}_p50_ms"] <= row[f"{name}_p95_ms"] <= row[f"{name}_p99_ms"]
        assert row["frame_p99_ms"] > row["net_p50_ms"] + row["track_p50_ms"] > 0
    network = found["network"]
    assert [(row["batch"], row["steps"]) for row in network] == [(1, 1), (1, 2), (3, 1), (3, 2)]
    for row in network:
        assert row["engine"] == "openvino"
        assert row["guide_p50_ms"] > 0 and 0 < row["restore_p50_ms"] <= row["restore_p99_ms"]
        assert row["faces_per_s"] == pytest.approx(1e3 * row["batch"] / row["queued_ms"], rel=1e-3)
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [line.get("table") for line in written] == ["network"] * 4 + [None] * 4
    assert all(line["commit"] == found["commit"] and "network" not in line for line in written)
    text = page.read_text()
    assert text.count("<figure>") == 4  # two of stages, growth by faces, by batch
    assert "S = 256, 2 steps" in text and "A frame by faces in the picture" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--sizes", "300"], "--sizes must be of (256, 512)"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--inputs", "640"], "--inputs must be WIDTHxHEIGHT, got '640'"),
        (["--inputs", "0x360"], "--inputs must be WIDTHxHEIGHT, got '0x360'"),
        (["--on-device", "--device", "cpu"], "--on-device is for a GPU"),
        (["--engine", "inductor", "--device", "cpu"], "engine must be auto or openvino on cpu, got inductor"),
        (["--frames", "1"], "--frames and --runs must be at least 2"),
        (["--faces", "40"], "40 faces of S = 256 do not fit into 640x360"),
        (["--html", "/nowhere/report.html"], "cannot write /nowhere/report.html: no folder /nowhere"),
    ],
)
def test_refusals(options: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert latency.main(options) == 2
    assert words in capsys.readouterr().err


class _Model:
    """Asked for the third time, it has what ``ends`` says."""

    engine = "inductor"  # of what was asked for before

    def __init__(self, **ends: object) -> None:
        self.warnings, self.asked, self._ends = [], 0, ends

    def ask(self) -> None:
        self.asked += 1
        self.engine = "eager and inductor"
        if self.asked == 3:
            vars(self).update(self._ends)


@pytest.mark.parametrize(
    ("engine", "ends", "asked"),
    [
        ("inductor", {"engine": "inductor"}, 3),
        ("tensorrt", {"warnings": ["out of workspace"]}, 3),
        ("eager", {}, 0),
        ("auto", {}, 0),
    ],
)
def test_an_engine_that_is_compiled_is_waited_for(
    engine: str, ends: dict[str, object], asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "ASK_S", 0.0)
    model = _Model(**ends)
    latency.until_it_serves(model, engine, model.ask)  # type: ignore[arg-type]
    assert model.asked == asked


@pytest.mark.cuda
def test_on_a_gpu_a_batch_is_worth_it() -> None:
    head, rows = latency.run([256, 512], [1], batches=[1, 8], frames=10, runs=10, device="cuda")
    assert all(row["restored_share"] == 1 for row in rows)
    for one, eight in zip(head["network"][::2], head["network"][1::2], strict=True):
        assert 0 < one["queued_ms"] < 1.2 * one["restore_p50_ms"]
        assert eight["faces_per_s"] > 2 * one["faces_per_s"]
    _, there = latency.run([256, 512], [1], batches=[1], frames=10, runs=2, on_device=True, device="cuda")
    for host, device in zip(rows, there, strict=True):
        assert device["restored_share"] == 1 and 0 < device["frame_p50_ms"] < 1.1 * host["frame_p50_ms"]
