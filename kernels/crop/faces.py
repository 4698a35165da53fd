"""Where each crop lies in its frame, as the kernel wants to know it: one row of a table a face."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import KernelError
from ...frame import Matrix, Range
from ..colour.reference import coefficients
from ..launch import VIEW, check, view

__all__ = ["CELLS", "FACE", "TILE", "WORDS", "Nv12", "Picture", "Placed", "table"]

TILE, CELLS = 16, 28  # of crop.cu
_TEMPLATE_PX = 512

# Of x_in or y. The region is the part of the frame under the crop: its first px, how many it has, into how
# many cells they are averaged, each across and down. to_cell: affine (2, 3), from px of the crop to cells.
_PLAN = np.dtype(
    [("to_cell", np.float32, 6), ("origin", np.int32, 2), ("px", np.int32, 2), ("cells", np.int32, 2)]
)
_NONE, _RGB, _NV12 = 0, 1, 2
FACE = np.dtype(
    [
        ("first", VIEW),  # RGB (H, W, 3), or Y (H, W)
        ("second", VIEW),  # CbCr (h, w, 2)
        ("plans", _PLAN, 2),  # x_in, y
        ("to_rgb", np.float32, (3, 4)),
        ("kind", np.int32),
        ("batch", np.int32),
        ("index", np.int32),
        ("frame", np.int32),
    ],
    align=True,
)
WORDS = FACE.itemsize // 8


class Nv12(NamedTuple):
    """A decoded frame: y (H, W), uv (ceil(H/2), ceil(W/2), 2) uint8, and how it codes colour."""

    y: Tensor
    uv: Tensor
    matrix: Matrix = Matrix.BT709
    span: Range = Range.LIMITED


Picture = Tensor | Nv12  # a Tensor: (H, W, 3) uint8 RGB, full range


@dataclass(frozen=True, slots=True)
class Placed:
    """A face to be cut out. frame: which of the frames it is in; matrix: (2, 3) similarity, px of that frame
    to px of the 512 template; batch, index: which batch of crops it goes into, and where in it."""

    frame: int
    matrix: np.ndarray
    index: int
    batch: int = 0


def table(
    frames: Sequence[Picture], placed: Sequence[Placed], sizes: Sequence[int], rows: int | None = None
) -> np.ndarray:
    """(rows, WORDS) int64: ``placed``, each with where its frame lies in memory; then rows without a face.

    sizes: S of each batch. rows: by default as many as there are faces; a launch in a graph serves any number
    up to it, and frames that lie elsewhere each time. Raises KernelError for more, and for frames or matrices
    that do not fit.
    """
    if rows is not None and len(placed) > rows:
        raise KernelError(f"there is room for {rows} faces, got {len(placed)}")
    faces = np.zeros(len(placed) if rows is None else rows, FACE)
    pictures = [_picture(frame) for frame in frames]
    for row, face in zip(faces, placed, strict=False):
        row["first"], row["second"], row["to_rgb"], row["kind"] = pictures[face.frame]
        row["batch"], row["index"], row["frame"] = face.batch, face.index, face.frame
        height, width = row["first"]["size"][:2].tolist()
        size = sizes[face.batch]
        for k, side in enumerate((size, size // 4)):
            row["plans"][k] = _plan(face.matrix, side, height, width)
    return faces.view(np.int64).reshape(len(faces), WORDS)


def _picture(frame: Picture) -> tuple[object, ...]:
    if isinstance(frame, Tensor):
        check("a frame", frame, (None, None, 3), (torch.uint8,), frame.device)
        return view(frame), np.zeros((), VIEW), np.eye(3, 4), _RGB
    y, uv, matrix, span = frame
    check("y of a frame", y, (None, None), (torch.uint8,), y.device)
    height, width = y.shape
    check("uv of a frame", uv, (-(-height // 2), -(-width // 2), 2), (torch.uint8,), y.device)
    table = np.array(coefficients(matrix, span))
    back = np.linalg.inv(table[:, :3])
    return view(y), view(uv), np.column_stack([back, -back @ table[:, 3]]), _NV12


def _plan(matrix: np.ndarray, size: int, height: int, width: int) -> tuple[object, ...]:
    """As ``face.alignment.crop_aligned`` reduces the part of a frame that lies under a crop."""
    k = size / _TEMPLATE_PX
    to_crop = np.asarray(matrix, np.float64) * k
    to_crop[:, 2] += 0.5 * (k - 1)
    area = abs(np.linalg.det(to_crop[:, :2])) if np.isfinite(to_crop).all() else 0.0
    if area < 1e-12:
        raise KernelError(f"matrix must be a similarity, got {np.asarray(matrix).tolist()}")
    back = np.linalg.inv(to_crop[:, :2])
    shrink = max(1.0, 1 / math.sqrt(area))
    edge = np.array([[x, y] for x in (-0.5, size - 0.5) for y in (-0.5, size - 0.5)])
    corners = (edge - to_crop[:, 2]) @ back.T
    margin, most = 2 * shrink + 1, np.array([width, height])
    first = np.clip(np.floor(corners.min(0) - margin), 0, most - 1).astype(int)
    end = np.clip(np.ceil(corners.max(0) + margin) + 1, first + 1, most).astype(int)
    px = end - first
    cells = np.maximum(np.round(px / shrink), 1).astype(int)
    side = (px / cells)[:, None]
    linear = back / side
    shift = (-back @ to_crop[:, 2] - first + 0.5)[:, None] / side - 0.5
    reached = np.minimum(np.ceil((TILE - 1) * np.abs(linear).sum(1)) + 4, cells)
    if reached.max() > CELLS:
        raise KernelError(f"matrix must be a similarity, got {np.asarray(matrix).tolist()}")
    return np.column_stack([linear, shift]).ravel(), first, px, cells
