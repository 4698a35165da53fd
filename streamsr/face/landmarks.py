"""Reading the face mesh: its five alignment points, outline, box and turn.

The mesh is MediaPipe's: 468 points of the face and 5 of each iris. "Left" is the picture's left.
"""

from __future__ import annotations

import numpy as np

from .alignment import TEMPLATE_FIVE, invert, similarity

__all__ = ["FACE_OVAL", "bounding_box", "five_points", "shape_change", "yaw_degrees"]

_LEFT_LIDS = [33, 7, 163, 144, 145, 153, 154, 155, 133, 246, 161, 160, 159, 158, 157, 173]
_RIGHT_LIDS = [263, 249, 390, 373, 374, 380, 381, 382, 362, 466, 388, 387, 386, 385, 384, 398]
_LEFT_IRIS, _RIGHT_IRIS = 468, 473
_NOSE = [1, 2]  # tip and base: the tip alone moves twice as much when the head turns
_LEFT_MOUTH, _RIGHT_MOUTH = 61, 291
_LEFT_SIDE, _RIGHT_SIDE = 234, 454
# clockwise from the middle of the forehead
_RIGHT_HALF = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377]
_LEFT_HALF = [152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
FACE_OVAL = np.array([*_RIGHT_HALF, *_LEFT_HALF])
# From the mesh's points to the template's, in px of the 512 template: fitted so that the mean error of
# the alignment is zero over 828 stills already aligned to the template (98 % of them within 12 px;
# of these 3.0 px rms remain, median 1.7 px).
_FIVE_OFFSET = np.array([[-0.87, 2.37], [1.97, 3.07], [1.58, -9.62], [-3.24, 0.02], [4.91, 0.49]])


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """(478, 2 or 3) mesh in px to the (5, 2) float64 points that ``similarity`` aligns.

    An eye is the mean of its lids and its iris: lids alone follow blinks, irises the gaze.
    """
    p = np.asarray(landmarks, np.float64)[:, :2]
    five = np.stack(
        [
            0.5 * (p[_LEFT_LIDS].mean(0) + p[_LEFT_IRIS]),
            0.5 * (p[_RIGHT_LIDS].mean(0) + p[_RIGHT_IRIS]),
            p[_NOSE].mean(0),
            p[_LEFT_MOUTH],
            p[_RIGHT_MOUTH],
        ]
    )
    to_template = similarity(five, TEMPLATE_FIVE - _FIVE_OFFSET)
    return five + _FIVE_OFFSET @ invert(to_template)[:, :2].T


def bounding_box(landmarks: np.ndarray) -> np.ndarray:
    """(4,) float64: x, y, width, height of the mesh in px."""
    p = np.asarray(landmarks, np.float64)[:, :2]
    low, high = p.min(0), p.max(0)
    return np.concatenate([low, high - low])


def yaw_degrees(landmarks: np.ndarray) -> float:
    """Turn of the head about its vertical axis from a (478, 3) mesh; positive to the picture's right."""
    across = landmarks[_RIGHT_SIDE] - landmarks[_LEFT_SIDE]
    return float(np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1]))))


def shape_change(before: np.ndarray, after: np.ndarray) -> float:
    """How far the mesh moved against itself: rms over its points after the best similarity, per width.

    A face that talks changes by less than about 0.02 between frames; a mesh that loses its face or
    slips on to a hand changes by several times that.
    """
    p = np.asarray(before, np.float64)[:468, :2]
    q = np.asarray(after, np.float64)[:468, :2]
    to_after = similarity(p, q)
    moved = p @ to_after[:, :2].T + to_after[:, 2]
    return float(np.sqrt(((moved - q) ** 2).sum(1).mean()) / max(float(np.ptp(q[:, 0])), 1e-6))
