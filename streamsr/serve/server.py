"""The server: one model, its streams and their HTTP side, from ``async with`` to its end."""

from __future__ import annotations

from contextlib import AsyncExitStack

from ..stages import Enhancer
from ..web import Access, Site
from .config import ServeConfig
from .http import POLICY, application
from .streams import Streams

__all__ = ["Server"]


class Server:
    """``async with Server(config, enhancer) as server``: it answers at ``server.url`` until the block ends.

    The enhancer stays its owner's. Entering raises ConfigError for an address or a certificate that
    cannot be used.
    """

    def __init__(self, config: ServeConfig, enhancer: Enhancer) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self.streams = Streams(config, enhancer)
        self.url = ""

    async def __aenter__(self) -> Server:
        config, access = self._config, Access(self._config, POLICY)
        site = Site(
            application(config, self.streams, access),
            access,
            config,
            connections=config.limits.connections,
            header_s=config.limits.header_s,
        )
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.streams)
            await stack.enter_async_context(site)
            self._stack = stack.pop_all()
        self.url = site.url
        return self

    async def __aexit__(self, *error: object) -> bool | None:
        return await self._stack.__aexit__(*error)  # type: ignore[arg-type]
