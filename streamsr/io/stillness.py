"""Whether a stream shows the same picture over and over."""

from __future__ import annotations

import av
import cv2
import numpy as np

from ..clock import NS_PER_S

__all__ = ["StillWatch"]

LOOK_S = 0.5  # between two looks at the picture
GAP_S = 2.0  # of the time between two looks, so much counts: while no pictures came, nothing was seen
SAME = 0.1  # mean difference of the luma, in 1/255, below which two pictures are one


class StillWatch:
    """``still`` once the luma has been the same, but for rounding, for ``timeout_s``.

    A scene in which nothing happens is not still: after every keyframe the noise of the sensor is coded
    anew, which changes the luma by 0.5 or more on average; the same picture coded again at a constant
    quality changes by less than 0.07. An encoder that is starved of bits also makes one picture look new
    with every keyframe; that is not found.
    """

    def __init__(self, timeout_s: float) -> None:
        self.still = False
        self._timeout_ns = round(timeout_s * NS_PER_S)
        self._luma: np.ndarray | None = None
        self._same_ns = self._looked_ns = 0

    def see(self, picture: av.VideoFrame, now_ns: int) -> None:
        if self._luma is not None and now_ns - self._looked_ns < LOOK_S * NS_PER_S:
            return
        passed_ns, self._looked_ns = now_ns - self._looked_ns, now_ns
        plane = picture.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        luma = rows[: picture.height, : picture.width]
        if self._same(luma):
            self._same_ns += min(passed_ns, round(GAP_S * NS_PER_S))
        else:
            self._luma, self._same_ns = luma.copy(), 0
        self.still = self._same_ns >= self._timeout_ns

    def _same(self, luma: np.ndarray) -> bool:
        if self._luma is None or luma.shape != self._luma.shape:
            return False
        return cv2.norm(np.ascontiguousarray(luma), self._luma, cv2.NORM_L1) < SAME * luma.size
