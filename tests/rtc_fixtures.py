"""Fixtures of the WebRTC tests; a file takes them in with ``pytest_plugins``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import aioice.ice
import pytest

ADDRESS = "10.77.0.1"  # aioice leaves out 127.0.0.1


@pytest.fixture
def call_address(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
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
