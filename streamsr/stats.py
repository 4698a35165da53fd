"""Latency samples and their percentiles."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

import numpy as np

__all__ = ["LatencyWindow", "Percentiles"]

WINDOW = 4096  # samples kept: bounded however long a stream lives


@dataclass(frozen=True, slots=True)
class Percentiles:
    """p50, p95, p99 and maximum in ms over the last samples; count is of all samples ever."""

    p50: float
    p95: float
    p99: float
    max: float
    count: int

    def as_dict(self) -> dict[str, float]:
        return {"p50": round(self.p50, 3), "p95": round(self.p95, 3), "p99": round(self.p99, 3)}


class LatencyWindow:
    """Durations in ms of one stage. Written by one thread; may be read by others."""

    def __init__(self, window: int = WINDOW) -> None:
        self._samples: deque[float] = deque(maxlen=window)
        self._count = 0

    def add(self, ms: float) -> None:
        self._samples.append(ms)
        self._count += 1

    def median(self) -> float:
        """In ms; 0 before the first."""
        return median(tuple(self._samples) or (0.0,))

    def percentiles(self) -> Percentiles:
        samples = np.array(list(self._samples) or [0.0])
        p50, p95, p99 = np.percentile(samples, (50, 95, 99))
        return Percentiles(float(p50), float(p95), float(p99), float(samples.max()), self._count)
