"""Levels of fidelity that are at hand: a stream that is being shown does not wait for another one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Levels"]

_log = logging.getLogger("streamsr.model")


class Levels:
    """prepare: has a level at hand when it returns; others may be used meanwhile. Thread-safe."""

    def __init__(self, prepare: Callable[[float], None]) -> None:
        self._prepare = prepare
        self._lock = threading.Lock()
        self._ready: set[float] = set()
        self._latest: float | None = None  # that was taken
        self._begun: dict[float, threading.Thread] = {}

    def ready(self, level: float) -> None:
        """It has been prepared."""
        with self._lock:
            self._ready.add(level)

    def take(self, level: float) -> float:
        """``level``, if it is at hand; else the one that was taken last, while this one is prepared aside.
        The first is prepared at once. One that cannot be is logged, and not tried again."""
        with self._lock:
            if level in self._ready or self._latest is None:
                self._latest = level
            elif level not in self._begun:
                self._begun[level] = threading.Thread(target=self._aside, args=(level,), name="level")
                self._begun[level].start()
            return self._latest

    def close(self) -> None:
        """Wait for what is being prepared."""
        with self._lock:
            begun = list(self._begun.values())
        for thread in begun:
            thread.join()

    def _aside(self, level: float) -> None:
        try:
            self._prepare(level)
        except Exception:  # whatever it was, the stream goes on at the level it has
            _log.exception("fidelity %g cannot be had: the one before stays", level)
        else:
            self.ready(level)
