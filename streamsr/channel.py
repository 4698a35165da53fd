"""Bounded channels between the stages of a pipeline, each with its policy in its name.

``LatestFrame`` keeps the newest items and counts what it drops: live streams.
``Lossless`` makes its sender wait: files.

Both belong to one event loop, one sender and one receiver. ``close`` ends the stream: items
already sent are still received, then ``receive`` raises ``EndOfStream`` and ``async for`` ends.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

__all__ = ["Channel", "ChannelStatistics", "EndOfStream", "LatestFrame", "Lossless"]

T = TypeVar("T")


class EndOfStream(Exception):
    """The channel is closed and empty."""


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """sent = received + dropped + depth. depth: items waiting now; capacity: most that may wait."""

    sent: int
    received: int
    dropped: int
    depth: int
    max_depth: int
    capacity: int


class Channel(Protocol[T]):
    async def send(self, item: T) -> None: ...
    async def receive(self) -> T: ...
    def close(self) -> None: ...
    def statistics(self) -> ChannelStatistics: ...
    def __aiter__(self) -> AsyncIterator[T]: ...


class _Base(Generic[T]):
    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = asyncio.Event()  # pulsed on every change; waiters look again
        self._closed = False
        self._sent = self._received = self._dropped = self._max_depth = 0

    async def receive(self) -> T:
        """Wait for the oldest item. Raises EndOfStream once closed and empty."""
        while not self._items:
            if self._closed:
                raise EndOfStream
            await self._change()
        self._received += 1
        item = self._items.popleft()
        self._pulse()
        return item

    def __aiter__(self) -> AsyncIterator[T]:
        """Receive until the end of the stream."""
        return self

    async def __anext__(self) -> T:
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """No more items will be sent. May be called twice."""
        self._closed = True
        self._pulse()

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            sent=self._sent,
            received=self._received,
            dropped=self._dropped,
            depth=len(self._items),
            max_depth=self._max_depth,
            capacity=self._capacity,
        )

    def _append(self, item: T) -> None:
        if self._closed:
            raise RuntimeError("send on a closed channel")
        self._items.append(item)
        self._sent += 1
        self._max_depth = max(self._max_depth, len(self._items))
        self._pulse()

    async def _change(self) -> None:
        await self._changed.wait()

    def _pulse(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class LatestFrame(_Base[T]):
    """The ``capacity`` newest items, by default one; a new item pushes out the oldest, which is counted."""

    def __init__(self, capacity: int = 1) -> None:
        super().__init__(capacity)

    async def send(self, item: T) -> None:
        """Never waits for the receiver. Raises RuntimeError after ``close``."""
        self.push(item)

    def push(self, item: T) -> None:
        """``send``, for callbacks of the loop."""
        if len(self._items) >= self._capacity and not self._closed:
            self._items.popleft()
            self._dropped += 1
        self._append(item)


class Lossless(_Base[T]):
    """A queue of ``capacity`` items; a full one makes ``send`` wait."""

    async def send(self, item: T) -> None:
        """Wait for room. Raises RuntimeError after ``close``, also while it waits."""
        while len(self._items) >= self._capacity and not self._closed:
            await self._change()
        self._append(item)
