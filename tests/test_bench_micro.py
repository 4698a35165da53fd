"""Micro-benchmarks, by pytest-benchmark: the five operations on the CPU, and the model on one face.

A second or less for each in a whole test run. Longer, and to compare with an earlier run:

    pytest tests/test_bench_micro.py --benchmark-max-time 2 --benchmark-autosave --benchmark-compare
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from streamsr.bench.crowd import Crowd
from streamsr.bench.kernels_cpu import TWIN, WORKS, Work
from streamsr.face.steadiness import Detailed, Seen, SteadyDetail
from streamsr.face.tracker import MediaPipeTracker
from streamsr.model.crop import Crop
from streamsr.model.restorer import Restorer

pytestmark = pytest.mark.alone


@pytest.mark.parametrize("who", ["product", TWIN])
@pytest.mark.parametrize("op", WORKS)
def test_operation(benchmark: BenchmarkFixture, op: str, who: str) -> None:
    work: Work = WORKS[op][0]()
    benchmark.group = f"{op}: {work.name}"
    benchmark.name = TWIN if who == TWIN else work.product_name
    benchmark(work.peers[TWIN] if who == TWIN else work.product)


@pytest.fixture(scope="module")
def restorer() -> Iterator[Restorer]:
    with_all_cores = Restorer.load(device="cpu")
    yield with_all_cores
    with_all_cores.close()


def _crop(size: int) -> Crop:
    tracker = MediaPipeTracker()
    picture = next(islice(Crowd(1, size, (640, 360), 2).pictures(), 1))
    (face,) = tracker.track(picture, 0)
    tracker.close()
    return Crop.cut(picture, face.matrix, size)


@pytest.mark.parametrize("size", [256, 512])
def test_guide(benchmark: BenchmarkFixture, restorer: Restorer, size: int) -> None:
    crop = _crop(size)
    benchmark.group = "one face"
    (reading,) = benchmark(lambda: restorer.guide([crop]))
    assert 0 < reading.t0 < 1


@pytest.mark.parametrize("size", [256, 512])
def test_one_evaluation(benchmark: BenchmarkFixture, restorer: Restorer, size: int) -> None:
    crop = _crop(size)
    readings = restorer.guide([crop])
    benchmark.group = "one face"
    (trace,) = benchmark(lambda: restorer.restore([crop], readings))
    assert trace.residual.shape == (size, size, 3) and 0 < np.abs(trace.residual).max() < 255


@pytest.mark.parametrize("size", [256, 512])
def test_detail_held_steady(benchmark: BenchmarkFixture, size: int) -> None:
    crop, steady = _crop(size), SteadyDetail()
    before, now = (
        Detailed(crop.x_in, crop.y, np.random.default_rng(seed).normal(0, 5, crop.x_in.shape).astype("f4"))
        for seed in (1, 2)
    )
    benchmark.group = "one face"
    held = benchmark(lambda: steady(before, now))
    assert held.shape == now.residual.shape and not np.array_equal(held, now.residual)


@pytest.mark.parametrize("size", [256, 512])
def test_cached_detail(benchmark: BenchmarkFixture, size: int) -> None:
    crop, steady = _crop(size), SteadyDetail()
    before = Detailed(crop.x_in, crop.y, np.random.default_rng(1).normal(0, 5, crop.x_in.shape).astype("f4"))
    benchmark.group = "one face"
    carried = benchmark(lambda: steady.carried(before, Seen(crop.x_in, crop.y)))
    assert np.abs(carried - before.residual).mean() < 0.1  # the face is where it was
