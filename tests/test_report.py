from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import BypassEnhancer, MemorySink, MemorySource, make_face, make_frame
from pydantic import ValidationError

from streamsr.pipeline import Pipeline
from streamsr.report import Certificate, FrameReport, Outcome
from streamsr.run_report import MAX_WARNINGS, RunReport, RunTally, versions

PROMISED = {
    "age_ms",
    "bypassed",
    "certificate_max",
    "certificate_rms",
    "device",
    "engine",
    "faces",
    "fps",
    "frames_dropped",
    "frames_in",
    "frames_out",
    "model_sha256",
    "nfe",
    "restored_share",
    "rungs",
    "sink",
    "source",
    "stage_ms",
    "t0_mean",
    "versions",
    "warnings",
}


async def run_report(enhancer: BypassEnhancer, count: int = 4) -> RunReport:
    source = MemorySource([make_frame(index=index) for index in range(count)])
    async with Pipeline(source, MemorySink(), enhancer) as pipeline:
        return await pipeline.run()


async def test_the_json_has_the_promised_keys_and_units() -> None:
    faces = (make_face(Outcome.RESTORED, nfe=2, t0=0.5),)
    document = json.loads((await run_report(BypassEnhancer(faces=faces))).model_dump_json())
    assert set(document) >= PROMISED
    assert set(document["age_ms"]) == {"p50", "p95", "p99"}
    assert all(set(stage) == {"p50", "p95", "p99"} for stage in document["stage_ms"].values())
    assert set(document["stage_ms"]) == {"decode", "track", "restore", "net", "composite", "encode"}
    assert document["nfe"] == {"2": 4}
    assert document["source"] == "memory:in" and document["sink"] == "memory:out"
    assert {"streamsr", "python", "numpy", "av"} <= set(document["versions"])
    assert RunReport.model_validate(document).frames_out == 4


async def test_why_another_engine_serves_is_a_warning() -> None:
    enhancer = BypassEnhancer()
    enhancer.engine, enhancer.warnings = "eager", ("engine tensorrt gave way to eager: no room",)
    report = await run_report(enhancer)
    assert (report.engine, report.warnings) == ("eager", enhancer.warnings)


async def test_what_the_restored_share_counts() -> None:
    """One frame with a face of each outcome: bypassed and too small ought not to be restored."""
    faces = tuple(
        make_face(outcome, nfe=int(outcome is Outcome.RESTORED), track_id=index)
        for index, outcome in enumerate([*Outcome, Outcome.RESTORED])
    )
    report = await run_report(BypassEnhancer(faces=faces), count=2)
    assert report.rungs == {
        "restored": 4,
        "bypassed": 2,
        "too_small": 2,
        "unsure": 2,
        "cached": 2,
        "skipped": 2,
    }
    assert (report.faces, report.faces_max, report.bypassed, report.too_small) == (14, 7, 2, 2)
    assert report.restored_share_due == pytest.approx(4 / 10)
    assert report.restored_share == pytest.approx(4 / 14)
    assert report.nfe == {0: 10, 1: 4}


async def test_shares_and_means_without_a_sample_are_none_not_zero() -> None:
    nobody = await run_report(BypassEnhancer())
    assert nobody.restored_share_due is None and nobody.restored_share is None and nobody.t0_mean is None
    sharp = await run_report(BypassEnhancer(faces=(make_face(Outcome.BYPASSED, t0=0.0),)))
    assert sharp.restored_share_due is None and sharp.restored_share == 0.0 and sharp.t0_mean == 0.0


async def test_certificates_resets_and_the_measured_track() -> None:
    report = await run_report(BypassEnhancer(restore_s=0.002), count=5)
    assert (report.certificate_rms, report.certificate_max) == (1.0, 8.0)  # max of 4 + index
    assert (report.certificate_rms_before, report.certificate_max_before) == (2.0, 9.0)
    assert report.cache_resets == 0
    assert report.stage_ms["track"].p99 < 50  # ours, not the 99 ms that the session claims
    assert report.stage_ms["net"].p50 == pytest.approx(2.0)


def test_fps_live_and_file() -> None:
    tally, frame = RunTally(), make_frame()
    for index in range(11):
        tally.written(frame, FrameReport(), 1_000_000_000 + index * 40_000_000)
    assert tally.fps(True, started_ns=0, now_ns=9_000_000_000) == pytest.approx(25.0)  # 10 intervals
    assert tally.fps(False, started_ns=0, now_ns=2_000_000_000) == pytest.approx(5.5)  # opening counts
    assert RunTally().fps(True, 0, 1) == RunTally().fps(False, 0, 1) == 0.0


def test_figures_do_not_grow_with_the_length_of_a_stream() -> None:
    tally, frame = RunTally(), make_frame()
    report = FrameReport(
        (make_face(Outcome.RESTORED, nfe=1, t0=0.25),), Certificate(2, 3, 1, 2), {"net": 1.0}
    )
    for index in range(6000):
        tally.enhanced(report)
        tally.written(frame, report, index)
        tally.warn(f"warning {index}")
    assert len(tally._age._samples) == len(tally._stages["net"]._samples) == 4096
    assert len(tally.warnings) == MAX_WARNINGS
    figures = tally.figures()
    assert (figures["faces"], figures["t0_mean"]) == (6000, 0.25)


def test_an_unknown_key_is_refused() -> None:
    known = dict(source="a", sink="b", live=False, status="done", scale=2)
    assert RunReport(**known).fps == 0.0
    with pytest.raises(ValidationError, match="fsp"):
        RunReport(**known, fsp=3)


def test_save_is_whole_or_not_at_all(tmp_path: Path) -> None:
    report = RunReport(source="a", sink="b", live=False, status="done", scale=2, nfe={1: 3})
    path = tmp_path / "out.json"
    report.save(path)
    assert RunReport.model_validate_json(path.read_text()) == report
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]
    taken = tmp_path / "folder"
    taken.mkdir()
    with pytest.raises(OSError):
        report.save(taken)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "out.json"]
    with pytest.raises(FileNotFoundError):
        report.save(tmp_path / "nowhere" / "out.json")


def test_versions_import_nothing_heavy() -> None:
    code = (
        "import sys; from streamsr.run_report import versions; found = versions(); "
        "assert 'torch' in found and not {'torch', 'av', 'mediapipe'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert versions()["streamsr"]
