"""Where the faces are in the clean frames: regions and landmarks that no method under test can sway."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from .clips import clean_pictures

__all__ = ["FaceTruth", "face_box", "face_region", "face_tracks"]


@dataclass(frozen=True)
class FaceTruth:
    """A face in one clean frame. landmarks: (478, 2) px. matrix: (2, 3), frame px -> 512 template."""

    landmarks: np.ndarray
    matrix: np.ndarray

    def reduced(self, scale: int) -> FaceTruth:
        """The same face in a picture ``scale`` times smaller: X + 0.5 = scale (x + 0.5)."""
        shift = 0.5 * (scale - 1)
        enlarge = np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]])
        return FaceTruth((self.landmarks + 0.5) / scale - 0.5, self.matrix @ enlarge)


def face_tracks(clip: Path, scale: int, frames: int, folder: Path) -> list[list[FaceTruth]]:
    """Faces in every clean frame, by streamsr's own tracker; kept in ``folder`` for the next run."""
    cache = folder / f"{clip.stem}_faces_x{scale}_{frames}.npz"
    if cache.is_file():
        with np.load(cache) as kept:
            flat = [FaceTruth(*pair) for pair in zip(kept["landmarks"], kept["matrices"], strict=True)]
            ends = np.cumsum(kept["counts"])
        return [flat[end - count : end] for end, count in zip(ends, np.diff(ends, prepend=0), strict=True)]
    from streamsr.face.tracker import MediaPipeTracker

    tracker = MediaPipeTracker()
    try:
        found = [
            [
                FaceTruth(face.landmarks, face.matrix)
                for face in tracker.track(picture.image, float(picture.pts * picture.time_base))
            ]
            for picture in clean_pictures(clip, scale, frames)
        ]
    finally:
        tracker.close()
    flat = [face for faces in found for face in faces]
    np.savez(
        cache,
        counts=np.array([len(faces) for faces in found]),
        landmarks=np.array([face.landmarks for face in flat]),
        matrices=np.array([face.matrix for face in flat]),
    )
    return found


def face_region(faces: Sequence[FaceTruth], shape: tuple[int, ...]) -> np.ndarray:
    """(H, W) float32, 1 inside the hull of a face's mesh."""
    region = np.zeros(shape[:2], np.uint8)
    for face in faces:
        cv2.fillConvexPoly(region, cv2.convexHull(np.rint(face.landmarks).astype(np.int32)), (1,))
    return region.astype(np.float32)


def face_box(weight: np.ndarray, margin_px: int = 24) -> tuple[slice, slice]:
    """Rows and columns around a mask: measuring there is as good as, and cheaper than, everywhere.

    The margin is wider than any filter of the measures. Starts are even, so that the 2x2 blocks
    of HaarPSI and of the Haar bands stay where they are in the whole picture.
    """
    rows, columns = np.flatnonzero(weight.any(1)), np.flatnonzero(weight.any(0))
    top, left = (max(0, int(edge[0]) - margin_px) // 2 * 2 for edge in (rows, columns))
    return slice(top, int(rows[-1]) + 1 + margin_px), slice(left, int(columns[-1]) + 1 + margin_px)
