"""A model process with small weights, shared by all tests; a file takes it in with ``pytest_plugins``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import processes
import pytest
from model_process import ModelProcess, tiny_weights
from remote_client import connected

from streamsr.watch.remote_restorer import RemoteRestorer


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[ModelProcess]:
    path = tmp_path_factory.mktemp("model") / "socket"
    with ModelProcess(path, weights, fidelities=(0.4, 1.0)) as process:
        processes.shared.add(process.process.pid)
        yield process.ready()


@pytest.fixture
def restorer(model: ModelProcess) -> Iterator[RemoteRestorer]:
    with closing(connected(model.path)) as made:
        yield made
