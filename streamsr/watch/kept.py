"""A child process that runs for ever: started again when it dies, with growing pauses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from typing import Literal

from ..clock import MONOTONIC, NS_PER_S
from ..errors import StreamSRError
from ..io.backoff import delays
from .child import Child
from .logs import event

__all__ = ["Kept"]

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
STEADY_S = 20.0  # a process that lived so long starts the pauses from their beginning
TURN_S = 20.0  # whoever has not begun by then gives its turn of starting to the next

Stage = Literal["starting", "backoff", "stopped"]

_log = logging.getLogger("streamsr.watch.supervisor")


class Kept(ABC):
    """``run`` is its life, until ``stop``.

    what: "camera" or "model", for log lines. turns: of starting, so that a hundred processes do not load
    their libraries at the same time; None: no need to wait.
    """

    def __init__(self, what: str, camera: str | None, turns: asyncio.Semaphore | None) -> None:
        self._what, self._camera, self._turns = what, camera, turns
        self._task: asyncio.Task[object] | None = None
        self._child: Child | None = None
        self._begun = asyncio.Event()  # the child has loaded its libraries
        self._stopping = asyncio.Event()
        self._stage: Stage = "starting"
        self._since_ns = MONOTONIC.now_ns()
        self.restarts = 0
        self.error: str | None = None  # why it last died

    async def run(self) -> None:
        """Until ``stop``, or until there is nothing left to do."""
        self._task = asyncio.current_task()
        try:
            await self._keep()
        except asyncio.CancelledError:
            if not self._stopping.is_set():
                raise
        finally:
            self._enter("stopped")

    async def stop(self, patience_s: float) -> None:
        """SIGTERM, and SIGKILL where that does not end it in time; nothing may be left to run."""
        self._stopping.set()
        if self._task is None or self._task.done():
            return
        if self._child is None or self._child.process_id is None:
            self._task.cancel()  # it waits
        else:
            self._child.terminate()
            await asyncio.wait({self._task}, timeout=patience_s)
            self.kill("it did not end in time")
        await asyncio.wait({self._task})

    def kill(self, reason: str) -> None:
        """At once and for good; nothing happens where it does not run."""
        self._stopping.set()
        if self._child is not None:
            self._child.kill(reason)

    @abstractmethod
    def _make(self) -> Child:
        """A child that has not begun. Raises StreamSRError where it cannot be told what to do."""

    def _is_finished(self, child: Child) -> bool:
        """Whether ``child`` has ended because there is nothing left to do."""
        return False

    def _enter(self, stage: Stage) -> None:
        self._stage, self._since_ns = stage, MONOTONIC.now_ns()

    @property
    def _process_id(self) -> int | None:
        return None if self._child is None else self._child.process_id

    @property
    def _since_s(self) -> float:
        return (MONOTONIC.now_ns() - self._since_ns) / NS_PER_S

    async def _keep(self) -> None:
        pauses = delays(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while not self._stopping.is_set():
            began_ns = MONOTONIC.now_ns()
            self._enter("starting")
            try:
                reason = await self._live()
            except (OSError, StreamSRError) as error:
                reason = f"cannot be started: {error}"
            if self._stopping.is_set() or (self._child is not None and self._is_finished(self._child)):
                return
            self._child = None
            if MONOTONIC.now_ns() - began_ns > STEADY_S * NS_PER_S:
                pauses = delays(FIRST_PAUSE_S, LONGEST_PAUSE_S)
            pause_s = next(pauses)
            self.restarts, self.error = self.restarts + 1, self._explained(reason)
            self._enter("backoff")
            message = f"the {self._what} process {self.error}; it is started again in {pause_s:.1f} s"
            event(
                _log,
                logging.ERROR,
                f"{self._what}_died",
                message,
                camera=self._camera,
                restarts=self.restarts,
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)

    def _explained(self, reason: str) -> str:
        """``reason`` in better words, where the child has said some."""
        return reason

    async def _live(self) -> str:
        """The life of one child; in words, why it ended."""
        async with contextlib.AsyncExitStack() as turn:
            if self._turns is not None:
                await turn.enter_async_context(self._turns)
            self._begun.clear()
            self._child = child = self._make()
            life = asyncio.create_task(child.run())
            begun = asyncio.create_task(self._begun.wait())
            try:
                await asyncio.wait({life, begun}, timeout=TURN_S, return_when=asyncio.FIRST_COMPLETED)
                await turn.aclose()
                return await life
            finally:
                begun.cancel()
                life.cancel()
                await asyncio.wait({life})
