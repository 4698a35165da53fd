"""Fixtures of the WebRTC tests; a file takes them in with ``pytest_plugins``."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import aioice.ice
import pytest

from streamsr.rtc.codec_profile import AIORTC_NAMES

# aioice leaves out 127.0.0.1; of its own for each run, so that none takes it away from another
ADDRESS = f"10.77.{os.getpid() % 256}.1"


@pytest.fixture
def untuned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ``tune`` does to aiortc in the test is undone after it."""
    for module, names in AIORTC_NAMES.items():
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))


@pytest.fixture
def call_address(untuned: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Peers meet at an address of the loopback interface, made for the test where it is not there."""
    made = False
    if ADDRESS not in aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False):
        if shutil.which("ip") is None:
            pytest.skip("no ip command to give the loopback interface an address for WebRTC")
        command = ["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"{' '.join(command)}: {done.stderr.strip()}")
        made = True
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: [ADDRESS])
    yield
    if made:
        subprocess.run(["ip", "address", "del", f"{ADDRESS}/32", "dev", "lo"], check=True)
