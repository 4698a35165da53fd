"""The launcher itself: what it imports, what it refuses, and on a GPU, how it launches."""

from __future__ import annotations

import importlib
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from kernel_fixtures import place
from kernel_host import OPS

from streamsr.errors import DeviceError, KernelError
from streamsr.kernels import launch
from streamsr.kernels.measured import Case

__all__ = ["place"]

ASLEEP = 200_000_000  # cycles, 100 ms or more


def _imported(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_the_kernels_starts_nothing() -> None:
    assert not {"torch", "numpy", "cupy"} & _imported("import streamsr.kernels")
    for op in OPS:
        assert "cupy" not in _imported(f"import streamsr.kernels.{op}")


def test_without_cupy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match=r"pip install 'streamsr\[cuda\]'"):
        launch._cupy.__wrapped__()


def test_cpu_tensors_are_refused() -> None:
    with pytest.raises(DeviceError, match="ogwm runs on CUDA tensors, got tensors on cpu"):
        launch.launch("ogwm", "warp_f32", (1, 1, 1), np.zeros(()), torch.device("cpu"))


def test_what_cuda_cannot_number_is_refused() -> None:
    cpu = torch.device("cpu")
    with pytest.raises(KernelError, match="at most"):
        launch.launch("ogwm", "warp_f32", (1, 65536, 1), np.zeros(()), cpu)
    with pytest.raises(KernelError, match=r"2\^31"):
        launch.blocks(2**31)
    launch.launch("ogwm", "warp_f32", (5, 0, 1), np.zeros(()), cpu)  # nothing to do: nothing is done


def test_views_have_four_dimensions() -> None:
    x = torch.zeros(4, 6)[:, ::2]
    assert launch.view(x) == (x.data_ptr(), (6, 2, 0, 0), (4, 3, 1, 1))
    assert launch.VIEW.itemsize == 56


def _first_case(op: str, device: torch.device) -> Case:
    """Of the op's benchmark."""
    bench = importlib.import_module(f"streamsr.kernels.{op}.bench")
    case: Case = next(iter(bench.cases(device)))
    return case


@pytest.mark.parametrize("op", OPS)
def test_what_benchmarks_measure_is_what_the_twin_computes(op: str, place: torch.device) -> None:
    case = _first_case(op, place)
    case.launch()
    assert case.bytes > 0 and case.flops > 0
    for got, twin in zip(case.outputs, case.twin(), strict=True):
        assert got.dtype == twin.dtype
        apart = (got.double() - twin.double()).abs()
        assert apart.mean() < 1e-3 * twin.double().abs().mean()


@pytest.fixture(params=[pytest.param(op, marks=pytest.mark.cuda) for op in OPS])
def case(request: pytest.FixtureRequest) -> Case:
    case = _first_case(request.param, torch.device("cuda", torch.cuda.current_device()))
    case.launch()
    torch.cuda.synchronize()
    return case


def _spoil(tensors: tuple[torch.Tensor, ...]) -> None:
    for tensor in tensors:
        tensor.zero_()


def _expected(case: Case) -> list[torch.Tensor]:
    case.launch()
    torch.cuda.synchronize()
    return [tensor.clone() for tensor in case.outputs]


def _assert_written(case: Case, expected: list[torch.Tensor]) -> None:
    assert any(tensor.any() for tensor in expected)
    for got, wanted in zip(case.outputs, expected, strict=True):
        assert torch.equal(got, wanted)


def test_a_launch_waits_for_nothing_and_is_in_torchs_stream(case: Case) -> None:
    """Launched behind a sleeping kernel, it returns at once, and nothing is written until that has ended."""
    expected, stream = _expected(case), torch.cuda.Stream()
    _spoil(case.outputs)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(ASLEEP)
        began = time.perf_counter()
        case.launch()
        launched_s = time.perf_counter() - began
    busy = not stream.query()
    early = [bool(tensor.any()) for tensor in case.outputs]  # on another stream
    still_busy = not stream.query()
    stream.synchronize()
    assert launched_s < 0.02
    assert busy and still_busy, "the sleeping kernel ended too early to show anything"
    assert not any(early)
    _assert_written(case, expected)


def test_a_launch_is_captured_in_a_graph(case: Case) -> None:
    expected = _expected(case)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        case.launch()
    _spoil(case.outputs)
    graph.replay()
    torch.cuda.synchronize()
    _assert_written(case, expected)


def test_a_launch_allocates_nothing(case: Case) -> None:
    def taken() -> tuple[int, int, int]:
        import cupy

        free, _ = torch.cuda.mem_get_info()
        count = torch.cuda.memory_stats()["allocation.all.allocated"]
        return free, count, cupy.get_default_memory_pool().total_bytes()

    before = taken()
    for _ in range(100):
        case.launch()
    torch.cuda.synchronize()
    assert taken() == before


@pytest.mark.cuda
def test_a_kernel_is_not_loaded_during_capture() -> None:
    launch._function.cache_clear()
    case = _first_case("ogwm", torch.device("cuda", torch.cuda.current_device()))
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(KernelError, match="launched once before"), torch.cuda.graph(graph):
        case.launch()
