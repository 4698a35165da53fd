"""Small pictures of a camera before and after, for whoever looks at the dashboard just now."""

from __future__ import annotations

import base64
import threading

import cv2
import numpy as np

from ..clock import NS_PER_S, Clock

__all__ = ["Snapshots"]

WIDTH_PX = 320
INTERVAL_S = 0.5
JPEG_QUALITY = 80


class Snapshots:
    """Keeps the newest pair of pictures while ``wanted``; nothing is copied or encoded otherwise."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guard = threading.Lock()  # guards all that follows
        self._wanted_until_ns = self._next_ns = 0
        self._pair: tuple[np.ndarray, np.ndarray] | None = None

    def want(self, seconds: float) -> None:
        """Somebody looks, for so long."""
        with self._guard:
            self._wanted_until_ns = self._clock.now_ns() + round(seconds * NS_PER_S)

    def show(self, before: np.ndarray, after: np.ndarray) -> None:
        """(H, W, 3) uint8 RGB each; they must not be changed afterwards. From any thread; costs nothing."""
        now_ns = self._clock.now_ns()
        with self._guard:
            if self._next_ns <= now_ns < self._wanted_until_ns:
                self._next_ns = now_ns + round(INTERVAL_S * NS_PER_S)
                self._pair = before, after

    def take(self) -> dict[str, str] | None:
        """The newest pair, once, as JPEG in base64 by "before" and "after"."""
        with self._guard:
            pair, self._pair = self._pair, None
        if pair is None:
            return None
        return {which: _jpeg(picture) for which, picture in zip(("before", "after"), pair, strict=True)}


def _jpeg(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    if width > WIDTH_PX:
        size = (WIDTH_PX, max(1, round(height * WIDTH_PX / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return base64.b64encode(data.tobytes()).decode("ascii")
