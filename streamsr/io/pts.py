"""Presentation times that always increase."""

from __future__ import annotations

__all__ = ["IncreasingPts"]


class IncreasingPts:
    """Repairs the pts of one file or device, in units of its time_base; good pts pass unchanged.

    step: nominal distance of two pictures. A missing pts continues at the last distance; one that
    stands still or slips back by less than a step is moved up by one unit; a longer jump back (a
    clock that was reset, a file joined from several) continues where it happened.
    """

    def __init__(self, step: int) -> None:
        self._step = max(1, step)
        self._last: int | None = None
        self._last_step = self._step
        self._shift = 0
        self.jumps = 0

    def place(self, pts: int | None, duration: int = 0) -> int:
        """The pts to use for a picture whose own is ``pts``; duration: its own, 0 if unknown."""
        if self._last is None:
            placed = 0 if pts is None else pts
        elif pts is None:
            placed = self._last + self._last_step
        else:
            placed = pts + self._shift
            if placed <= self._last - self._step:
                self.jumps += 1
                self._shift += self._last + self._last_step - placed
                placed = self._last + self._last_step
            elif placed <= self._last:
                placed = self._last + 1
        self._last = placed
        self._last_step = duration or self._step
        return placed

    def restart(self, pts: int | None) -> None:
        """The next picture, whose own pts is ``pts``, follows the last one directly."""
        if self._last is not None:
            self._shift = self._last + self._last_step - (pts or 0)
