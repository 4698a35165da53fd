"""Parts of a frame to look at: where the mesh runs, where the detector runs.

A region is a (2, 3) matrix from frame px to px of a 512-px square, as an alignment is; a tile is
x, y, width, height in frame px.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .alignment import TEMPLATE_PX

__all__ = ["mesh_region", "square_region", "tile_around", "tiles"]


def square_region(centre: np.ndarray, side: float, angle: float) -> np.ndarray:
    """(2, 3) from frame px to a 512-px square of ``side`` frame px about ``centre``, turned by ``angle``."""
    k = TEMPLATE_PX / max(side, 1.0)
    rotation = k * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.column_stack([rotation, (TEMPLATE_PX - 1) / 2 - rotation @ centre])


def mesh_region(landmarks: np.ndarray) -> np.ndarray:
    """The region to look at for a face that last had these (478, 3) landmarks: 1.5 times its box."""
    p = landmarks[:468, :2]
    slope = p[263] - p[33]
    angle = float(np.arctan2(slope[1], slope[0]))
    upright = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = p @ upright.T
    low, high = turned.min(0), turned.max(0)
    return square_region(upright.T @ ((low + high) / 2), 1.5 * float((high - low).max()), angle)


@lru_cache(maxsize=16)
def tiles(width: int, height: int) -> tuple[tuple[int, int, int, int], ...]:
    """Parts of a frame to search, x, y, width, height: the whole, squares of its height, small squares.

    The detector sees faces wider than about a tenth of its picture; the small squares bring that down
    to 24 px in a 640x360 frame, 36 px in a 1280x720 one and 110 px in one of 3840x2160.
    """
    found = [(0, 0, width, height)]
    short = min(width, height)
    for side in (short, max(200, round(short / 2.25))):
        if side < 0.8 * max(width, height) and side <= short:
            overlap = side // 6
            xs, ys = (_starts(length, side, overlap) for length in (width, height))
            found += [(x, y, side, side) for y in ys for x in xs]
    return tuple(found)


def _starts(length: int, side: int, overlap: int) -> list[int]:
    count = max(1, int(np.ceil((length - overlap) / (side - overlap))))
    return [round(v) for v in np.linspace(0, length - side, count)]


def tile_around(box: np.ndarray, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """A part of the frame about four times as wide as ``box``, around it."""
    height, width = shape[:2]
    side = max(64, round(4 * float(box[2:].max())))
    centre = box[:2] + box[2:] / 2
    x0 = int(np.clip(centre[0] - side / 2, 0, max(width - side, 0)))
    y0 = int(np.clip(centre[1] - side / 2, 0, max(height - side, 0)))
    return x0, y0, min(side, width - x0), min(side, height - y0)
