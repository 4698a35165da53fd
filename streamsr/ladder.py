"""The budget ladder of live streams: what a frame's faces get from the time that is left.

In this order: N steps, one step, reuse of the cached detail, the upscaled original. Files never
come here. Costs are learned from what the network really took.

It falls as soon as a rung does not fit, and climbs only where the rung above has fitted with room to
spare for some frames in a row: one after a single hiccup, more where it fell again soon after a climb,
so that a load at the edge does not make it change with every frame.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Ladder", "Rung"]

_SMOOTHING = 0.8
_FORGET = 0.95  # a cost believed too high to try fades, so that one hiccup does not end restoring
_HEADROOM = 1.1  # of what a rung costs, to climb to it
_MAX_PATIENCE = 4  # frames: cached detail holds for twice as long
_SETTLED = 25  # frames on the highest rung after which a fall is a hiccup again


class Rung(Enum):
    STEPS = 0
    ONE_STEP = 1
    CACHE = 2
    ORIGINAL = 3


class Ladder:
    """One stream's estimates, in ms an evaluation of one face, by crop size S, and the rung it stands on."""

    def __init__(self) -> None:
        self._cost_ms: dict[int, float] = {}
        self._guide_ms: dict[int, float] = {}
        self._faded: dict[int, float] = {}  # share of a cost that is still believed
        self._rest_ms = 0.0
        self._rung = Rung.STEPS
        self._steady = _SETTLED  # frames on the highest rung since the last fall
        self._fitting = 0  # frames in a row in which the rung above has fitted
        self._patience = 1  # of them, before a climb

    def learn(self, size: int, evaluations: int, ms: float) -> None:
        """``evaluations``: faces times steps that took ``ms`` together."""
        each = ms / max(1, evaluations)
        cost = self._cost_ms.get(size, each)
        # doubt is settled by a trial: a cost that proves true again is believed again in full
        before = min(max(each, cost * self._faded.pop(size, 1.0)), cost)
        self._cost_ms[size] = _smoothed(before, each)

    def learn_guide(self, size: int, faces: int, ms: float) -> None:
        """``faces`` that the guide read in ``ms`` together."""
        each = ms / max(1, faces)
        self._guide_ms[size] = _smoothed(self._guide_ms.get(size, each), each)

    @property
    def rest_ms(self) -> float:
        """What a frame is believed to take after the network."""
        return self._rest_ms

    def learn_rest(self, ms: float) -> None:
        """What the frame took after the network: pasting and the certificate."""
        self._rest_ms += (1 - _SMOOTHING if self._rest_ms else 1.0) * (ms - self._rest_ms)

    def doubt(self, faces_by_size: dict[int, int]) -> None:
        """For want of time nothing was learned: believe a little less in what these take."""
        for size in faces_by_size:
            self._faded[size] = self._faded.get(size, 1.0) * _FORGET
        self._rest_ms *= _FORGET

    def affords_guide(self, faces_by_size: dict[int, int], left_ms: float) -> bool:
        """Whether the guide may read all faces and one step is still within ``left_ms``."""
        guide_ms = sum(count * self._guide_ms.get(size, 0.0) for size, count in faces_by_size.items())
        return guide_ms + self.one_ms(faces_by_size) * _HEADROOM + self._rest_ms <= left_ms

    def choose(self, faces_by_size: dict[int, int], steps: int, left_ms: float | None) -> Rung:
        """For a frame with ``left_ms`` to its deadline; None: it has none.

        Whether a face has anything cached decides between the last two rungs, face by face.
        """
        if left_ms is None:
            return Rung.STEPS
        if left_ms <= 0:  # late whatever is done; says nothing about the network's cost
            self._fitting = 0
            return Rung.ORIGINAL
        one_ms = self.one_ms(faces_by_size)
        needed_ms = {Rung.STEPS: one_ms * steps + self._rest_ms, Rung.ONE_STEP: one_ms + self._rest_ms}
        highest = next((rung for rung, ms in needed_ms.items() if ms <= left_ms), Rung.CACHE)
        if highest.value > self._rung.value:
            self._fall(highest)
        elif self._rung is not Rung.STEPS:
            above = Rung.STEPS if self._rung is Rung.ONE_STEP or steps == 1 else Rung.ONE_STEP
            self._climb(above, needed_ms[above] * _HEADROOM <= left_ms)
        else:
            self._steady += 1
            if self._steady >= _SETTLED:
                self._patience = 1
        if self._rung is Rung.CACHE:  # where nothing new is learned
            self.doubt(faces_by_size)
        return self._rung

    def _fall(self, rung: Rung) -> None:
        if self._steady < _SETTLED:
            self._patience = min(2 * self._patience, _MAX_PATIENCE)
        self._rung, self._steady, self._fitting = rung, 0, 0

    def _climb(self, above: Rung, fits: bool) -> None:
        self._fitting = self._fitting + 1 if fits else 0
        if self._fitting >= self._patience:
            self._rung, self._fitting = above, 0

    def one_ms(self, faces_by_size: dict[int, int]) -> float:
        """What one evaluation of each face is believed to take."""
        return sum(
            count * self._cost_ms.get(size, 0.0) * self._faded.get(size, 1.0)
            for size, count in faces_by_size.items()
        )


def _smoothed(before: float, now: float) -> float:
    return _SMOOTHING * before + (1 - _SMOOTHING) * now
