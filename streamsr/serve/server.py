"""The server: one model, its streams and their HTTP side, from ``async with`` to its end."""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack

from aiohttp import web

from ..errors import ConfigError
from ..stages import Enhancer
from .config import ServeConfig
from .http import application
from .streams import Streams

__all__ = ["Server"]

SHUTDOWN_S = 3.0  # for answers that are on their way
BACKLOG = 64
HEADER_BYTES = 8190  # of a line; at most 128 lines


class Server:
    """``async with Server(config, enhancer) as server``: it answers at ``server.url`` until the block ends.

    The enhancer stays its owner's. Entering raises ConfigError for an address or a certificate that
    cannot be used.
    """

    def __init__(self, config: ServeConfig, enhancer: Enhancer) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self._runner: web.AppRunner | None = None
        self.streams = Streams(config, enhancer)
        self.url = ""

    async def __aenter__(self) -> Server:
        config, tls = self._config, self._config.tls()
        listening = _listen(config)
        async with AsyncExitStack() as stack:
            stack.callback(listening.close)
            await stack.enter_async_context(self.streams)
            runner = web.AppRunner(
                application(config, self.streams, self._crowded),
                access_log=None,  # paths name sessions
                keepalive_timeout=config.limits.header_s,  # aiohttp's only limit for headers that do not come
                lingering_time=0,
                auto_decompress=False,
                max_line_size=HEADER_BYTES,
                max_field_size=HEADER_BYTES,
                shutdown_timeout=SHUTDOWN_S,
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.SockSite(runner, listening, ssl_context=tls, backlog=BACKLOG).start()
            self._runner = runner
            self._stack = stack.pop_all()
        host, port = listening.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{name}:{port}/"
        return self

    async def __aexit__(self, *error: object) -> bool | None:
        return await self._stack.__aexit__(*error)  # type: ignore[arg-type]

    def _crowded(self) -> bool:
        server = self._runner.server if self._runner is not None else None
        return server is not None and len(server.connections) > self._config.limits.connections


def _listen(config: ServeConfig) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot listen on {config.host} port {config.port}: {reason}") from error
