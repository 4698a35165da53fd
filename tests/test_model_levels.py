"""A level of fidelity that is asked for while a stream runs."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from portrait import aligned_portrait

from streamsr.clock import MONOTONIC
from streamsr.model.crop import Crop
from streamsr.model.levels import Levels
from streamsr.model.restorer import Restorer


def test_the_last_one_serves_until_the_next_is_there() -> None:
    may, made = threading.Event(), []

    def prepare(level: float) -> None:
        may.wait(5)
        made.append(level)

    levels = Levels(prepare)
    assert levels.take(0.4) == 0.4  # the first is nobody's to wait for
    levels.ready(0.4)
    assert [levels.take(0.7), levels.take(0.7), levels.take(0.4)] == [0.4] * 3 and not made
    may.set()
    levels.close()
    assert made == [0.7] and levels.take(0.7) == 0.7


def test_what_cannot_be_had_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def prepare(level: float) -> None:
        raise RuntimeError("no memory")

    levels = Levels(prepare)
    levels.ready(levels.take(1.0))
    assert [levels.take(0.0) for _ in range(3)] == [1.0] * 3
    levels.close()
    assert levels.take(0.0) == 1.0
    assert [record.getMessage() for record in caplog.records] == [
        "fidelity 0 cannot be had: the one before stays"
    ]


def test_a_stream_with_a_deadline_does_not_wait_for_a_level() -> None:
    restorer = Restorer.load(device="cpu", threads=1)
    try:
        restorer.prepare(0.4)
        crop = Crop.cut(aligned_portrait(), np.eye(2, 3), 256)
        readings = restorer.guide([crop])

        def shown(fidelity: float, live: bool) -> tuple[np.ndarray, float]:
            began = time.perf_counter()
            deadline_ns = MONOTONIC.now_ns() + 100_000_000 if live else None
            (trace,) = restorer.restore([crop], readings, fidelity=fidelity, deadline_ns=deadline_ns)
            return trace.residual, time.perf_counter() - began

        before, _ = shown(0.4, live=True)
        meanwhile, asked_s = shown(1.0, live=True)
        assert np.array_equal(meanwhile, before)
        wanted, waited_s = shown(1.0, live=False)
        assert not np.array_equal(wanted, before) and asked_s < waited_s
        until = time.monotonic() + 20
        while not np.array_equal(shown(1.0, live=True)[0], wanted):
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        restorer.close()
