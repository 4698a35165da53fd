"""What OpenVINO compiles is shared in a process and kept on disk."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from model_process import random_crop, tiny_weights

from streamsr.errors import ConfigError
from streamsr.model import openvino_graph
from streamsr.model.compiled.cache import EngineCache
from streamsr.model.host_backend import HostBackend
from streamsr.model.openvino_engine import OpenVinoEngine
from streamsr.model.openvino_graph import _in_use
from streamsr.model.restorer import Restorer
from streamsr.model.weights import Weights, load_weights

GRAPHS = 4  # guide and network at two sizes


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    return load_weights(tiny_weights(tmp_path_factory.mktemp("weights")))


@pytest.fixture
def kept(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Sequence[tuple[int, ...]]]]:
    """Of what has been traced, the shapes; by one thread at a time."""
    calls: list[Sequence[tuple[int, ...]]] = []
    busy, convert = threading.Lock(), openvino_graph._converted

    def watched(openvino: object, module: torch.nn.Module, shapes: Sequence[tuple[int, ...]]) -> object:
        assert busy.acquire(blocking=False), "torch traces for one thread at a time"
        try:
            calls.append(shapes)
            time.sleep(0.05)
            return convert(openvino, module, shapes)
        finally:
            busy.release()

    monkeypatch.setattr(openvino_graph, "_converted", watched)
    yield calls
    gc.collect()


def _engine(weights: Weights, kept: EngineCache, precision: str = "f32", threads: int = 2) -> OpenVinoEngine:
    engine = OpenVinoEngine(weights, threads, precision, kept=kept)  # type: ignore[arg-type]
    engine.prepare(1.0)
    return engine


def _restored(weights: Weights, kept: EngineCache, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """By an engine that nobody else holds."""
    monkeypatch.setattr(openvino_graph, "_users_cache", lambda: kept)
    restorer = Restorer(lambda: HostBackend(weights, "f32", 2, 2))
    try:
        crop = random_crop(256)
        return restorer.restore([crop], restorer.guide([crop]))[0].residual
    finally:
        restorer.close()


def test_engines_of_a_process_share_it_while_they_need_it(
    weights: Weights, kept: EngineCache, converted: list[object]
) -> None:
    gc.collect()
    before = len(_in_use)
    first = _engine(weights, kept)
    second = _engine(weights, kept)
    assert len(converted) == GRAPHS and len(_in_use) == before + GRAPHS
    del first
    gc.collect()
    assert len(_in_use) == before + GRAPHS
    del second
    gc.collect()
    assert len(_in_use) == before


def test_levels_asked_for_on_two_threads_are_compiled_one_after_the_other(
    weights: Weights, kept: EngineCache, converted: list[object]
) -> None:
    engine = OpenVinoEngine(weights, 2, "f32", kept=kept)
    with ThreadPoolExecutor(3) as threads:
        for asked in [threads.submit(engine.prepare, level) for level in (0.25, 0.5, 0.5)]:
            asked.result()
    assert len(converted) == 2 + 2 * 2  # the guide, then two levels, at two sizes


def test_what_is_read_back_gives_the_same_bit_for_bit(
    weights: Weights, kept: EngineCache, converted: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _restored(weights, kept, monkeypatch)
    assert len(converted) == GRAPHS and len(list(kept.folder.iterdir())) == GRAPHS
    gc.collect()
    again = _restored(weights, kept, monkeypatch)
    assert len(converted) == GRAPHS, "it was compiled again"
    assert np.abs(first).max() > 0.1 and np.array_equal(first, again)


@pytest.mark.parametrize(
    "other",
    [
        lambda weights, kept: _engine(weights, kept, threads=1),
        lambda weights, kept: _engine(weights, kept, precision="bf16"),
        lambda weights, kept: OpenVinoEngine(weights, 2, "f32", kept=kept).prepare(0.5),
    ],
)
def test_another_one_is_compiled(
    weights: Weights,
    kept: EngineCache,
    converted: list[object],
    other: Callable[[Weights, EngineCache], object],
) -> None:
    held = _engine(weights, kept)
    other(weights, kept)
    assert len(converted) > GRAPHS
    del held


def test_what_does_not_load_is_compiled_again(
    weights: Weights,
    kept: EngineCache,
    converted: list[object],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whole, but not what this version of the library reads."""
    first = _restored(weights, kept, monkeypatch)
    gc.collect()
    find = kept.find
    wrong = kept.folder.parent / "wrong.blob"
    wrong.write_bytes(b"not a network" * 100)

    def found(key):  # type: ignore[no-untyped-def]
        real = find(key)
        if real is not None:
            real.path.write_bytes(wrong.read_bytes())
        return real

    monkeypatch.setattr(kept, "find", found)
    again = _restored(weights, kept, monkeypatch)
    assert np.array_equal(first, again) and len(converted) == 2 * GRAPHS
    assert caplog.text.count("a kept engine is damaged and will be built again") == GRAPHS


def test_without_a_folder_for_it_all_is_compiled_each_time(
    weights: Weights,
    converted: list[object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor does a log that remembers why hold an engine."""
    caplog.set_level(logging.INFO)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    openvino_graph._users_cache.cache_clear()
    try:
        for _ in range(2):
            OpenVinoEngine(weights, 2, "f32")
            gc.collect()
    finally:
        openvino_graph._users_cache.cache_clear()
    assert len(converted) == GRAPHS and "compiled networks are not kept" in caplog.text


def test_a_full_disk_is_said_and_hurts_nobody(
    weights: Weights, kept: EngineCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(kept, "keep", full)
    with caplog.at_level(logging.WARNING):
        assert np.isfinite(_restored(weights, kept, monkeypatch)).all()
    assert f"a compiled network could not be kept in {kept.folder}: {os.strerror(28)}" in caplog.text
    assert list(kept.folder.iterdir()) == []


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigError, match="no cache of engines: Could not determine home"):
        EngineCache()
