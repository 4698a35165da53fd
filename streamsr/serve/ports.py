"""An event loop that lets media use only some addresses and UDP ports.

aioice binds a UDP socket on port 0 of each address of the machine and has no options for either; an
address that cannot be bound it leaves out. So the loop decides.
"""

from __future__ import annotations

import asyncio
import errno
import random
import socket
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
            return await super().create_datagram_endpoint(
                protocol_factory, sock=_bound(local_addr[0], config), **options
            )

    return MediaLoop


def _bound(address: str, config: ServeConfig) -> socket.socket:
    """A socket on a port that is free. Raises OSError."""
    if config.ice_addresses and address not in config.ice_addresses:
        raise OSError(errno.EADDRNOTAVAIL, f"{address} is not one of ice_addresses")
    first, last = config.udp_ports or (0, 0)
    for port in random.sample(range(first, last + 1), last - first + 1):
        media = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            media.setblocking(False)
            media.bind((address, port))
        except OSError as error:
            media.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return media
    raise OSError(errno.EADDRINUSE, f"udp_ports {first}-{last} are all taken on {address}")
