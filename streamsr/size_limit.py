"""The largest crop that a live stream can afford for its faces.

Restored in every third frame and carried along in between, a larger crop still shows more than a smaller one
that is restored in every frame (``streamsr bench steadiness --every 1,2,3,5 --largest 256,512``). Where there
is not even time for that, a smaller crop is restored more often.
"""

from __future__ import annotations

__all__ = ["SizeLimit"]

OVER_FRAMES = 100  # a share of frames is counted over about so many
MANY = 0.7  # of them without a step: too many
CALM_FRAMES = 250  # in a row, with time to spare, before a larger crop is tried
MOST_CALM_FRAMES = 16 * CALM_FRAMES  # where it was too much again soon after


class SizeLimit:
    """One stream's. sizes: S that there are; faces begin with the largest that suits them."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._sizes = tuple(sorted(sizes))
        self._index = len(sizes) - 1
        self._fallen = 0.0  # share of frames
        self._calm = 0  # frames in a row
        self._patience = CALM_FRAMES
        self._since_raised = MOST_CALM_FRAMES

    @property
    def largest(self) -> int:
        """S."""
        return self._sizes[self._index]

    @property
    def lowered(self) -> bool:
        return self._index < len(self._sizes) - 1

    @property
    def next_smaller(self) -> int | None:
        """S; None below the smallest."""
        return self._sizes[self._index - 1] if self._index > 0 else None

    def saw(self, *, fell: bool, spare: bool) -> None:
        """A frame of faces at ``largest``. fell: one had no step for want of time. spare: there was time for
        the next larger size."""
        self._fallen += (fell - self._fallen) / OVER_FRAMES
        self._since_raised += 1
        if self._fallen > MANY and self._index > 0:
            soon = self._since_raised < self._patience
            self._patience = min(2 * self._patience, MOST_CALM_FRAMES) if soon else CALM_FRAMES
            self._index -= 1
            self._fallen, self._calm = 0.0, 0
        elif self.lowered:
            self._calm = self._calm + 1 if spare and not fell else 0
            if self._calm >= self._patience:
                self._index += 1
                self._fallen, self._calm, self._since_raised = 0.0, 0, 0
