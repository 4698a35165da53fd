"""Putting restored faces into the output frame, and proving what was done to the camera's pixels.

Pixel centres: output X and camera x show the same place where X + 0.5 = scale (x + 0.5). A as in
``reduction``, A+ its nearest enlargement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .alignment import invert, native_side, rescale_template
from .background import Cover
from .reduction import CameraError, block_side

__all__ = ["Paste", "covers", "paste", "paste_residual", "project"]

_LUMA = np.array([0.299, 0.587, 0.114])  # BT.601
_SOFTNESS = 0.3  # px of the output: a Gaussian of this sigma passes as much as the mean over a px

Figures = tuple[float, float]
"""rms and largest modulus of A out - camera, in units of 1/255."""


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


def covers(pastes: Sequence[Paste], camera: np.ndarray, scale: int) -> list[Cover | None]:
    """What of ``camera`` (H, W, 3) each face takes, on the grid of A's blocks: px of the camera, at scale 1
    px of a quarter of its size. None: nothing."""
    height, width = camera.shape[:2]
    if scale > 1:
        return [_cover(face.mask, face.matrix, width, height) for face in pastes]
    block = block_side(scale)
    found = []
    for face in pastes:  # from block px to camera px: x + 0.5 = 4 (b + 0.5)
        shift = face.matrix[:, :2] @ np.full(2, (block - 1) / 2)
        to_template = np.column_stack([face.matrix[:, :2] * block, face.matrix[:, 2] + shift])
        found.append(_cover(face.mask, to_template, -(-width // block), -(-height // block)))
    return found


def paste(
    out: np.ndarray,
    camera: np.ndarray,
    pastes: Sequence[Paste],
    scale: int,
    under: Sequence[Cover | None] | None = None,
) -> tuple[Figures, Figures]:
    """Add all ``pastes`` to ``out`` in place, then project each towards the camera's own pixels.

    under: the faces' ``covers``, where they are known already. Returns the certificate as it was between
    the two, and as it is. Raises FrameError.
    """
    for face in pastes:
        paste_residual(out, face.residual, face.mask, face.matrix, scale)
    error = CameraError(out, camera, scale)
    before = error.figures()
    if not pastes:
        return before, before
    for face, cover in zip(pastes, covers(pastes, camera, scale) if under is None else under, strict=True):
        chroma = 1 - (1 - face.gamma) ** 2 if face.gamma_chroma is None else face.gamma_chroma
        if cover is not None:
            project(error, cover, face.gamma, chroma)
    return before, error.figures()


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
    if shrink >= 2:  # below, a crop holds little that the output cannot show
        patch = cv2.GaussianBlur(patch, (0, 0), _SOFTNESS * shrink)
    area = _covered(to_patch, patch.shape[1], patch.shape[0], out.shape[1], out.shape[0])
    if area is None:
        return
    region = out[area[1] : area[3], area[0] : area[2]]
    warped = _warp(patch, to_patch, area, cv2.INTER_CUBIC)
    region[:] = cv2.add(region, warped, dtype=cv2.CV_8U)


def project(error: CameraError, cover: Cover, gamma_luma: float, gamma_chroma: float) -> None:
    """x <- x - gamma A+(A x - y), in the output of ``error``, weighted by ``cover``; ``error`` follows.

    Eq. (8), FLAIR, with one gamma for luma and one for colour.
    """
    if gamma_luma <= 0 and gamma_chroma <= 0:
        return
    mixing = gamma_chroma * np.eye(3) + (gamma_luma - gamma_chroma) * np.tile(_LUMA, (3, 1))
    change = cv2.transform(error.at(cover.area), mixing)
    change = cv2.multiply(change, cv2.merge([cover.weight] * 3))
    spread = cv2.resize(change, None, fx=error.block, fy=error.block, interpolation=cv2.INTER_NEAREST)
    region = error.output(cover.area)
    region[:] = cv2.subtract(region, spread[: region.shape[0], : region.shape[1]], dtype=cv2.CV_8U)
    error.renew(cover.area)


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
        size = [max(1, round(side / shrink)) for side in weight.shape[::-1]]
        ratio = np.array(size) / weight.shape[::-1]
        weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
        to_mask = to_mask * ratio[:, None]
        to_mask[:, 2] += 0.5 * ratio - 0.5
    area = _covered(to_mask, weight.shape[1], weight.shape[0], width, height)
    return None if area is None else Cover(_warp(weight, to_mask, area, cv2.INTER_LINEAR), area)


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


def _warp(
    patch: np.ndarray, to_patch: np.ndarray, area: tuple[int, int, int, int], interpolation: int
) -> np.ndarray:
    """``patch`` as it lies over ``area`` of the frame; 0 around it."""
    x0, y0, x1, y1 = area
    shifted = to_patch.copy()
    shifted[:, 2] += to_patch[:, :2] @ (x0, y0)
    return cv2.warpAffine(
        patch,
        shifted,
        (x1 - x0, y1 - y0),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
    )
