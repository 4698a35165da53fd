"""The budget ladder where it is needed: a live face, and all of the pipeline on one core with other work."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from streamsr import Enhancer, Pipeline
from streamsr.bench.throughput import NullSink
from streamsr.io.synthetic import DegradedSource, MotionSample
from streamsr.run_report import RunReport

pytestmark = pytest.mark.soak

RATE = 25
CALM_S, PRESSED_S, BACK_S = 3, 5, 5
HOGS = 3


@contextmanager
def pressure() -> Iterator[None]:
    """All threads of this process on one core, with HOGS processes that never rest."""
    cores = os.sched_getaffinity(0)
    core = min(cores)
    hogs = [
        subprocess.Popen(
            [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile 1: 0"]
        )
        for _ in range(HOGS)
    ]
    try:
        _confine({core})
        yield
    finally:
        _confine(cores)
        for hog in hogs:
            hog.kill()
            hog.wait()


def _confine(cores: set[int]) -> None:
    for task in Path("/proc/self/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")
async def test_quality_steps_down_under_load_and_comes_back() -> None:
    source = DegradedSource(MotionSample(RATE * (CALM_S + PRESSED_S + BACK_S + 2)))
    sink = NullSink()
    with Enhancer() as enhancer:
        async with Pipeline(source, sink, enhancer) as pipeline:
            running = asyncio.create_task(pipeline.run())
            await asyncio.sleep(CALM_S)
            calm, from_frame = pipeline.report(), len(sink.age_ms)
            with pressure():
                await asyncio.sleep(PRESSED_S)
                pressed, to_frame = pipeline.report(), len(sink.age_ms)
            await asyncio.sleep(BACK_S - 1)
            back = pipeline.report()
            await asyncio.sleep(1)
            end = pipeline.report()
            pipeline.stop()
            await running
    assert sum(end.rungs.values()) == end.faces
    assert np.percentile(sink.age_ms[from_frame:to_frame], 95) < 300
    assert to_frame - from_frame > PRESSED_S * RATE / 4  # pictures keep coming
    lower = share_below(calm, pressed)
    assert lower > 0.15, f"{lower:.0%} of the faces on a lower rung under load"
    assert lower > share_below(back, end) + 0.1
    assert share_below(back, end) < 0.2, "not back within 5 s"


def share_below(before: RunReport, after: RunReport) -> float:
    """Of the faces between two reports, how many were not restored."""
    faces = after.faces - before.faces
    return 1 - (after.rungs["restored"] - before.rungs["restored"]) / faces
