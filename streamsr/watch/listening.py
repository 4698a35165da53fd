"""The HTTP side, on whatever address the configuration names just now."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from ..errors import ConfigError
from ..web import Listen, Site
from .http import Watched, site
from .logs import event

__all__ = ["Listening"]

_log = logging.getLogger(__name__)


class Listening:
    """``async with Listening(watched) as listening``; ``change`` at the start and with the configuration."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._listen: Listen | None = None
        self._site: Site | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def change(self, listen: Listen | None) -> None:
        """None: nowhere. Raises ConfigError where that is impossible, and goes on as before."""
        if listen == self._listen:
            return
        before = self._listen
        await self._leave()  # first: the new address may be the old one, with another token
        try:
            await self._enter(listen)
        except ConfigError:
            await self._enter(before)
            raise

    async def _enter(self, listen: Listen | None) -> None:
        if listen is not None:
            found = site(self._watched, listen)
            await found.__aenter__()
            self._site = found
            event(_log, logging.INFO, "listening", f"metrics and dashboard at {found.url}", url=found.url)
        self._listen = listen

    async def _leave(self) -> None:
        found, self._site, self._listen = self._site, None, None
        if found is not None:
            await found.__aexit__(None, None, None)
