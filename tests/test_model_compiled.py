"""Compiled networks: built aside, kept, switched in between two frames, and given up aloud."""

from __future__ import annotations

import copy
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from gpu_fixtures import device
from helpers import wait_until
from model_process import random_crop, tiny_weights

from streamsr.errors import DeviceError, ModelError
from streamsr.model.compiled import process
from streamsr.model.compiled.builds import Builds, key_of
from streamsr.model.compiled.cache import EngineCache
from streamsr.model.compiled.inductor import Inductor
from streamsr.model.compiled.part import Part, PartNetwork, Run, example, network_of
from streamsr.model.compiled.tensorrt import Coverage, TensorRt
from streamsr.model.device_backend import DeviceBackend
from streamsr.model.restorer import Restorer, choose_engine
from streamsr.model.weights import Weights, load_weights

__all__ = ["device"]

PART = Part(256, 1, 1.0)
BUILD_S = 250.0
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return load_weights(tiny_weights(tmp_path_factory.mktemp("weights")))


class TakeOver(NamedTuple):
    """What was seen while a kept engine, which is damaged, is built again. served: by which engine each frame
    was. apart: from what eager gives, at most. longest_s: of a frame."""

    cache: EngineCache
    served: list[str]
    apart: float
    longest_s: float
    took_s: float
    warnings: list[str]
    logged: list[str]


@pytest.fixture(scope="module")
def taken_over(
    tmp_path_factory: pytest.TempPathFactory, weights: Weights, device: torch.device
) -> Iterator[TakeOver]:
    """PART, in f32, the only one that is built here."""
    cache = EngineCache(tmp_path_factory.mktemp("engines"))
    with cache.begun() as folder:
        (folder / Inductor.file).write_bytes(b"once it was whole")
        key = key_of(Inductor(), weights, PART, "f32", device)
        cache.keep(folder, key, Inductor.file, "", 1.0)
    kept = cache.find(key)
    assert kept is not None
    kept.path.write_bytes(b"now it is not")
    heard = _Heard()
    logging.getLogger("streamsr").addHandler(heard)
    eager = Restorer(lambda: DeviceBackend(weights, device, "f32"))
    builds = Builds(Inductor(), weights, device, "f32", cache)
    compiled = Restorer(lambda: DeviceBackend(weights, device, "f32", builds=builds))
    crops = [random_crop(256, index) for index in range(40)]
    served: list[str] = []
    longest_s = apart = 0.0
    past = other = [None]
    began = time.monotonic()
    while served.count("inductor") < 5 and time.monotonic() - began < BUILD_S:
        crop = crops[len(served) % len(crops)]
        readings = eager.guide([crop])
        past = eager.restore([crop], readings, past)
        asked = time.monotonic()
        other = compiled.restore([crop], readings, other)
        longest_s = max(longest_s, time.monotonic() - asked)
        served.append(compiled.engine)
        apart = max(apart, float(np.abs(other[0].residual - past[0].residual).max()))
        other = past  # or differences of the memory would add up
        time.sleep(0.1)  # a build gives way to what never pauses
    took_s = time.monotonic() - began
    assert eager.engine == "eager"
    for restorer in (eager, compiled):
        restorer.close()
    logging.getLogger("streamsr").removeHandler(heard)
    yield TakeOver(cache, served, apart, longest_s, took_s, compiled.warnings, heard.lines)


@pytest.fixture
def built(taken_over: TakeOver) -> EngineCache:
    """With PART in it, built in f32."""
    return taken_over.cache


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def _builds(weights: Weights, device: torch.device, cache: EngineCache) -> Iterator[Builds]:
    builds = Builds(Inductor(), weights, device, "f32", cache)
    yield builds
    builds.close()


def _wait(builds: Builds, part: Part = PART) -> Run:
    """For the network, or for why there is none."""
    wait_until(lambda: builds.ask(part) is not None or bool(builds.warnings), BUILD_S)
    run = builds.ask(part)
    assert run is not None, builds.warnings
    return run


@pytest.mark.soak
def test_what_was_built_gives_what_the_modules_give(
    weights: Weights, built: EngineCache, device: torch.device
) -> None:
    arguments = example(PART, weights.network.config, True, device)
    with _builds(weights, device, built) as builds, torch.inference_mode():
        found = _wait(builds)(*arguments)
        wanted = network_of(weights, PART, "f32", device)(*arguments)
    for one, other in zip(found, wanted, strict=True):
        assert other.abs().max() > 0.01
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.soak
def test_it_takes_over_between_two_frames(taken_over: TakeOver) -> None:
    served = taken_over.served
    assert taken_over.warnings == []
    assert served == sorted(served, key=["eager", "inductor"].index)
    assert served.count("eager") > 5 and served.count("inductor") == 5
    assert taken_over.longest_s < 0.2 * taken_over.took_s, "a frame waited for the build"
    assert taken_over.apart < 0.05


@pytest.mark.soak
def test_one_that_is_damaged_is_built_again(
    weights: Weights, taken_over: TakeOver, device: torch.device
) -> None:
    (line,) = taken_over.logged
    assert line.startswith("a kept engine is damaged and will be built again")
    again = taken_over.cache.find(key_of(Inductor(), weights, PART, "f32", device))
    assert again is not None and again.path.stat().st_size > 1e6


@pytest.mark.soak
def test_who_has_the_cache_begins_with_it(weights: Weights, built: EngineCache, device: torch.device) -> None:
    builds = Builds(Inductor(), weights, device, "f32", built)
    with closing(Restorer(lambda: DeviceBackend(weights, device, "f32", builds=builds))) as later:
        crops = [random_crop(256)]
        readings = later.guide(crops)
        wait_until(lambda: bool(later.restore(crops, readings)) and later.engine == "inductor", 20)


@pytest.mark.soak
def test_one_that_fails_gives_way_aloud(
    weights: Weights,
    built: EngineCache,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once it serves, it runs out of memory, say."""

    def load(self: Inductor, path: Path, device: torch.device) -> Run:
        def run(*arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
            raise RuntimeError("out of workspace")

        return run

    monkeypatch.setattr(Inductor, "load", load)
    builds = Builds(Inductor(), weights, device, "f32", built)
    crop = random_crop(256)
    with closing(Restorer(lambda: DeviceBackend(weights, device, "f32", builds=builds))) as restorer:
        readings = restorer.guide([crop])
        first = restorer.restore([crop], readings)
        _wait(builds)
        for _ in range(3):
            np.testing.assert_array_equal(restorer.restore([crop], readings)[0].residual, first[0].residual)
        assert restorer.engine == "eager"
        line = f"engine inductor gave way to eager for {PART}: out of workspace"
        assert restorer.warnings == [line]
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [line]


@pytest.mark.cuda
def test_tensorrt_serves_from_a_graph(weights: Weights, tmp_path: Path) -> None:
    pytest.importorskip("torch_tensorrt")
    cuda, crop = torch.device("cuda", 0), random_crop(256)
    builds = Builds(TensorRt(), weights, cuda, "bf16", EngineCache(tmp_path))
    restorer = Restorer(lambda: DeviceBackend(weights, cuda, "bf16", builds=builds))
    readings = restorer.guide([crop])
    first = restorer.restore([crop], readings)
    _wait(builds, Part(256, 1, restorer.level(1.0)))
    for _ in range(3):
        found = restorer.restore([crop], readings)
        np.testing.assert_allclose(found[0].residual, first[0].residual, atol=2)
    assert restorer.engine == "tensorrt" and restorer.warnings == []
    (about,) = tmp_path.glob("*/about.json")
    assert "operators" in about.read_text()
    restorer.close()


def test_a_build_that_fails_is_said_once(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "/bin/false")  # a compiler of C++ that cannot
    with _builds(weights, CPU, EngineCache(tmp_path)) as builds:
        builds.ask(PART)
        wait_until(lambda: bool(builds.warnings), BUILD_S)
        for _ in range(3):
            assert builds.ask(PART) is None
        (line,) = builds.warnings
    assert line.startswith(f"engine inductor gave way to eager for {PART}: ")
    assert "\n" not in line and "compiler" in line.lower()
    assert [r.message for r in caplog.records if r.levelno >= logging.WARNING] == [line]
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_replaced_are_not_built(tmp_path: Path, weights: Weights) -> None:
    path = shutil.copy(weights.path, tmp_path / "weights.safetensors")
    other = replace(weights, path=path, sha256="0" * 64)
    with _builds(other, CPU, EngineCache(tmp_path / "engines")) as builds:
        builds.ask(PART)
        wait_until(lambda: bool(builds.warnings), 60)
    assert "weights.safetensors were replaced meanwhile" in builds.warnings[0]


def test_closing_ends_a_build(weights: Weights, tmp_path: Path) -> None:
    with _builds(weights, CPU, EngineCache(tmp_path)) as builds:
        builds.ask(PART)
        wait_until(lambda: len(list(tmp_path.iterdir())) == 2, 60)  # it is at work
        process = builds._process
        assert process is not None
        began = time.monotonic()
        builds.close()
        assert time.monotonic() - began < 5
        assert builds.warnings == []
    with pytest.raises(ProcessLookupError):  # nor any that it started
        os.killpg(process.pid, 0)
    builds.close()


def test_a_network_that_computes_something_else_is_refused(weights: Weights) -> None:
    arguments = example(PART, weights.network.config, True, CPU)
    exact, eager = (network_of(weights, PART, precision, CPU) for precision in ("f32", "bf16"))
    network = copy.deepcopy(weights.network).eval()
    with torch.no_grad():  # farther off than another level, which bf16's own error may hide
        for parameter in network.parameters():
            parameter.mul_(1.5)
    other = PartNetwork(network, PART.size)
    with torch.inference_mode():
        process._compare(eager, eager, exact, arguments)
        with pytest.raises(ModelError, match="what was built errs: residual by"):
            process._compare(other, eager, exact, arguments)
        lost = [torch.full_like(v, torch.nan) for v in exact(*arguments)]
        with pytest.raises(ModelError, match="what was built errs: residual by nan"):
            process._compare(lambda *_: lost, eager, exact, arguments)


def test_all_that_matters_is_in_the_key(weights: Weights) -> None:
    def key(part: Part = PART, precision: str = "f32", of: Weights = weights) -> dict[str, object]:
        return key_of(Inductor(), of, part, precision, CPU)  # type: ignore[arg-type]

    first = key()
    assert first["torch"] == torch.__version__ and first["weights"] == weights.sha256
    others = [
        key(PART._replace(size=512)),
        key(PART._replace(faces=2)),
        key(PART._replace(level=0.4)),
        key(precision="bf16"),
        key(of=replace(weights, sha256="1" * 64)),
    ]
    assert all(other != first for other in others) and key() == first


REPORT = """
++++++++++++++++++++++++++++++++++++++++++++++++++ Dry-Run Results for Graph ++++++++++

The graph consists of {total} Total Operators, of which {supported} operators are supported, 97.83% coverage

{rest}Compiled with: CompilationSettings(workspace_size=0, min_block_size=1, device=Device(gpu_id=0))

  Graph Structure:

   Inputs: List[Tensor: (1, 3, 256, 256)@float32]
"""
UNSUPPORTED = (
    "The following ops are currently unsupported or excluded from conversion, and are listed with their "
    "op-count in the graph:\n torch.ops.aten.a.default: 2\ntorch.ops.aten.b.Tensor: 1\n\n"
    "The following nodes are currently set to run in Torch:\nNode: torch.ops.aten.a.default, with layer: x\n"
    "Note: Some of the above nodes may be supported, but were not included\n\n"
)


def test_what_a_dry_run_covers() -> None:
    found = Coverage.read(REPORT.format(total=138, supported=135, rest=UNSUPPORTED))
    assert found == Coverage(138, 135, {"torch.ops.aten.a.default": 2, "torch.ops.aten.b.Tensor": 1})
    assert str(found) == (
        "135 of 138 operators, torch runs torch.ops.aten.a.default (2), torch.ops.aten.b.Tensor (1)"
    )
    assert str(Coverage.read(REPORT.format(total=138, supported=138, rest=""))) == "138 of 138 operators"
    with pytest.raises(ModelError, match="in a form that is not known here"):
        Coverage.read("something else")


@pytest.mark.skipif(bool(list(metadata.distributions(name="torch-tensorrt"))), reason="it is installed")
def test_tensorrt_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(DeviceError, match=r"engine tensorrt needs torch-tensorrt: pip install"):
        TensorRt().versions()


def test_which_engine_for_which_device() -> None:
    cuda = torch.device("cuda", 0)
    assert choose_engine("auto", CPU) == "openvino" and choose_engine("auto", cuda) == "eager"
    assert [choose_engine(name, cuda) for name in ("inductor", "tensorrt")] == ["inductor", "tensorrt"]
    with pytest.raises(DeviceError, match="engine must be auto or openvino on cpu, got inductor"):
        Restorer.load(device="cpu", engine="inductor")
    with pytest.raises(DeviceError, match="auto or eager or inductor or tensorrt on cuda, got openvino"):
        choose_engine("openvino", cuda)
