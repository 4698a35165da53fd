"""The budget ladder of live streams: what a frame's faces get from the time that is left.

In this order: N steps, one step, reuse of the cached detail, the upscaled original. Files never
come here. Costs are learned from what the network really took.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Ladder", "Rung"]

_SMOOTHING = 0.8
_FORGET = 0.95  # a cost believed too high to try fades, so that one hiccup does not end restoring


class Rung(Enum):
    STEPS = 0
    ONE_STEP = 1
    CACHE = 2
    ORIGINAL = 3


class Ladder:
    """One stream's estimates, in ms an evaluation of one face, by crop size S."""

    def __init__(self) -> None:
        self._cost_ms: dict[int, float] = {}

    def learn(self, size: int, evaluations: int, ms: float) -> None:
        """``evaluations``: faces times steps that took ``ms`` together."""
        each = ms / max(1, evaluations)
        before = self._cost_ms.get(size, each)
        self._cost_ms[size] = _SMOOTHING * before + (1 - _SMOOTHING) * each

    def choose(self, faces_by_size: dict[int, int], steps: int, left_ms: float | None) -> Rung:
        """The highest rung whose estimated cost fits into ``left_ms``; None: no deadline.

        Whether a face has anything cached decides between the last two rungs, face by face.
        """
        if left_ms is None:
            return Rung.STEPS
        one = sum(count * self._cost_ms.get(size, 0.0) for size, count in faces_by_size.items())
        if one * steps <= left_ms:
            return Rung.STEPS
        if one <= left_ms:
            return Rung.ONE_STEP
        for size in faces_by_size:
            if size in self._cost_ms:
                self._cost_ms[size] *= _FORGET
        return Rung.CACHE if left_ms > 0 else Rung.ORIGINAL
