"""Faces in a part of the picture only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..face.tracker import TrackedFace, Tracker

__all__ = ["RegionTracker"]

FADE_WIDTHS = 0.25  # face widths from the region's edge within which the effect fades: nobody flashes there


class RegionTracker:
    """Passes on the faces of ``tracker`` whose middle is inside ``roi_px``: x, y, width, height in px.

    The picture is looked at as a whole: a face keeps its identity while it is outside.
    """

    def __init__(self, tracker: Tracker, roi_px: tuple[int, int, int, int]) -> None:
        self._tracker, self._roi_px = tracker, roi_px

    def track(self, image: np.ndarray, time_s: float) -> list[TrackedFace]:
        size = (image.shape[1], image.shape[0])
        inside = []
        for face in self._tracker.track(image, time_s):
            depth_px = self._depth_px(face, size)
            if depth_px > 0:
                share = min(1.0, depth_px / (FADE_WIDTHS * face.roi_px[2]))
                inside.append(replace(face, blend=face.blend * share))
        return inside

    def reset(self) -> None:
        self._tracker.reset()

    def close(self) -> None:
        self._tracker.close()

    def _depth_px(self, face: TrackedFace, size: tuple[int, int]) -> float:
        """How far its middle is inside; negative: outside. Edges of the picture itself do not count."""
        depth_px = float("inf")
        for axis in (0, 1):
            middle = face.roi_px[axis] + face.roi_px[axis + 2] / 2
            begin, length = self._roi_px[axis], self._roi_px[axis + 2]
            if begin > 0:
                depth_px = min(depth_px, middle - begin)
            if begin + length < size[axis]:
                depth_px = min(depth_px, begin + length - middle)
        return depth_px
