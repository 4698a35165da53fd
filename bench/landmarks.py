"""Whether eyes, mouth and outline are where they were: error of the face mesh on the output."""

from __future__ import annotations

import numpy as np

from streamsr.face.mesh import FaceNetworks
from streamsr.train.clips import find_mesh

__all__ = ["LandmarkFinder", "landmark_error"]

OUTER_CORNERS = (33, 263)  # of the eyes


class LandmarkFinder:
    """MediaPipe's face mesh on aligned faces."""

    def __init__(self) -> None:
        self._networks = FaceNetworks()

    def find(self, face: np.ndarray) -> np.ndarray | None:
        """(478, 2) px of the 512 template, of an aligned face (S, S, 3) uint8; None: no face is seen."""
        return find_mesh(self._networks, face)

    def close(self) -> None:
        """May be called twice."""
        self._networks.close()


def landmark_error(found: np.ndarray, truth: np.ndarray) -> float:
    """Normalised mean error in percent: mean distance of two meshes (478, 2) over the distance of the
    truth's outer eye corners, as in the 300-W challenge (Sagonas et al. 2013)."""
    left, right = (truth[corner] for corner in OUTER_CORNERS)
    distances = np.linalg.norm(found - truth, axis=1)
    return float(100 * distances.mean() / np.linalg.norm(right - left))
