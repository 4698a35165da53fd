"""What every test run has: a header that says what it ran on, and no silent skips in CI."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
from collections.abc import Generator, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from processes import command, descendants, shared

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does, before torch loads
OURS = re.compile(r"-m streamsr|streamsr\.\w|ray::(Camera|Model)OnNode")
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")


def pytest_configure(config: pytest.Config) -> None:
    """What is compiled is kept for the processes of this run, and not beyond it."""
    if hasattr(config, "workerinput"):
        return
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("MPLCONFIGDIR", str(usual / "matplotlib"))  # a list of fonts, made in seconds
    folder = tempfile.TemporaryDirectory(prefix="streamsr-cache-")
    os.environ["XDG_CACHE_HOME"] = folder.name
    config.add_cleanup(folder.cleanup)


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "missing"


def pytest_report_header() -> list[str]:
    import torch

    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    libraries = ", ".join(f"{name} {_version(name)}" for name in ("av", "aiortc", "mediapipe", "numpy"))
    return [
        f"torch {torch.__version__}, CUDA {torch.version.cuda or 'not built in'}, GPU {gpu}",
        f"{libraries}; {platform.machine()}, {len(os.sched_getaffinity(0))} cores",
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests on the training data run where STREAMSR_DATA names its folder; else they are not chosen."""
    if "STREAMSR_DATA" in os.environ:
        return
    left_out = [item for item in items if item.get_closest_marker("data") is not None]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _not_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"in CI every test must run. {reason}"


@pytest.fixture(scope="module", autouse=True)
def no_process_outlives_its_module() -> Iterator[None]:
    """None of ours, and within half a minute."""
    before = descendants(os.getpid())
    yield
    deadline = time.monotonic() + 30
    while left := [
        line for pid in descendants(os.getpid()) - before - shared if OURS.search(line := command(pid))
    ]:
        assert time.monotonic() < deadline, f"left: {left}"
        time.sleep(0.05)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report: pytest.TestReport = yield
    if IN_CI and item.get_closest_marker("cuda") is None:
        _not_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    report: pytest.CollectReport = yield
    if IN_CI:
        _not_in_ci(report)
    return report
