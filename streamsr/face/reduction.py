"""How far an output frame, reduced again, lies from the camera's pixels.

A is the mean over scale x scale blocks of the output; at scale 1, over 4x4 blocks of both pictures.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from ..errors import FrameError

__all__ = ["CameraError", "block_side", "certificate"]

BLOCK_AT_SCALE_1 = 4
_STRIPE_PX = 1 << 18  # output px handled at a time: they stay in cache, and large frames in memory

Area = tuple[int, int, int, int]
"""x0, y0, x1, y1, in blocks."""


def block_side(scale: int) -> int:
    """Output px of a block's side."""
    return BLOCK_AT_SCALE_1 if scale == 1 else scale


def certificate(out: np.ndarray, camera: np.ndarray, scale: int) -> tuple[float, float]:
    """rms and largest modulus of A out - camera over the frame and its channels, in units of 1/255."""
    return CameraError(out, camera, scale).figures()


class CameraError:
    """A out - camera (rows, columns, 3) float32, exact, of a frame that may still be written to.

    out: (scale H, scale W, 3) uint8, camera: (H, W, 3) uint8; both are kept. Raises FrameError.
    """

    def __init__(self, out: np.ndarray, camera: np.ndarray, scale: int) -> None:
        expected = (scale * camera.shape[0], scale * camera.shape[1], 3)
        if out.shape != expected or camera.shape[2:] != (3,):
            raise FrameError(f"out must be {expected} for a camera frame {camera.shape}, got {out.shape}")
        self.block = block_side(scale)
        self._out, self._camera, self._scale = out, camera, scale
        rows, columns = (-(-side // self.block) for side in out.shape[:2])
        # larger, they are sums over a block: whole numbers, which OpenCV is quick at
        self._unit = 1.0 if scale == 1 else scale**-2
        self._error: Any = np.empty((rows, columns, 3), np.float32 if scale == 1 else np.int16)
        stripe = max(1, _STRIPE_PX // (out.shape[1] * self.block))
        for row in range(0, rows, stripe):
            self.renew((0, row, columns, min(row + stripe, rows)))

    def at(self, area: Area) -> np.ndarray:
        """(y1 - y0, x1 - x0, 3) float32."""
        return np.multiply(self._at(area), self._unit, dtype=np.float32)

    def output(self, area: Area) -> np.ndarray:
        """The px of ``out`` under these blocks; a view."""
        x0, y0, x1, y1 = (self.block * side for side in area)
        return self._out[y0:y1, x0:x1]

    def renew(self, area: Area) -> None:
        """After ``out`` was written to under these blocks."""
        x0, y0, x1, y1 = area
        if self._scale == 1:
            px = self.block
            seen = self._camera[y0 * px : y1 * px, x0 * px : x1 * px]
            self._at(area)[:] = _partial_means(cv2.subtract(self.output(area), seen, dtype=cv2.CV_32F))
        else:
            sums = _block_sums(self.output(area), self._scale).view(np.int16)  # below 2^14
            seen = np.multiply(self._camera[y0:y1, x0:x1], self._scale**2, dtype=np.int16)
            cv2.subtract(sums, seen, dst=self._at(area))

    def figures(self) -> tuple[float, float]:
        """rms and largest modulus, in units of 1/255."""
        rms = np.sqrt(cv2.norm(self._error, cv2.NORM_L2SQR) / self._error.size)
        return float(rms) * self._unit, cv2.norm(self._error, cv2.NORM_INF) * self._unit

    def _at(self, area: Area) -> Any:
        x0, y0, x1, y1 = area
        return self._error[y0:y1, x0:x1]


def _block_sums(values: np.ndarray, scale: int) -> np.ndarray:
    """Of scale x scale blocks of uint8, as uint16: scale^2 times their means, nothing is rounded."""
    means = np.multiply(values, scale * scale, dtype=np.uint16)
    while scale > 1:  # halves are what OpenCV is quick at
        means = cv2.resize(means, (means.shape[1] // 2, means.shape[0] // 2), interpolation=cv2.INTER_AREA)
        scale //= 2
    return means


def _partial_means(values: np.ndarray) -> np.ndarray:
    """4x4 block means of (H, W, 3) float32; blocks cut by the edge are means of what they have."""
    height, width = values.shape[:2]
    bottom, right = -height % BLOCK_AT_SCALE_1, -width % BLOCK_AT_SCALE_1
    if bottom or right:
        values = cv2.copyMakeBorder(values, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=[0.0])
    size = (values.shape[1] // BLOCK_AT_SCALE_1, values.shape[0] // BLOCK_AT_SCALE_1)
    means = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    if bottom:
        means[-1] = means[-1] * (BLOCK_AT_SCALE_1 / (BLOCK_AT_SCALE_1 - bottom))
    if right:
        means[:, -1] = means[:, -1] * (BLOCK_AT_SCALE_1 / (BLOCK_AT_SCALE_1 - right))
    return means
