"""Where in an aligned crop the face is, softly."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from .alignment import rescale_template
from .landmarks import FACE_OVAL

__all__ = ["drawn_mask", "face_mask"]

_REDUCTION = 4  # the mask is smooth: it is drawn at a quarter of the size
_FOREHEAD = 0.7  # the mesh ends below the hair: what lies above the brows is stretched by this share
_WIDER = 1.3  # ears, beard and the nearer hair: half-enhanced hair shows
_FEATHER = 0.05  # sigma of the soft edge, per crop side
_BORDER = 0.1  # of the side, over which the mask falls to 0 towards the crop's own edge
_BROWS = [105, 334]


def face_mask(landmarks: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """The face of ``landmarks`` (478, 2) frame px in the crop that ``matrix`` cuts, with forehead.

    Returns (size, size) float32 in [0, 1]: 1 over the face, a soft edge, exactly 0 along the crop's
    border so that nothing pasted through it shows a seam.
    """
    drawn = drawn_mask(landmarks, matrix, size)
    mask = cv2.resize(drawn, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.minimum(mask, 1.0, out=mask)


def drawn_mask(landmarks: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """``face_mask`` before it is enlarged to ``size``, bilinearly, and kept to at most 1."""
    small = max(size // _REDUCTION, 8)
    to_crop = rescale_template(matrix, small)
    points = np.asarray(landmarks, np.float64)[:, :2] @ to_crop[:, :2].T + to_crop[:, 2]
    oval = points[FACE_OVAL]
    brow, chin = points[_BROWS].mean(0), points[152]
    up = brow - chin
    up /= max(float(np.linalg.norm(up)), 1e-6)
    above = np.maximum((oval - brow) @ up, 0.0)
    oval = oval + (_FOREHEAD * above)[:, None] * up
    centre = (oval.min(0) + oval.max(0)) / 2
    hull = cv2.convexHull((centre + _WIDER * (oval - centre)).astype(np.float32))
    drawn = np.zeros((small, small), np.float32)
    # 16ths of a px; far beyond the crop the drawing's own integers would overflow
    corners = np.clip(np.round(hull * 16), -(2**20), 2**20).astype(np.int32)
    cv2.fillConvexPoly(drawn, corners, [1.0], lineType=cv2.LINE_8, shift=4)
    return cv2.GaussianBlur(drawn, (0, 0), _FEATHER * small) * _ramp(small)


@lru_cache(maxsize=8)
def _ramp(size: int) -> np.ndarray:
    """(size, size) float32: 0 on the border, 1 from ``_BORDER`` inwards."""
    inward = np.minimum(np.arange(size), np.arange(size)[::-1]) / max(_BORDER * size, 1.0)
    t = np.clip(inward, 0.0, 1.0)
    side = (t * t * (3 - 2 * t)).astype(np.float32)
    return np.minimum(side[:, None], side[None, :])
