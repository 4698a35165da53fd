"""The picture around the faces: bicubic, then one back-projection where the camera's picture bears it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np

__all__ = ["AROUND_PX", "NOISE", "STRENGTH", "Background", "Cover", "upscale"]

STRENGTH = 1.2  # of the back-projection; both measured by ``bench background``
NOISE = 2.0  # of 255: an error of this rms around a px is half believed
AROUND_PX = 5
_AROUND = np.full(AROUND_PX, 1 / AROUND_PX, np.float32)  # as a filter: OpenCV's box takes twice as long
_REACH_PX = 2  # how far a px reaches through an enlargement and a reduction


class Cover(NamedTuple):
    """How much of what lies in area (x0, y0, x1, y1), camera px, a face takes: weight (y1 - y0, x1 - x0)
    float32 in [0, 1]."""

    weight: np.ndarray
    area: tuple[int, int, int, int]


def upscale(image: np.ndarray, scale: int) -> np.ndarray:
    """Bicubic enlargement of (H, W, 3) uint8 to (scale H, scale W, 3); a copy at scale 1."""
    if scale == 1:
        return image.copy()
    height, width = image.shape[:2]
    return cv2.resize(image, (scale * width, scale * height), interpolation=cv2.INTER_CUBIC)


class Background:
    """``upscale`` whose reduction comes nearer to what the camera saw, except where faces are restored.

    One back-projection (Irani and Peleg): x = U (y + g (y - A U y)) on luma, U the enlargement, A the mean
    over scale x scale blocks. g = strength e / (e + noise^2), e the mean square of y - A U y around the px:
    noise is not to be sharpened. For one thread: its memory is kept, new pages each frame cost 3 ms.
    """

    def __init__(self, scale: int, strength: float = STRENGTH, noise: float = NOISE) -> None:
        self._scale, self._strength, self._noise = scale, strength, noise
        self._planes = np.empty((3, 0, 0), np.float32)
        self._change = np.empty((0, 0), np.uint8)
        self._colours, self._sharpened = np.empty((2, 0, 0, 3), np.uint8)

    def enlarge(self, image: np.ndarray, faces: Sequence[Cover | None] = ()) -> np.ndarray:
        """(H, W, 3) uint8 -> (scale H, scale W, 3); ``upscale`` itself under ``faces``, and at scale 1."""
        if self._scale == 1:
            return image.copy()
        if self._sharpened.shape != image.shape:
            self._planes = np.empty((3, *image.shape[:2]), np.float32)
            self._change = np.empty(image.shape[:2], np.uint8)
            self._colours, self._sharpened = np.empty((2, *image.shape), np.uint8)
        error, energy, other = self._planes
        luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        again = _reduced(self._scale)
        cv2.sepFilter2D(luma, cv2.CV_32F, again, again, dst=error, borderType=cv2.BORDER_REPLICATE)
        cv2.subtract(luma, error, dst=error, dtype=cv2.CV_32F)
        cv2.multiply(error, error, dst=other)
        cv2.sepFilter2D(other, cv2.CV_32F, _AROUND, _AROUND, dst=energy)
        np.divide(energy, np.add(energy, np.float32(self._noise**2), out=other), out=energy)
        cv2.multiply(error, energy, dst=error, scale=self._strength)
        for weight, (x0, y0, x1, y1) in filter(None, faces):
            error[y0:y1, x0:x1] *= 1 - weight
        self._add(cv2.add, image, np.maximum(error, 0, out=other))
        self._add(cv2.subtract, self._sharpened, np.minimum(error, 0, out=other))
        return upscale(self._sharpened, self._scale)

    def _add(self, operation: Callable[..., Any], image: np.ndarray, change: np.ndarray) -> None:
        """To all three channels, the modulus of ``change``, rounded: in bytes it takes half the time."""
        cv2.convertScaleAbs(change, dst=self._change)
        cv2.merge([self._change] * 3, dst=self._colours)
        operation(image, self._colours, dst=self._sharpened)


@lru_cache
def _reduced(scale: int) -> np.ndarray:
    """float32: A U as a filter on rows, and on columns."""
    impulse = np.zeros((1, 4 * _REACH_PX + 1), np.float32)
    impulse[0, 2 * _REACH_PX] = 1
    enlarged = cv2.resize(impulse, None, fx=scale, fy=1, interpolation=cv2.INTER_CUBIC)
    again = cv2.resize(enlarged, impulse.shape[::-1], interpolation=cv2.INTER_AREA)
    return again[0, _REACH_PX:-_REACH_PX]
