"""Putting restored faces into the output frame, and proving what was done to the camera's pixels.

Pixel centres: output X and camera x show the same place where X + 0.5 = scale (x + 0.5). A is the
mean over scale x scale blocks, A+ their nearest enlargement. At scale 1, A takes 4x4 block means of
both pictures.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..errors import FrameError
from .alignment import invert, native_side, rescale_template
from .background import Cover

__all__ = ["Paste", "certificate", "covers", "paste", "paste_residual", "project"]

BLOCK_AT_SCALE_1 = 4
_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601
_STRIPE_PX = 1 << 18  # output px handled at a time: they stay in cache, and large frames in memory
_scratch = threading.local()


@dataclass(frozen=True, slots=True)
class Paste:
    """One restored face on its way into the output frame.

    matrix: (2, 3), camera px to 512-template px. residual: (S, S, 3) float32, in units of 1/255.
    mask: (S, S) float32 in [0, 1]. gamma in [0, 1]: share of the luma error to project away, Eq. (9),
    FLAIR. gamma_chroma: the same for colour, by default 1 - (1 - gamma)^2.
    """

    matrix: np.ndarray
    residual: np.ndarray
    mask: np.ndarray
    gamma: float
    gamma_chroma: float | None = None


def covers(pastes: Sequence[Paste], camera: np.ndarray) -> list[Cover]:
    """What of ``camera`` (H, W, 3) the faces take."""
    height, width = camera.shape[:2]
    found = (_cover(face.mask, face.matrix, width, height) for face in pastes)
    return [cover for cover in found if cover is not None]


def paste(out: np.ndarray, camera: np.ndarray, pastes: list[Paste], scale: int) -> tuple[float, float] | None:
    """Add all ``pastes`` to ``out`` in place, then project each towards the camera's own pixels.

    Returns the certificate as it was between the two; None, with ``out`` untouched, if there is
    nothing to paste.
    """
    if not pastes:
        return None
    for face in pastes:
        paste_residual(out, face.residual, face.mask, face.matrix, scale)
    before = certificate(out, camera, scale)
    for face in pastes:
        chroma = 1 - (1 - face.gamma) ** 2 if face.gamma_chroma is None else face.gamma_chroma
        project(out, camera, scale, face.mask, face.matrix, face.gamma, chroma)
    return before


def paste_residual(
    out: np.ndarray, residual: np.ndarray, mask: np.ndarray, matrix: np.ndarray, scale: int
) -> None:
    """Warp mask x residual back and add it to ``out`` (scale H, scale W, 3) uint8 in place.

    residual: (S, S, 3) float32 in units of 1/255; mask: (S, S) float32; matrix: camera px to
    512-template px. Pixels where the product is 0 keep their value bit for bit.
    """
    size = mask.shape[0]
    support = _support(mask)
    if support is None:
        return
    x0, y0, x1, y1 = support
    weights = cv2.merge([mask[y0:y1, x0:x1]] * 3)
    patch = cv2.multiply(residual[y0:y1, x0:x1], weights)
    to_patch = rescale_template(_from_output(matrix, scale), size)
    to_patch[:, 2] -= (x0, y0)
    shrink = size / (native_side(matrix) * scale)
    if shrink >= 2:
        patch, to_patch = _resized(patch, to_patch, 1 / shrink, cv2.INTER_AREA)
        shrink = 1.0
    elif shrink > 1.1:  # too little for areas: only what the output cannot show is blurred away
        patch = cv2.GaussianBlur(patch, (5, 5), 0.5 * np.sqrt(shrink**2 - 1))
    # bicubic to twice the output's sampling, then bilinear: a bicubic warp, at two thirds of its time.
    # Three times the patch's own sampling is as good where the output has yet more px.
    patch, to_patch = _resized(patch, to_patch, min(2 / shrink, 3.0), cv2.INTER_CUBIC, kept=True)
    area = _covered(to_patch, patch.shape[1], patch.shape[0], out.shape[1], out.shape[0])
    if area is None:
        return
    region = out[area[1] : area[3], area[0] : area[2]]
    warped = _warp(patch, to_patch, area)
    region[:] = cv2.add(region, warped, dtype=cv2.CV_8U)


def project(
    out: np.ndarray,
    camera: np.ndarray,
    scale: int,
    mask: np.ndarray,
    matrix: np.ndarray,
    gamma_luma: float,
    gamma_chroma: float,
) -> None:
    """x <- x - gamma A+(A x - y), in place, where ``mask`` (S, S) lies in the frame, weighted by it.

    Eq. (8), FLAIR, with one gamma for luma and one for colour.
    """
    _check_sizes(out, camera, scale)
    if gamma_luma <= 0 and gamma_chroma <= 0:
        return
    block = _block(scale)
    to_template = matrix
    if scale == 1:  # from block px to camera px: x + 0.5 = 4 (b + 0.5)
        shift = matrix[:, :2] @ np.full(2, (block - 1) / 2)
        to_template = np.column_stack([matrix[:, :2] * block, matrix[:, 2] + shift])
    cover = _cover(mask, to_template, -(-out.shape[1] // block), -(-out.shape[0] // block))
    if cover is None:
        return
    weight, (x0, y0, x1, y1) = cover
    region = out[y0 * block : y1 * block, x0 * block : x1 * block]
    seen = camera[y0 * block : y1 * block, x0 * block : x1 * block] if scale == 1 else camera[y0:y1, x0:x1]
    error = _block_error(region, seen, scale)
    mixing = gamma_chroma * np.eye(3) + (gamma_luma - gamma_chroma) * np.tile(_LUMA, (3, 1))
    error = cv2.transform(error, mixing) * weight[:, :, None]
    spread = cv2.resize(error, None, fx=block, fy=block, interpolation=cv2.INTER_NEAREST)
    region[:] = cv2.subtract(region, spread[: region.shape[0], : region.shape[1]], dtype=cv2.CV_8U)


def certificate(out: np.ndarray, camera: np.ndarray, scale: int) -> tuple[float, float]:
    """rms and largest modulus of A out - camera over the frame and its channels, in units of 1/255."""
    _check_sizes(out, camera, scale)
    block = _block(scale)
    rows = max(1, _STRIPE_PX // (out.shape[1] * block))  # block rows at a time
    per_row = block if scale == 1 else 1
    squares, largest, count = 0.0, 0.0, 0
    for row in range(0, -(-out.shape[0] // block), rows):
        error = _block_error(
            out[row * block : (row + rows) * block], camera[row * per_row : (row + rows) * per_row], scale
        )
        squares += float(cv2.norm(error, cv2.NORM_L2SQR))
        largest = max(largest, float(cv2.norm(error, cv2.NORM_INF)))
        count += error.size
    return float(np.sqrt(squares / count)), largest


def _block(scale: int) -> int:
    return BLOCK_AT_SCALE_1 if scale == 1 else scale


def _block_error(out: np.ndarray, camera: np.ndarray, scale: int) -> np.ndarray:
    """A out - camera, float32, one value a block and channel; exact."""
    if scale == 1:
        return _partial_means(cv2.subtract(out, camera, dtype=cv2.CV_32F))
    total = cv2.add(out[0::scale], out[1::scale], dtype=cv2.CV_32F)
    for row in range(2, scale):
        total = cv2.add(total, out[row::scale], dtype=cv2.CV_32F)
    means = cv2.resize(total, (camera.shape[1], camera.shape[0]), interpolation=cv2.INTER_AREA)
    return cv2.addWeighted(means, 1 / scale, camera, -1, 0, dtype=cv2.CV_32F)


def _partial_means(values: np.ndarray) -> np.ndarray:
    """4x4 block means of (H, W, 3) float32; blocks cut by the edge are means of what they have."""
    height, width = values.shape[:2]
    bottom, right = -height % BLOCK_AT_SCALE_1, -width % BLOCK_AT_SCALE_1
    if bottom or right:
        values = cv2.copyMakeBorder(values, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=[0.0])
    size = (values.shape[1] // BLOCK_AT_SCALE_1, values.shape[0] // BLOCK_AT_SCALE_1)
    means = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    if bottom:
        means[-1] = means[-1] * (BLOCK_AT_SCALE_1 / (BLOCK_AT_SCALE_1 - bottom))
    if right:
        means[:, -1] = means[:, -1] * (BLOCK_AT_SCALE_1 / (BLOCK_AT_SCALE_1 - right))
    return means


def _check_sizes(out: np.ndarray, camera: np.ndarray, scale: int) -> None:
    expected = (scale * camera.shape[0], scale * camera.shape[1], 3)
    if out.shape != expected or camera.shape[2:] != (3,):
        raise FrameError(f"out must be {expected} for a camera frame {camera.shape}, got {out.shape}")


def _cover(mask: np.ndarray, matrix: np.ndarray, width: int, height: int) -> Cover | None:
    """``mask`` (S, S) as it lies in a frame of that size; matrix: its px to 512-template px."""
    support = _support(mask)
    if support is None:
        return None
    x0, y0, x1, y1 = support
    weight = np.ascontiguousarray(mask[y0:y1, x0:x1])
    to_mask = rescale_template(matrix, mask.shape[0])
    to_mask[:, 2] -= (x0, y0)
    shrink = float(np.sqrt(abs(np.linalg.det(to_mask[:, :2]))))
    if shrink > 1.5:
        weight, to_mask = _resized(weight, to_mask, 1 / shrink, cv2.INTER_AREA)
    area = _covered(to_mask, weight.shape[1], weight.shape[0], width, height)
    return None if area is None else Cover(_warp(weight, to_mask, area), area)


def _from_output(matrix: np.ndarray, scale: int) -> np.ndarray:
    """An alignment of camera px made one of output px: x = (X + 0.5) / scale - 0.5."""
    shift = matrix[:, :2] @ np.full(2, 0.5 / scale - 0.5)
    return np.column_stack([matrix[:, :2] / scale, matrix[:, 2] + shift])


def _support(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Where ``mask`` is above 0, with two px of border: x0, y0, x1, y1; None if nowhere."""
    x, y, width, height = cv2.boundingRect((mask > 0).view(np.uint8))
    if width == 0:
        return None
    return max(x - 2, 0), max(y - 2, 0), min(x + width + 2, mask.shape[1]), min(y + height + 2, mask.shape[0])


def _covered(
    to_patch: np.ndarray, patch_width: int, patch_height: int, width: int, height: int
) -> tuple[int, int, int, int] | None:
    """The part of a frame (width, height) that a patch covers: x0, y0, x1, y1; None if none of it."""
    edge = np.array([[-1, -1], [patch_width, -1], [patch_width, patch_height], [-1, patch_height]])
    inverse = invert(to_patch)
    corners = edge @ inverse[:, :2].T + inverse[:, 2]
    x0, y0 = np.floor(corners.min(0)).astype(int)
    x1, y1 = np.ceil(corners.max(0)).astype(int) + 1
    x0, y0, x1, y1 = max(int(x0), 0), max(int(y0), 0), min(int(x1), width), min(int(y1), height)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _warp(patch: np.ndarray, to_patch: np.ndarray, area: tuple[int, int, int, int]) -> np.ndarray:
    """``patch`` as it lies over ``area`` of the frame, bilinear; 0 around it."""
    x0, y0, x1, y1 = area
    shifted = to_patch.copy()
    shifted[:, 2] += to_patch[:, :2] @ (x0, y0)
    return cv2.warpAffine(
        patch,
        shifted,
        (x1 - x0, y1 - y0),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )


def _resized(
    patch: np.ndarray, to_patch: np.ndarray, factor: float, interpolation: int, kept: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """``patch`` with about ``factor`` times its sampling, and the map to its px.

    kept: in memory that the thread keeps, and the next such call writes over.
    """
    height, width = patch.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    ratio = np.array([size[0] / width, size[1] / height])
    moved = to_patch * ratio[:, None]
    moved[:, 2] += 0.5 * ratio - 0.5
    target = _kept_memory((size[1], size[0], *patch.shape[2:])) if kept else None
    return cv2.resize(patch, size, dst=target, interpolation=interpolation), moved


def _kept_memory(shape: tuple[int, ...]) -> np.ndarray:
    """float32 of ``shape``, undefined. Asking the system for its pages anew each frame costs 3 ms."""
    count = int(np.prod(shape))
    values = getattr(_scratch, "values", None)
    if values is None or values.size < count:
        values = _scratch.values = np.empty(count, np.float32)
    return values[:count].reshape(shape)
