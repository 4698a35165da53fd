"""How a face moved within its aligned crop from one frame to the next."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np

__all__ = ["MOTION_PX", "Motion", "MotionFinder", "motion_picture"]

MOTION_PX = 128  # side of the grid on which motion is found: finer grids follow noise
_AGREES_PX = 1.0  # of that grid: how far there and back may end from where it began


class Motion(NamedTuple):
    """flow (MOTION_PX, MOTION_PX, 2) float32, px of that grid: what is at p now was at p + flow(p) before.
    valid (MOTION_PX, MOTION_PX) float32, 0 or 1: where going there and back agrees."""

    flow: np.ndarray
    valid: np.ndarray


class MotionFinder:
    """Dense inverse search (OpenCV's DIS) on luma, forward and backward. For one thread."""

    def __init__(self) -> None:
        self._search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        px = np.arange(MOTION_PX, dtype=np.float32)
        self._grid = np.dstack(np.meshgrid(px, px))

    def find(self, before: np.ndarray, now: np.ndarray) -> Motion:
        """Between two pictures (S, S, 3) uint8 RGB of the same face, S at least MOTION_PX."""
        first, second = (_small_luma(picture) for picture in (before, now))
        flow = self._search.calc(second, first, None)
        back = self._search.calc(first, second, None)
        at = self._grid + flow
        returned = flow + cv2.remap(  # type: ignore[call-overload]  # None: there is one map
            back, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        squares = returned * returned
        valid = squares[..., 0] + squares[..., 1] < _AGREES_PX**2
        return Motion(flow, valid.astype(np.float32))


def motion_picture(x_in: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of a crop's two pictures the smaller one, if motion can be found in it."""
    return y if len(y) >= MOTION_PX else x_in


def _small_luma(picture: np.ndarray) -> np.ndarray:
    small = picture
    if len(picture) != MOTION_PX:
        small = cv2.resize(picture, (MOTION_PX, MOTION_PX), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
