"""An actor of a Ray cluster, from the driver's side: made, asked once a second, replaced, ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import ActorUnavailableError, RayError

from ..clock import MONOTONIC, NS_PER_S
from ..io.backoff import delays
from .logs import ChildLines, event
from .ray_node import Report

__all__ = ["KeptActor"]

ASK_S = 1.0
ASK_AGAIN_S = 0.3  # of one that was not there: Ray may be moving it just now
ANSWER_S = 5.0  # one that has not answered for so long is taken to be gone, until it answers
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0

R = TypeVar("R", bound=Report)

_log = logging.getLogger("streamsr.watch.supervisor")


class KeptActor(ABC, Generic[R]):
    """``run`` is its life, until ``stop``. Ray restarts the actor where it dies; where it is dead for good
    (a mistake at its start, say), another one is made.

    camera: whose it is, for log lines; None: no camera's. There is never more than one question under way:
    an actor that does not answer holds up nothing, and nothing is waiting for it when it does.
    """

    def __init__(self, what: str, camera: str | None) -> None:
        self._what, self._camera = what, camera
        self._lines = ChildLines(camera, process="node")
        self._task: asyncio.Task[object] | None = None
        self._actor: Any = None
        self.stopping = self._lost = False
        self._answered_ns = MONOTONIC.now_ns()
        self.last: R | None = None
        self._earlier = 0  # restarts in earlier lives, and those of the actor itself
        self.error: str | None = None  # why it could not be made, or does not answer

    @abstractmethod
    def _make(self) -> Any:
        """A handle of a new actor."""

    @abstractmethod
    def _ask(self, actor: Any) -> Any:
        """A reference to its report."""

    def _hear(self, report: R) -> None:
        """Take what is new."""

    def _is_needed(self) -> bool:
        """Whether another one is to be made."""
        return True

    @property
    def silent_s(self) -> float:
        """Since its last answer; before the first, since there was to be an actor."""
        return (MONOTONIC.now_ns() - self._answered_ns) / NS_PER_S

    @property
    def restarts(self) -> int:
        """Of the process, on whatever machine."""
        return self._earlier + (self.last.restarts if self.last is not None else 0)

    @property
    def ended(self) -> bool:
        return self._task is not None and self._task.done()

    @property
    def answers(self) -> bool:
        return self.last is not None and not self._lost and self.silent_s < ANSWER_S

    async def run(self) -> None:
        self._task = asyncio.current_task()
        try:
            await self._keep()
        except asyncio.CancelledError:
            if not self.stopping:
                raise
        finally:
            self._drop()

    async def stop(self, patience_s: float) -> None:
        self.stopping = True
        if self._task is None or self._task.done():
            return
        if self._actor is not None and self.answers:
            with contextlib.suppress(RayError, TimeoutError):
                last = self._actor.stop.remote(patience_s)
                self._take(await asyncio.wait_for(_of(last), patience_s + ASK_S))
        self._task.cancel()
        await asyncio.wait({self._task})

    def kill(self, reason: str) -> None:
        self.stopping = True
        self._drop()
        if self._task is not None:
            self._task.cancel()

    async def _keep(self) -> None:
        pauses = delays(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while True:
            heard = self.last
            try:
                self._actor = self._make()
                await self._listen(self._actor)
            except RayError as error:
                self._lose(_reason(error))
            self._drop()
            if self.stopping or not self._is_needed():
                return
            if self.last is not heard:
                pauses = delays(FIRST_PAUSE_S, LONGEST_PAUSE_S)
            pause_s = next(pauses)
            message = f"the {self._what} actor is gone: {self.error}; another is made in {pause_s:.1f} s"
            event(_log, logging.ERROR, "actor_died", message, camera=self._camera)
            await asyncio.sleep(pause_s)

    async def _listen(self, actor: Any) -> None:
        """Until it is dead for good. Raises RayError."""
        while True:
            try:
                self._take(await self._ask(actor))
            except ActorUnavailableError:
                self._lose("its machine or its keeper is gone: Ray starts it again where there is room")
                await asyncio.sleep(ASK_AGAIN_S)
            else:
                await asyncio.sleep(ASK_S)

    def _take(self, report: R) -> None:
        self._answered_ns = MONOTONIC.now_ns()
        self._lost, self.error = False, None
        for line in report.lines:
            self._lines.feed(line.encode())
        before = self.last
        if before is not None and before.life != report.life:
            self._earlier += before.restarts + 1
        if before is None or before.place != report.place:
            message = f"the {self._what} runs on {report.place.name}"
            event(_log, logging.INFO, "placed", message, camera=self._camera, node=report.place.name)
        self._hear(report)
        self.last = report

    def _lose(self, why: str) -> None:
        self._lost, self.error = True, why

    def _drop(self) -> None:
        actor, self._actor = self._actor, None
        if actor is not None:
            ray.kill(actor)


async def _of(answer: Any) -> Any:
    return await answer


def _reason(error: RayError) -> str:
    """The last line: of an error of ours, its words come there, after where it happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
