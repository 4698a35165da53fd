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
        self._faded: dict[int, float] = {}  # share of a cost that is still believed
        self._rest_ms = 0.0

    def learn(self, size: int, evaluations: int, ms: float) -> None:
        """``evaluations``: faces times steps that took ``ms`` together."""
        each = ms / max(1, evaluations)
        cost = self._cost_ms.get(size, each)
        # doubt is settled by a trial: a cost that proves true again is believed again in full
        before = min(max(each, cost * self._faded.pop(size, 1.0)), cost)
        self._cost_ms[size] = _SMOOTHING * before + (1 - _SMOOTHING) * each

    def learn_rest(self, ms: float) -> None:
        """What the frame took after the network: pasting and the certificate."""
        self._rest_ms += (1 - _SMOOTHING if self._rest_ms else 1.0) * (ms - self._rest_ms)

    def choose(self, faces_by_size: dict[int, int], steps: int, left_ms: float | None) -> Rung:
        """The highest rung whose estimated cost fits into ``left_ms``; None: no deadline.

        Whether a face has anything cached decides between the last two rungs, face by face.
        """
        if left_ms is None:
            return Rung.STEPS
        one = sum(count * self._believed_ms(size) for size, count in faces_by_size.items())
        if one * steps + self._rest_ms <= left_ms:
            return Rung.STEPS
        if one + self._rest_ms <= left_ms:
            return Rung.ONE_STEP
        if left_ms <= 0:  # says nothing about the network's cost
            return Rung.ORIGINAL
        for size in faces_by_size:
            self._faded[size] = self._faded.get(size, 1.0) * _FORGET
        return Rung.CACHE

    def _believed_ms(self, size: int) -> float:
        return self._cost_ms.get(size, 0.0) * self._faded.get(size, 1.0)
