"""An address at which peers on one machine can meet: ICE leaves out 127.0.0.1."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import aioice.ice

from streamsr.errors import ConfigError

__all__ = ["call_address", "use_address"]

LOOPBACK = "10.77.0.1"


@contextmanager
def call_address() -> Iterator[str]:
    """10.77.0.1 on the loopback interface, made for the time where this process may; else the machine's own.

    Raises ConfigError if there is none.
    """
    own = aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False)
    if LOOPBACK in own:
        yield LOOPBACK
        return
    if _ip("add"):
        try:
            yield LOOPBACK
        finally:
            _ip("del")
        return
    if not own:
        raise ConfigError(
            f"no address for WebRTC but 127.0.0.1: as root, ip address add {LOOPBACK}/32 dev lo"
        )
    yield own[0]


def use_address(address: str) -> None:
    """Let the peers of this process gather ``address`` and no other."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [address]


def _ip(verb: str) -> bool:
    if shutil.which("ip") is None:
        return False
    command = ["ip", "address", verb, f"{LOOPBACK}/32", "dev", "lo"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
