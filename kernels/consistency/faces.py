"""Where each face lies in an output frame, as the kernel wants to know it: one row of a table a face."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import KernelError

__all__ = ["BLOCK_AT_SCALE_1", "FACE", "WORDS", "Placed", "block_px", "table"]

BLOCK_AT_SCALE_1 = 4
_TEMPLATE_PX = 512
_FAR = 1 << 24  # px: beyond any frame, and whole in float32

# A row. to_patch: affine (2, 3), from px of the output, counted from (x0, y0), to px of the patch; to_mask:
# from blocks, counted from (x0, y0) // block. shrink, mask_shrink: px of the patch to one of these, or 1.
FACE = np.dtype(
    [
        ("to_patch", np.float32, 6),
        ("to_mask", np.float32, 6),
        ("shrink", np.float32),
        ("mask_shrink", np.float32),
        ("gain", np.float32),
        ("weight", np.float32),
        ("gamma_luma", np.float32),
        ("gamma_chroma", np.float32),
        ("box", np.int32, 4),  # x0, y0, x1, y1 in output px: nothing of the patch lies outside
        ("patches", np.int32),
        ("index", np.int32),
    ]
)
WORDS = FACE.itemsize // 4


@dataclass(frozen=True, slots=True)
class Placed:
    """One restored face on its way into an output frame.

    matrix: (2, 3), camera px to 512-template px. size: S. patches, index: which set of patches, and which of
    them. gain: of the residual, to levels of 0..255. weight: of its mask. gamma in [0, 1]: share of the luma
    error to project away, Eq. (9), FLAIR; gamma_chroma: the same for colour, by default 1 - (1 - gamma)^2.
    """

    matrix: np.ndarray
    size: int
    index: int
    gamma: float
    gamma_chroma: float | None = None
    gain: float = 1.0
    weight: float = 1.0
    patches: int = 0


def block_px(scale: int) -> int:
    """Side in output px of what is compared with one camera px; at scale 1, with as many of them."""
    return BLOCK_AT_SCALE_1 if scale == 1 else scale


def table(
    frames: Sequence[Sequence[Placed]], height: int, width: int, scale: int, rows: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The faces of each of B output frames (height, width), in the order in which they are pasted.

    Returns faces (rows, WORDS) int32, by default as many as there are faces, and first (B + 1,) int32: frame
    b has those from first[b] to before first[b + 1]. What lies behind the last one is not looked at, so that
    one launch in a graph serves any number of faces up to ``rows``. Raises KernelError for more.
    """
    placed = [face for faces in frames for face in faces]
    if rows is not None and len(placed) > rows:
        raise KernelError(f"there is room for {rows} faces, got {len(placed)}")
    faces = np.zeros(len(placed) if rows is None else rows, FACE)
    for k, face in enumerate(placed):
        faces[k] = _row(face, height, width, scale)
    first = np.cumsum([0, *(len(each) for each in frames)], dtype=np.int32)
    return faces.view(np.int32).reshape(len(faces), WORDS), first


def _row(face: Placed, height: int, width: int, scale: int) -> tuple[object, ...]:
    k = face.size / _TEMPLATE_PX
    to_patch = np.asarray(face.matrix, np.float64) * k  # from camera px
    to_patch[:, 2] += 0.5 * (k - 1)
    to_patch = _stretched(to_patch, 1 / scale)
    block = block_px(scale)
    shrink = math.sqrt(abs(np.linalg.det(to_patch[:, :2])))
    shrinks = max(1.0, shrink), max(1.0, shrink * block)
    box = _box(to_patch, face.size, max(2 * shrinks[0], shrinks[1]), height, width)
    x0, y0 = box[:2]
    return (
        _moved(to_patch, x0, y0).ravel(),
        _moved(_stretched(to_patch, block), x0 // block, y0 // block).ravel(),
        *shrinks,
        face.gain,
        face.weight,
        face.gamma,
        1 - (1 - face.gamma) ** 2 if face.gamma_chroma is None else face.gamma_chroma,
        box,
        face.patches,
        face.index,
    )


def _stretched(matrix: np.ndarray, by: float) -> np.ndarray:
    """The same map from px ``by`` times as large: x + 0.5 = by (X + 0.5)."""
    shift = matrix[:, :2] @ np.full(2, 0.5 * by - 0.5)
    return np.column_stack([matrix[:, :2] * by, matrix[:, 2] + shift])


def _moved(matrix: np.ndarray, x: int, y: int) -> np.ndarray:
    """The same map from px counted from (x, y)."""
    return np.column_stack([matrix[:, :2], matrix[:, 2] + matrix[:, :2] @ (x, y)])


def _box(to_patch: np.ndarray, size: int, reach: float, height: int, width: int) -> tuple[int, int, int, int]:
    """What of a frame the px of a patch reach, by a filter that goes so far; empty at worst."""
    edge = (-reach, size - 1 + reach)
    corners = np.array([[x, y] for x in edge for y in edge])
    reached = np.linalg.solve(to_patch[:, :2], (corners - to_patch[:, 2]).T)
    least = np.clip(np.floor(reached.min(1)), -_FAR, _FAR).astype(int)
    most = np.clip(np.ceil(reached.max(1)) + 1, -_FAR, _FAR).astype(int)
    x0, y0 = min(max(int(least[0]), 0), width), min(max(int(least[1]), 0), height)
    return x0, y0, max(min(int(most[0]), width), x0), max(min(int(most[1]), height), y0)
