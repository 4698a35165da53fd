"""A child process's end of the line to the supervisor: lines of JSON both ways over an inherited socket.

In: first the job, then commands. Out: messages, each with a "kind". The line's end is the supervisor's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

__all__ = ["LINE_BYTES", "Link"]

LINE_BYTES = 2**20  # longest line: a picture for the dashboard is about 30 KB
BACKLOG_BYTES = 2**20  # that wait for a supervisor that reads slowly; more is left out


class Link:
    """``link = await Link.inherited(fd)``; then ``job``, once, then ``commands``, to the supervisor's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def inherited(cls, fd: int) -> Link:
        os.set_inheritable(fd, False)  # a child of this child must not keep the line open
        reader, writer = await asyncio.open_unix_connection(sock=socket.socket(fileno=fd), limit=LINE_BYTES)
        return cls(reader, writer)

    async def job(self) -> dict[str, Any]:
        """Raises EOFError where the supervisor is gone already."""
        line = await self._reader.readline()
        if not line:
            raise EOFError("the supervisor is gone")
        return json.loads(line)  # type: ignore[no-any-return]

    async def commands(self) -> AsyncIterator[dict[str, Any]]:
        while line := await self._reader.readline():
            yield json.loads(line)

    def send(self, kind: str, **message: Any) -> None:
        """Never waits; left out where the supervisor has not read for long. On the loop's thread."""
        if self._writer.transport.get_write_buffer_size() < BACKLOG_BYTES:
            self._writer.write(json.dumps({"kind": kind, **message}).encode() + b"\n")

    async def close(self) -> None:
        """Once what was sent is on its way."""
        with contextlib.suppress(ConnectionError):
            self._writer.close()
            await self._writer.wait_closed()
