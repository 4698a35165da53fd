"""A face's restored detail in time, without the network: held steady, or taken from an earlier frame.

The detail of an earlier frame is moved to where the face is now, and counts wherever the camera's picture
says that it still fits (motion and mask as in the recurrent cache of the network, after DGAF-VSR; its
rescaling s is 1 here: s = 2 and 4 hold less steady). Steady: a recursive filter mixes it into this frame's.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from ..misfit import fits
from .motion import MOTION_PX, Motion, MotionFinder, motion_picture

__all__ = ["COARSE", "KEPT", "Detailed", "Seen", "SteadyDetail"]

KEPT = 0.6
LEVELS = 127.5  # 1 of [-1, 1]
COARSE = 16  # px: what is coarser than so many is this frame's own
_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)


class Seen(NamedTuple):
    """x_in (S, S, 3), y (S/4, S/4, 3) uint8 RGB, both cut from the camera's picture."""

    x_in: np.ndarray
    y: np.ndarray


class Detailed(NamedTuple):
    """As ``Seen``; residual (S, S, 3) float32 in levels, to be added to x_in."""

    x_in: np.ndarray
    y: np.ndarray
    residual: np.ndarray


class SteadyDetail:
    """For one thread, any number of faces. kept: of what was, where it fits."""

    def __init__(self, kept: float = KEPT) -> None:
        self._kept = kept
        self._motion = MotionFinder()
        self._grids: dict[int, np.ndarray] = {}

    def __call__(self, before: Detailed, now: Detailed) -> np.ndarray:
        """The residual of ``now`` with the fine part of its luma held steady. Both of one face and one S."""
        motion = self._between(before, now)
        old, new = (cv2.transform(each.residual, _LUMA) for each in (before, now))
        change = self._moved(old, motion) - new
        change -= _coarse(change)
        change *= cv2.resize(self._kept * self._fits(before.y, now.y, motion), new.shape)
        return np.asarray(cv2.add(now.residual, cv2.merge([change, change, change])))

    def carried(self, before: Detailed, now: Seen) -> np.ndarray:
        """The residual of ``before`` as of ``now``, for a frame that has none of its own; 0 where it does not
        fit any more. Both of one face and one S."""
        motion = self._between(before, now)
        moved, fits = self._moved(before.residual, motion), self._fits(before.y, now.y, motion)
        fits = cv2.resize(fits, moved.shape[1::-1])
        return np.asarray(cv2.multiply(moved, cv2.merge([fits, fits, fits])))

    def _between(self, before: Detailed, now: Detailed | Seen) -> Motion:
        return self._motion.find(*(motion_picture(each.x_in, each.y) for each in (before, now)))

    def _fits(self, before: np.ndarray, now: np.ndarray, motion: Motion) -> np.ndarray:
        """(h, w) in [0, 1]: where ``before`` moved is what is seen ``now``, both (h, w, 3) uint8."""
        change = cv2.subtract(now, self._moved(before, motion), dtype=cv2.CV_32F)
        return fits(cv2.blur(change, (3, 3)), motion.valid, LEVELS)

    def _moved(self, x: np.ndarray, motion: Motion) -> np.ndarray:
        side = len(x)
        at = cv2.resize(motion.flow * np.float32(side / MOTION_PX), (side, side))
        np.add(at, self._grid(side), out=at)
        cells, fractions = cv2.convertMaps(at, None, cv2.CV_16SC2)  # type: ignore[call-overload]
        return np.asarray(cv2.remap(x, cells, fractions, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))

    def _grid(self, side: int) -> np.ndarray:
        if side not in self._grids:
            px = np.arange(side, dtype=np.float32)
            self._grids[side] = np.dstack(np.meshgrid(px, px))
        return self._grids[side]


def _coarse(x: np.ndarray) -> np.ndarray:
    """``x`` (S, S) without what is finer than COARSE px."""
    side = len(x) // COARSE
    small = cv2.blur(cv2.resize(x, (side, side), interpolation=cv2.INTER_AREA), (3, 3))
    return np.asarray(cv2.resize(small, (len(x), len(x))))
