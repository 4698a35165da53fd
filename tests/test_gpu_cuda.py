"""What only a GPU can show of a session on it: graphs, memory, streams. The rest: test_gpu_session.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from gpu_fixtures import device_session, on_device
from media import moving_portrait
from memories import loud_weights
from model_process import random_crop, tiny_weights

from streamsr.enhancer import Enhancer
from streamsr.frame import Frame
from streamsr.kernels import launch
from streamsr.memory import ASK_FIRST
from streamsr.model.cuda import Lanes, lanes
from streamsr.model.device_backend import BUCKETS
from streamsr.model.restorer import Restorer, choose_device

pytestmark = pytest.mark.cuda

ASLEEP = 200_000_000  # cycles, 100 ms or more


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return loud_weights(tmp_path_factory.mktemp("weights") / "recurrent.safetensors")


@pytest.fixture(scope="module")
def restorer(weights: Path) -> Iterator[Restorer]:
    with on_device(weights, choose_device("cuda")) as restorer:
        restorer.warm_up(0.4)
        yield restorer


def _clip(count: int, first: int = 0) -> list[np.ndarray]:
    return [moving_portrait(index, 200, 150) for index in range(first, first + count)]


@pytest.mark.parametrize("steps", [1, 4, 5])
@pytest.mark.parametrize("count", [*BUCKETS, 3, 40])
def test_a_graph_gives_what_its_operations_give(
    weights: Path, restorer: Restorer, monkeypatch: pytest.MonkeyPatch, count: int, steps: int
) -> None:
    crops = [random_crop(256, index) for index in range(count)]
    with monkeypatch.context() as patch:
        patch.setattr(Lanes, "captured", lambda self, run: run)
        with on_device(weights, restorer.device) as eager:
            readings = eager.guide(crops)
            first = eager.restore(crops, readings, steps=steps, fidelity=0.4)
            second = eager.restore(crops, readings, [*first[: count // 2], *[None] * (count - count // 2)])
    found = restorer.guide(crops)
    for one, other in zip(found, readings, strict=True):
        np.testing.assert_allclose(one.log_bands, other.log_bands, atol=1e-4)
    mine = restorer.restore(crops, readings, steps=steps, fidelity=0.4)
    again = restorer.restore(crops, readings, [*mine[: count // 2], *[None] * (count - count // 2)])
    for one, other in zip((*mine, *again), (*first, *second), strict=True):
        np.testing.assert_allclose(one.residual, other.residual, atol=0.05)


def test_nothing_is_allocated_once_it_is_warm(restorer: Restorer) -> None:
    """No cudaMalloc and no cudaHostAlloc: of memory that torch keeps, frames may take what they like."""

    def taken() -> tuple[int, ...]:
        torch.cuda.synchronize()
        device, host = torch.cuda.memory_stats(), torch.cuda.host_memory_stats()
        free, _ = torch.cuda.mem_get_info()
        return device["num_device_alloc"], device["num_alloc_retries"], host["num_host_alloc"], free

    with device_session(restorer, 2) as session:
        for camera in _clip(12):
            session.process(camera)
        before = taken()
        for camera in _clip(60, 12):
            session.process(camera)
        assert taken() == before


def test_the_networks_own_work_takes_nothing_at_all(restorer: Restorer) -> None:
    crop = random_crop(256)
    readings = restorer.guide([crop])
    restorer.restore([crop], readings, fidelity=0.4)
    backend = restorer._backend
    run = next(run for key, run in backend._runs.items() if key[0] == "restore" and key[1] == 1)  # type: ignore[attr-defined]
    with lanes(restorer.device).working():
        torch.cuda.synchronize()
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        for _ in range(50):
            run()
        torch.cuda.synchronize()
        assert torch.cuda.memory_stats()["allocation.all.allocated"] == before


def test_restoring_waits_for_nothing(restorer: Restorer) -> None:
    """Behind a sleeping kernel it returns at once, and the picture is that of a device that was awake."""
    lane, camera = lanes(restorer.device), _clip(1)[0]
    with device_session(restorer, 2) as session, device_session(restorer, 2) as other:
        wanted = other.process(camera)[0]
        for _ in range(ASK_FIRST + 1):  # the guide's numbers have to be waited for
            session.process(camera)
        frame = Frame(camera, ASK_FIRST + 1, Fraction(1, 25), 0, ASK_FIRST + 1)
        tracked = session.track(frame)
        torch.cuda.synchronize()
        asleep = torch.cuda.Event()
        with lane.working():
            torch.cuda._sleep(ASLEEP)
            asleep.record()
        restored = session.restore(tracked)
        assert not asleep.query(), "it waited, or the device was not asleep for long enough"
        out, _ = session.composite(restored)
        assert asleep.query()
        assert out.image.shape == wanted.shape


def test_a_graph_is_captured_while_other_streams_go_on(tmp_path: Path) -> None:
    """Levels and step counts that nobody asked for before, in the middle of other sessions' frames."""
    with on_device(tiny_weights(tmp_path), choose_device("cuda")) as restorer:
        restorer.warm_up(0.4)
        ended = threading.Event()

        def shown(first: int) -> list[np.ndarray]:
            with device_session(restorer, 2) as session:
                return [session.process(camera)[0] for camera in _clip(30, first)]

        def other_levels() -> None:
            crop = random_crop(512)
            for fidelity in (0.0, 0.2, 0.6, 0.8, 1.0):
                restorer.prepare(fidelity)
                for steps in (1, 2, 3):
                    readings = restorer.guide([crop] * steps)
                    restorer.restore([crop] * steps, readings, steps=steps, fidelity=fidelity)
                    if ended.is_set():
                        return

        with ThreadPoolExecutor(4) as threads:
            others = threads.submit(other_levels)
            together = list(threads.map(shown, (0, 10, 20)))
            ended.set()
            others.result()
        for first, frames in zip((0, 10, 20), together, strict=True):
            for one, alone in zip(frames, shown(first), strict=True):
                assert np.abs(one.astype(int) - alone).max() <= 3


def test_tensors_come_and_go_in_the_callers_stream(restorer: Restorer) -> None:
    camera = _clip(1)[0]
    with device_session(restorer, 2) as session:
        wanted = session.process(camera)[0]
    stream = torch.cuda.Stream()
    for _ in range(20):
        with device_session(restorer, 2) as session, torch.cuda.stream(stream):
            image = torch.zeros(camera.shape, dtype=torch.uint8, device=restorer.device)
            torch.cuda._sleep(ASLEEP // 20)
            image.copy_(torch.from_numpy(camera).pin_memory(), non_blocking=True)
            out, _ = session.process(image)
            copy = out + 0
            del image, out
            torch.full((400, 300, 3), 7, dtype=torch.uint8, device=restorer.device)
        stream.synchronize()
        assert np.array_equal(copy.cpu().numpy(), wanted)


def test_the_default_session_on_a_gpu_launches_the_kernels() -> None:
    counts: set[str] = set()
    inner = launch.RUNNERS["cuda"]

    def runner(op: str, *arguments) -> None:  # type: ignore[no-untyped-def]
        counts.add(op)
        inner(op, *arguments)

    with pytest.MonkeyPatch.context() as patch, Enhancer(device="cuda") as enhancer:
        patch.setitem(launch.RUNNERS, "cuda", runner)
        session = enhancer.session()
        out, report = session.process(_clip(1)[0])
        session.close()
    assert report.restored == 1 and out.shape == (300, 400, 3)
    assert {"crop", "consistency"} <= counts
