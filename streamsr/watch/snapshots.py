"""Small pictures of a camera before and after, for whoever looks at the dashboard just now.

They show the surroundings of the largest face: in a whole picture of this size nobody could see what was
restored. Without a face, the whole picture.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Sequence

import cv2
import numpy as np

from ..clock import NS_PER_S, Clock

__all__ = ["Box", "Snapshots", "chosen_view"]

WIDTH_PX = 480
FACES_WIDE = 3.0  # of a view, in widths of its face
KEPT = (0.6, 1.6)  # a view stays while what it ought to be is so many times as wide,
CENTRAL = 0.3  # and the middle of the face no further than this part of its sides from its own
INTERVAL_S = 0.5
JPEG_QUALITY = 80


Box = tuple[float, float, float, float]  # x, y, width, height
View = tuple[int, int, int, int]


class Snapshots:
    """Keeps the newest pair of pictures while ``wanted``; nothing is copied or encoded otherwise."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._guard = threading.Lock()  # guards all that follows
        self._wanted_until_ns = self._next_ns = 0
        self._pair: tuple[np.ndarray, np.ndarray] | None = None
        self._view: View | None = None  # of before, px; None: all of it

    def want(self, seconds: float) -> None:
        """Somebody looks, for so long."""
        with self._guard:
            self._wanted_until_ns = self._clock.now_ns() + round(seconds * NS_PER_S)

    def show(self, before: np.ndarray, after: np.ndarray, faces_px: Sequence[Box] = ()) -> None:
        """(H, W, 3) uint8 RGB each; they must not be changed afterwards. From any thread; costs nothing.

        faces_px: where they are in ``before``.
        """
        now_ns = self._clock.now_ns()
        with self._guard:
            if self._next_ns <= now_ns < self._wanted_until_ns:
                self._next_ns = now_ns + round(INTERVAL_S * NS_PER_S)
                self._view = chosen_view(faces_px, before.shape, self._view)
                self._pair = _cut(before, self._view, 1.0), _cut(after, self._view, len(after) / len(before))

    def take(self) -> dict[str, str] | None:
        """The newest pair, once, as JPEG in base64 by "before" and "after"."""
        with self._guard:
            pair, self._pair = self._pair, None
        if pair is None:
            return None
        return {which: _jpeg(picture) for which, picture in zip(("before", "after"), pair, strict=True)}


def chosen_view(faces_px: Sequence[Box], shape: tuple[int, ...], before: View | None) -> View | None:
    """Around the largest face, with the sides' ratio of ``shape``; ``before`` while that still fits."""
    height, width = shape[:2]
    if not faces_px:
        return None
    x, y, face_width, face_height = max(faces_px, key=lambda box: box[2] * box[3])
    middle = np.array([x + face_width / 2, y + face_height / 2])
    wanted = min(FACES_WIDE * face_width, width)
    if before is not None:
        sides = np.array(before[2:])
        away = np.abs(middle - (np.array(before[:2]) + sides / 2)) / sides
        inside = before[0] + before[2] <= width and before[1] + before[3] <= height
        if inside and KEPT[0] < wanted / before[2] < KEPT[1] and away.max() < CENTRAL:
            return before
    sides = np.maximum(1, np.round([wanted, wanted * height / width])).astype(int)
    corner = np.clip(np.round(middle - sides / 2), 0, np.array([width, height]) - sides).astype(int)
    return int(corner[0]), int(corner[1]), int(sides[0]), int(sides[1])


def _cut(image: np.ndarray, view: View | None, scale: float) -> np.ndarray:
    """``view``, of a picture ``scale`` times smaller than ``image``."""
    if view is None:
        return image
    x, y, width, height = (round(side * scale) for side in view)
    return image[y : y + height, x : x + width]


def _jpeg(image: np.ndarray) -> str:
    height, width = image.shape[:2]
    if width > WIDTH_PX:
        size = (WIDTH_PX, max(1, round(height * WIDTH_PX / width)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return base64.b64encode(data.tobytes()).decode("ascii")
