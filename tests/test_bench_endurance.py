"""The benchmark of a call that lasts, on a short one; and how it reads memory and delays."""

from __future__ import annotations

import json

import numpy as np
import pytest

from streamsr.bench import endurance
from streamsr.bench.endurance import MINUTE, main, memory_growth, recovered_s


def test_growth_is_over_the_third_minute() -> None:
    assert memory_growth([100.0] * (4 * MINUTE - 1)) is None
    memory = [50.0] * MINUTE + [80.0] * MINUTE + [100.0] * MINUTE + [101.0] * MINUTE + [103.0] * MINUTE
    assert memory_growth(memory) == pytest.approx(0.03)


def test_recovered_when_two_seconds_are_calm() -> None:
    at = np.arange(0, 10, 0.1)
    seen = np.stack([at, np.where(at < 7, 200.0, 40.0)], 1)
    assert recovered_s(seen, 5.0, 50.0) == 2.0
    assert recovered_s(seen, 5.0, 30.0) is None
    assert recovered_s(seen, 11.0, 50.0) is None


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", "0.05"]) == 2
    assert main(["--minutes", "0.5", "--hog-s", "20"]) == 2
    assert "minutes must leave" in capsys.readouterr().err


@pytest.mark.soak
def test_a_call_under_a_hog(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endurance, "HOG_AFTER_S", 5.0)
    assert main(["--minutes", "0.35", "--hog-s", "4", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["fps"] > 5 and 0 < row["glass_p50_ms"] <= row["glass_p95_ms"] < 1000
    assert row["hog_fps"] > 3 and 0 < row["hog_p95_ms"] < 2000
    assert row["restored_share"] > 0 and row["rss_growth"] is None and row["rss_mb"] > 100
    assert row["hog_recovers_s"] is None or row["hog_recovers_s"] < 6
