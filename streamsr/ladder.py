"""The budget ladder of live streams: what a frame's faces get from the time that is left.

In this order: N steps, one step, reuse of the cached detail, the upscaled original. Files never
come here. Costs are learned from what the network really took. A machine that falls behind for
longer than a moment is not left on the lower rungs: the whole stream goes on at S = 256.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Ladder", "Pace", "Rung"]

_SMOOTHING = 0.8
_FORGET = 0.95  # a cost believed too high to try fades, so that one hiccup does not end restoring


_MISS_SMOOTHING = 0.96  # over the last 25 frames
_TOO_MANY = 0.1  # share of frames missed at which a stream goes coarse
_FINE_COST = 1.5  # what a face at S = 512 costs, of one at 256
_AMPLE = 0.6  # share of the time left that this may take, before a coarse stream turns fine again
_HOLD_FRAMES = 500
_START_FRAMES = 50  # of a stream say little: everything is still being set up


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

    def cost_ms(self, faces_by_size: dict[int, int]) -> float:
        """Of one step for all faces and what follows the network."""
        return sum(n * self._cost_ms.get(size, 0.0) for size, n in faces_by_size.items()) + self._rest_ms

    def _believed_ms(self, size: int) -> float:
        return self._cost_ms.get(size, 0.0) * self._faded.get(size, 1.0)


class Pace:
    """Whether a live stream's faces are restored at S = 256 where their size would suit 512.

    Every face, in time, at two thirds of the cost, rather than some of them: decided for the stream and
    held, because a change of S shows and begins every face's memory anew.
    """

    def __init__(self) -> None:
        self.coarse = False
        self._missed = 0.0
        self._held = 0

    def observe(self, restored: bool, dropped: int, cost_ms: float, left_ms: float) -> None:
        """After a frame with faces to restore. dropped: frames lost before it for want of time.

        cost_ms: of the frame; left_ms: what there was until its deadline.
        """
        self._held += 1
        if self._held <= _START_FRAMES:
            return
        for missed in [1.0] * min(dropped, 25) + [float(not restored)]:
            self._missed = _MISS_SMOOTHING * self._missed + (1 - _MISS_SMOOTHING) * missed
        if not self.coarse and self._missed > _TOO_MANY:
            self.coarse, self._held = True, 0
        elif self.coarse and self._held > _HOLD_FRAMES and _FINE_COST * cost_ms < _AMPLE * left_ms:
            self.coarse, self._missed = False, 0.0
