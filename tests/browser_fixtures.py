"""Fixtures of the browser tests; a file takes them in with ``pytest_plugins``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aioice.ice
import pytest
from browser import CHROMIUM, write_camera
from rtc_fixtures import ADDRESS


@pytest.fixture(scope="module")
def fake_camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of the moving sample at 640x360 and 25 fps; it loops."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not there: make test-deps installs it")
    path = tmp_path_factory.mktemp("camera") / "face.mjpeg"
    write_camera(path)
    return path


@pytest.fixture(scope="module")
def media_address() -> Iterator[str]:
    """An address of the loopback interface for both ends; made where it is not there."""
    if ADDRESS in aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False):
        yield ADDRESS
        return
    if shutil.which("ip") is None:
        pytest.skip("no ip command to give the loopback interface an address for WebRTC")
    change = ["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"]
    done = subprocess.run(change, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{' '.join(change)}: {done.stderr.strip()}")
    yield ADDRESS
    subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)
