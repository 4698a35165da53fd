"""A short form of ``make soak``."""

from __future__ import annotations

import pytest
from soak import RECOVERY_S, soak

pytest_plugins = ["shared_fixtures"]


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_minute_of_faults(gstreamer: None) -> None:
    found = soak(seconds=50, every_s=10, cameras=3)
    assert found["wrong"] == []
    assert found["crashes"] == 0 and found["faults"] == 6
    assert found["recovery_s"]["n"] >= 4 and found["recovery_s"]["p50"] < RECOVERY_S
