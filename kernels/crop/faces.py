"""Where each crop lies in its frame, as the kernel wants to know it: one row of a table a face."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...errors import KernelError
from ...frame import Matrix, Range
from ...ycbcr import coefficients
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
    frames: Sequence[Picture],
    placed: Sequence[Placed],
    batches: Sequence[tuple[int, int]],
    rows: int | None = None,
) -> np.ndarray:
    """(rows, WORDS) int64: ``placed``, each with where its frame lies in memory; then rows without a face.

    batches: N and S of each. rows: by default as many as there are faces; a launch in a graph serves any
    number up to it, and frames that lie elsewhere each time. Raises KernelError for more, and for frames,
    places or matrices that do not fit.
    """
    if rows is not None and len(placed) > rows:
        raise KernelError(f"there is room for {rows} faces, got {len(placed)}")
    seen = np.zeros(len(frames), FACE)
    for frame, row in zip(frames, seen, strict=True):
        row["first"], row["second"], row["to_rgb"], row["kind"] = _picture(frame)
    faces = np.zeros(len(placed) if rows is None else rows, FACE)
    if placed:
        for face in placed:
            _check_places(face, len(frames), batches)
        there = faces[: len(placed)]
        there[:] = seen[[face.frame for face in placed]]
        for name in ("batch", "index", "frame"):
            there[name] = [getattr(face, name) for face in placed]
        matrices = np.array([face.matrix for face in placed], np.float64)
        sizes = np.array([batches[face.batch][1] for face in placed])
        for k, sides in enumerate((sizes, sizes // 4)):
            there["plans"][:, k] = _plans(matrices, sides, there["first"]["size"][:, 1::-1])
    return faces.view(np.int64).reshape(len(faces), WORDS)


def _check_places(face: Placed, frames: int, batches: Sequence[tuple[int, int]]) -> None:
    places = ("frame", face.frame, frames), ("batch", face.batch, len(batches))
    for name, place, count in places:
        if not 0 <= place < count:
            raise KernelError(f"{name} must be one of {count}, got {place}")
    count, _ = batches[face.batch]
    if not 0 <= face.index < count:
        raise KernelError(f"index must be one of {count}, got {face.index}")


def _picture(frame: Picture) -> tuple[object, ...]:
    """Of a row: first, second, to_rgb, kind."""
    if isinstance(frame, Tensor):
        check("a frame", frame, (None, None, 3), (torch.uint8,), frame.device)
        return view(frame), np.zeros((), VIEW), np.eye(3, 4), _RGB
    y, uv, matrix, span = frame
    check("y of a frame", y, (None, None), (torch.uint8,), y.device)
    height, width = y.shape
    check("uv of a frame", uv, (-(-height // 2), -(-width // 2), 2), (torch.uint8,), y.device)
    return view(y), view(uv), _to_rgb(matrix, span), _NV12


@functools.cache
def _to_rgb(matrix: Matrix, span: Range) -> np.ndarray:
    table = np.array(coefficients(matrix, span))
    back = np.linalg.inv(table[:, :3])
    return np.column_stack([back, -back @ table[:, 3]])


def _plans(matrices: np.ndarray, sizes: np.ndarray, most: np.ndarray) -> np.ndarray:
    """As ``face.alignment.crop_aligned`` reduces the part of a frame that lies under a crop.

    matrices (F, 2, 3), sizes (F,) of the crops, most (F, 2): width and height of the frames.
    """
    k = sizes / _TEMPLATE_PX
    linear, shift = (
        matrices[:, :, :2] * k[:, None, None],
        matrices[:, :, 2] * k[:, None] + 0.5 * (k[:, None] - 1),
    )
    finite = np.isfinite(matrices).all((1, 2))
    area = np.abs(linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0])
    _refuse(matrices, ~finite | ~(area > 1e-12))
    back = np.linalg.inv(linear)
    shrink = np.maximum(1.0, 1 / np.sqrt(area))[:, None]
    edge = np.stack([np.full(len(sizes), -0.5), sizes - 0.5], 1)
    corners = np.stack([edge[:, [0, 1, 0, 1]], edge[:, [0, 0, 1, 1]]], 2) - shift[:, None]
    corners = np.einsum("fij,fcj->fci", back, corners)
    margin = 2 * shrink + 1
    first = np.clip(np.floor(corners.min(1) - margin), 0, most - 1)
    end = np.clip(np.ceil(corners.max(1) + margin) + 1, first + 1, most)
    px = end - first
    cells = np.maximum(np.round(px / shrink), 1)
    side = px / cells
    to_cell = back / side[:, :, None]
    begin = (0.5 - first - np.einsum("fij,fj->fi", back, shift)) / side - 0.5
    reached = np.minimum(np.ceil((TILE - 1) * np.abs(to_cell).sum(2)) + 4, cells)
    _refuse(matrices, reached.max(1) > CELLS)
    plans = np.empty(len(sizes), _PLAN)
    plans["to_cell"] = np.concatenate([to_cell, begin[:, :, None]], 2).reshape(-1, 6)
    plans["origin"], plans["px"], plans["cells"] = first, px, cells
    return plans


def _refuse(matrices: np.ndarray, wrong: np.ndarray) -> None:
    if wrong.any():
        raise KernelError(f"matrix must be a similarity, got {matrices[int(wrong.argmax())].tolist()}")
