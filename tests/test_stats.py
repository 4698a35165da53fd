from __future__ import annotations

import numpy as np
import pytest

from streamsr.stats import WINDOW, LatencyWindow


def test_percentiles_of_one_to_a_hundred() -> None:
    window = LatencyWindow()
    for ms in np.random.default_rng(0).permutation(np.arange(1.0, 101.0)):
        window.add(float(ms))
    found = window.percentiles()
    assert found.p50 == pytest.approx(50.5)
    assert found.p95 == pytest.approx(95.05)
    assert found.p99 == pytest.approx(99.01)
    assert (found.max, found.count) == (100.0, 100)
    assert found.as_dict() == {"p50": 50.5, "p95": 95.05, "p99": 99.01}


def test_one_sample_is_every_percentile() -> None:
    window = LatencyWindow()
    window.add(3.25)
    found = window.percentiles()
    assert (found.p50, found.p95, found.p99, found.max, found.count) == (3.25, 3.25, 3.25, 3.25, 1)


def test_no_sample_is_told_by_the_count() -> None:
    assert LatencyWindow().percentiles().count == 0


def test_memory_is_bounded_and_old_samples_are_forgotten() -> None:
    window = LatencyWindow()
    for _ in range(WINDOW):
        window.add(1000.0)
    for _ in range(WINDOW):
        window.add(2.0)
    found = window.percentiles()
    assert (found.max, found.count) == (2.0, 2 * WINDOW)
