"""The event loop: which one runs, and two answers to questions asyncio leaves open."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .errors import StreamSRError

__all__ = ["run", "settle", "unwrapped"]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run ``main`` on a loop of its own, uvloop's where it is installed."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with contextlib.suppress(ImportError):  # not built for Windows
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def settle(task: asyncio.Task[Any]) -> None:
    """Wait until ``task`` is done, whatever its result; being cancelled meanwhile is raised after it."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError


def unwrapped(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error raised on purpose in ``group``, else its only one, else the group."""
    leaves: list[BaseException] = []
    rest: list[BaseException] = [group]
    while rest:
        error = rest.pop(0)
        if isinstance(error, BaseExceptionGroup):
            rest.extend(error.exceptions)
        else:
            leaves.append(error)
    purposeful = [error for error in leaves if isinstance(error, StreamSRError)]
    if purposeful:
        return purposeful[0]
    return leaves[0] if len(leaves) == 1 else group
