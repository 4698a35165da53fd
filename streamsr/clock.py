"""The one clock. It is passed in wherever time matters, so that tests can bring their own."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["MONOTONIC", "NS_PER_MS", "NS_PER_S", "Clock", "MonotonicClock"]

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class Clock(Protocol):
    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary origin; never goes back."""
        ...


class MonotonicClock:
    """The operating system's monotonic clock."""

    def now_ns(self) -> int:
        return time.monotonic_ns()


MONOTONIC = MonotonicClock()
