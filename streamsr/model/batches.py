"""One thread on which faces are evaluated, those of several callers together where that takes less time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

__all__ = ["Batches"]

T = TypeVar("T")
Run = Callable[[list[Any]], Sequence[Any]]


@dataclass(eq=False, slots=True)
class _Call:
    kind: Hashable
    faces: list[Any]
    run: Run
    results: Future[list[Any]] = field(default_factory=Future)


class Batches:
    """most: faces of a batch of several callers; a call that has more runs alone. 1: all do."""

    def __init__(self, most: int = 1) -> None:
        self.most = most
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="restorer")
        self._lock = threading.Lock()
        self._waiting: list[_Call] = []  # each caller has one, and waits for it

    def alone(self, function: Callable[[], T]) -> T:
        """Called on the thread."""
        return self._thread.submit(function).result()

    def evaluate(self, kind: Hashable, faces: Sequence[Any], run: Run) -> list[Any]:
        """What ``run``, called on the thread, gives for each of ``faces``.

        kind: calls of one kind that wait for the thread are one batch, run by the first one's ``run``: its
        results are to be the same for each face. If it fails, each is run alone, so that a caller gets no
        other's error.
        """
        call = _Call(kind, list(faces), run)
        with self._lock:
            self._thread.submit(self._next)
            self._waiting.append(call)
        return call.results.result()

    def close(self) -> None:
        """After what waits. May be called twice."""
        self._thread.shutdown()

    def _next(self) -> None:
        batch = self._take()
        if len(batch) > 1:
            try:
                found = list(batch[0].run([face for call in batch for face in call.faces]))
            except Exception:  # whoever it was will get it
                found = []
            if found:
                for call in batch:
                    call.results.set_result(found[: len(call.faces)])
                    del found[: len(call.faces)]
                return
        for call in batch:
            try:
                call.results.set_result(list(call.run(call.faces)))
            except BaseException as error:  # the boundary of the thread: the caller gets it, whatever it is
                call.results.set_exception(error)

    def _take(self) -> list[_Call]:
        """The first that waits, and those that join it; nothing if a batch before took it."""
        with self._lock:
            if not self._waiting:
                return []
            first = self._waiting[0]
            batch, count = [first], len(first.faces)
            for call in self._waiting[1:]:
                if call.kind == first.kind and count + len(call.faces) <= self.most:
                    batch.append(call)
                    count += len(call.faces)
            self._waiting = [call for call in self._waiting if call not in batch]
            return batch
