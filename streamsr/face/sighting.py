"""A face mesh found in one frame, and how far it can be believed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .alignment import TEMPLATE_PX, crop_aligned, invert, rescale_template, similarity
from .landmarks import bounding_box, five_points
from .mesh import DETECTOR_PX, MESH_PX, FaceNetworks
from .regions import mesh_region

__all__ = [
    "PRESENCE_MIN",
    "Sighting",
    "appearance",
    "credit",
    "distinct",
    "holds",
    "look",
    "normalised",
    "overlap",
    "smoothstep",
]

PRESENCE_MIN = 0.5  # of the mesh network's own score
SLIP_MAX = 0.04  # rms slip of a mesh, per width: 95 % of true faces, even of 24 px, stay below 0.032
SAME_FACE = 0.5  # two meshes nearer than this share of their width are of one face


@dataclass(slots=True)
class Sighting:
    """A mesh found in the present frame.

    landmarks: (478, 3) in frame px. look: a small normalised picture of the aligned face, flat.
    credit in [0, 1]: what the detector makes of it; None where it was not asked.
    """

    landmarks: np.ndarray
    presence: float
    look: np.ndarray
    credit: float | None = None
    box: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.box = bounding_box(self.landmarks)

    @property
    def centre(self) -> np.ndarray:
        return self.box[:2] + self.box[2:] / 2


def look(networks: FaceNetworks, image: np.ndarray, region: np.ndarray) -> Sighting | None:
    """Run the mesh on a ``region``, a (2, 3) matrix from frame px to px of a 512-px square.

    None where there is no face.
    """
    crop = crop_aligned(image, region, MESH_PX)
    points, presence = networks.mesh(crop)
    if presence < PRESENCE_MIN:
        return None
    try:
        to_template = similarity(five_points(points))
    except ValueError:  # a mesh shrunk to a point is no face
        return None
    to_frame = invert(rescale_template(region, MESH_PX))
    landmarks = points.copy()
    landmarks[:, :2] = points[:, :2] @ to_frame[:, :2].T + to_frame[:, 2]
    landmarks[:, 2] *= np.sqrt(abs(np.linalg.det(to_frame[:, :2])))
    return Sighting(landmarks, presence, appearance(crop, to_template))


def credit(networks: FaceNetworks, image: np.ndarray, sighting: Sighting) -> float:
    """What the detector makes of ``sighting``: its score, less where it puts the eyes elsewhere.

    The mesh finds a face in anything face-like and behind anything; over clear faces the detector
    scores above 0.7, over faces half hidden 0.1 to 0.6, over junk nothing.
    """
    region = mesh_region(sighting.landmarks) / 2  # 3 times the box
    region[:, 2] += TEMPLATE_PX / 4 - 0.25
    to_frame = invert(rescale_template(region, DETECTOR_PX))
    eyes = np.stack([sighting.landmarks[c, :2].mean(0) for c in ([33, 133], [362, 263])])
    best = 0.0
    for found in networks.detect(crop_aligned(image, region, DETECTOR_PX)):
        gap = found.eyes @ to_frame[:, :2].T + to_frame[:, 2] - eyes
        apart = float(np.linalg.norm(gap, axis=1).max() / sighting.box[2])
        best = max(best, smoothstep(0.2, 0.65, found.score) * (1 - smoothstep(0.12, 0.3, apart)))
    return best


def holds(networks: FaceNetworks, image: np.ndarray, sighting: Sighting) -> bool:
    """Whether the mesh stays where it is when its region moves: on a face; on a pattern it slips."""
    width = sighting.box[2]
    for step in ((0.12, 0.0), (-0.12, 0.12)):
        region = mesh_region(sighting.landmarks)
        region[:, 2] -= region[:, :2] @ (np.array(step) * width)
        again = look(networks, image, region)
        if again is None:
            return False
        slip = ((again.landmarks[:468, :2] - sighting.landmarks[:468, :2]) ** 2).sum(1).mean()
        if np.sqrt(slip) > SLIP_MAX * width:
            return False
    return True


def appearance(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The inner part of the face that ``matrix`` aligns, 18 px wide, normalised and flat."""
    return normalised(crop_aligned(image, matrix, 24)[3:-3, 3:-3])


def normalised(picture: np.ndarray) -> np.ndarray:
    """Flat, without mean, of length 1 (or 0 where it is even): a scalar product is a correlation."""
    flat = picture.astype(np.float32).ravel()
    flat -= flat.mean()
    length = float(np.linalg.norm(flat))
    # below one grey level of contrast there is nothing but noise to compare
    return flat / length if length > np.sqrt(flat.size) else np.zeros_like(flat)


def overlap(a: Sighting, b: Sighting) -> bool:
    """Whether the two are of one face."""
    gap = float(np.linalg.norm(a.centre - b.centre))
    return gap < SAME_FACE * max(a.box[2], b.box[2])


def distinct(sightings: list[Sighting]) -> list[Sighting]:
    """One sighting of each face: of two that overlap, the one with the higher presence, then the first."""
    kept: list[Sighting] = []
    for sighting in sorted(sightings, key=lambda s: -s.presence):
        if not any(overlap(sighting, other) for other in kept):
            kept.append(sighting)
    return kept


def smoothstep(low: float, high: float, value: float) -> float:
    """0 up to ``low``, 1 from ``high``, without a kink between."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)
