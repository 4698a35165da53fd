"""One owned thread that runs blocking calls for an event loop, one after another.

A stage of a pipeline has one: decoding, tracking, the model and encoding each keep to their own
thread, as the libraries beneath them ask, and the loop never blocks. Calls that are running cannot be
stopped from outside; a caller that is cancelled leaves at once, and its call ends on its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import ParamSpec, TypeVar

__all__ = ["THREAD_PREFIX", "Worker", "join"]

P = ParamSpec("P")
T = TypeVar("T")

THREAD_PREFIX = "streamsr-"
POLL_S = 0.05  # between two pokes at threads that should end


class Worker:
    """A thread and its queue of calls. It is a daemon: a call stuck in a C library cannot hold the exit."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._finishing = False
        self._last: Future[object] | None = None
        self._ended: Future[None] = Future()
        self._ended.set_running_or_notify_cancel()  # from here on no cancelled waiter can cancel it
        self._thread = threading.Thread(target=self._run, name=THREAD_PREFIX + name, daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return self._ended.done()

    @property
    def last_error(self) -> BaseException | None:
        """What the call given to ``finish`` raised, once the thread has ended."""
        if self._last is None or not self._last.done():
            return None
        return self._last.exception()

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function`` on the thread and return what it returns or raise what it raises.

        Cancelled while it waits in the queue, it never runs; cancelled while it runs, its result is
        dropped: what must not be lost has to be stored by the function itself.
        Raises RuntimeError after ``finish``.
        """
        if self._finishing:
            raise RuntimeError(f"worker {self.name} takes no more calls")
        return await asyncio.wrap_future(self._put(lambda: function(*args, **kwargs)))

    def finish(self, last: Callable[[], object] | None = None) -> None:
        """End after the calls that are queued and then ``last``. Neither waits nor needs the loop.

        May be called twice; the second ``last`` is ignored.
        """
        if self._finishing:
            return
        self._finishing = True
        if last is not None:
            self._last = self._put(last)
        self._jobs.put(None)

    def wait(self) -> None:
        """Block until the thread has ended; for other threads, not for the loop."""
        self._thread.join()

    async def close(self) -> None:
        """``finish`` and wait for the end. May be called twice."""
        self.finish()
        await self.end()

    async def end(self) -> None:
        """Wait until the thread has ended."""
        await asyncio.wrap_future(self._ended)
        self._thread.join()  # it has nothing left to do

    def _put(self, function: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        self._jobs.put(lambda: _fulfil(future, function))
        return future

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # it holds a picture, and the next one may be long in coming
        self._ended.set_result(None)


def _fulfil(future: Future[T], function: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except StopIteration as error:
        # asyncio refuses to carry it, and the caller would wait for ever
        future.set_exception(RuntimeError(f"StopIteration from a blocking call: {error}"))
    except BaseException as error:  # the boundary of the thread: the caller gets it, whatever it is
        future.set_exception(error)
    else:
        future.set_result(result)


async def join(
    workers: Sequence[Worker], grace_s: float, poke: Callable[[], object] | None = None
) -> tuple[Worker, ...]:
    """Wait until all of ``workers``, already told to finish, have ended, or ``grace_s`` has passed.

    Being cancelled does not shorten the wait, which ``grace_s`` bounds; CancelledError is raised
    after it. ``poke`` is called again and again meanwhile. Returns the workers that have not ended.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + grace_s
    ends = [asyncio.wrap_future(worker._ended) for worker in workers]
    cancelled = False
    while not all(worker.ended for worker in workers) and loop.time() < until:
        if poke is not None:
            poke()
        try:
            await asyncio.wait(ends, timeout=POLL_S)
        except asyncio.CancelledError:
            cancelled = True
    for worker in workers:
        if worker.ended:
            worker.wait()
    if cancelled:
        raise asyncio.CancelledError
    return tuple(worker for worker in workers if not worker.ended)
