"""An event loop that lets media use only some addresses and UDP ports.

aioice binds a UDP socket on port 0 of each address of the machine and has no options for either; an
address that cannot be bound it leaves out. So the loop decides.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Callable
from typing import Any

from .config import ServeConfig

__all__ = ["media_loop"]


def media_loop(config: ServeConfig) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the loop: uvloop's where it is installed."""
    base: Any
    try:
        import uvloop
    except ImportError:  # not built for Windows
        base = asyncio.SelectorEventLoop
    else:
        base = uvloop.Loop

    class MediaLoop(base):  # type: ignore[misc]
        async def create_datagram_endpoint(
            self, protocol_factory: Any, local_addr: Any = None, **options: Any
        ) -> Any:
            if local_addr is None or local_addr[1] != 0:
                return await super().create_datagram_endpoint(protocol_factory, local_addr, **options)
            address = local_addr[0]
            if config.ice_addresses and address not in config.ice_addresses:
                raise OSError(errno.EADDRNOTAVAIL, f"{address} is not one of ice_addresses")
            for port in _shuffled(config.udp_ports):
                try:
                    return await super().create_datagram_endpoint(
                        protocol_factory, (address, port), **options
                    )
                except OSError as error:
                    if error.errno != errno.EADDRINUSE:
                        raise
            raise OSError(errno.EADDRINUSE, f"all of udp_ports are taken on {address}")

    return MediaLoop


def _shuffled(ports: tuple[int, int] | None) -> list[int]:
    if ports is None:
        return [0]
    return random.sample(range(ports[0], ports[1] + 1), ports[1] - ports[0] + 1)
