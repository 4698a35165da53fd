"""Aligning a face to the five-point template and cutting it out of a frame.

Coordinates are of pixel centres: (0, 0) is the middle of the first pixel. A ``matrix`` is a
(2, 3) float64 similarity from frame px to px of the 512-px template (FFHQ's five points). A
template of another side S has the same picture: X_S + 0.5 = (X_512 + 0.5) S / 512.
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = [
    "TEMPLATE_FIVE",
    "TEMPLATE_PX",
    "camera_map",
    "camera_patch",
    "crop_aligned",
    "invert",
    "native_side",
    "rescale_template",
    "similarity",
]

TEMPLATE_PX = 512
_GRID_PX = 8
_GROWS_MUCH, _MOST_GROWTH = 0.75, 16
_PATCH_SHARE, _PATCH_MOST_PX = 0.7, 240  # of the crop's side: within the face
# left eye, right eye (as seen in the picture), nose tip, left and right mouth corner
TEMPLATE_FIVE = np.array([[193, 240], [319, 240], [257, 314], [201, 371], [313, 371]], np.float64)


def similarity(five: np.ndarray, template: np.ndarray = TEMPLATE_FIVE) -> np.ndarray:
    """Least-squares rotation, scale and shift that takes ``five`` (5, 2) to ``template`` (5, 2).

    Returns (2, 3) float64. Umeyama 1991 without reflection: linear least squares
    in (a, b, tx, ty) of x' = a x - b y + tx, y' = b x + a y + ty.
    """
    source = np.ascontiguousarray(five, np.float64)
    if source.shape != template.shape:
        raise ValueError(f"five must be {template.shape}, got {source.shape}")
    p, q = source.view(np.complex128)[:, 0], np.ascontiguousarray(template).view(np.complex128)[:, 0]
    source_mean, target_mean = p.mean(), q.mean()
    p, q = p - source_mean, q - target_mean
    norm = float(np.vdot(p, p).real)
    if norm < 1e-9:
        raise ValueError("five points coincide")
    turn = np.vdot(p, q) / norm  # a + ib, as x' + iy' = (a + ib) (x + iy) + shift
    shift = target_mean - turn * source_mean
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def native_side(matrix: np.ndarray) -> float:
    """Side in frame px of the square that becomes the crop: n, the crop as the camera gave it."""
    return float(TEMPLATE_PX / np.sqrt(abs(np.linalg.det(matrix[:, :2]))))


def rescale_template(matrix: np.ndarray, size: int) -> np.ndarray:
    """The same alignment, to a template of side ``size`` px instead of 512."""
    k = size / TEMPLATE_PX
    scaled = matrix * k
    scaled[:, 2] += 0.5 * (k - 1)
    return scaled


def invert(matrix: np.ndarray) -> np.ndarray:
    """(2, 3) of the inverse map."""
    return cv2.invertAffineTransform(np.asarray(matrix, np.float64))


def camera_map(matrix: np.ndarray, size: int) -> np.ndarray:
    """(2, 3) float64: px of the aligned crop of side ``size`` to px of the frame."""
    return invert(rescale_template(matrix, size))


def camera_patch(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The middle of a face in the camera's own pixels: luma (H, W) float32 of ``image`` uint8 RGB.

    Cut on multiples of 8 px, the grid on which codecs transform: that shows how coarsely they rounded.
    Sides from 8 to 256 px, less only where the frame has less.
    """
    centre = invert(matrix) @ [TEMPLATE_PX / 2, TEMPLATE_PX / 2, 1]
    half = min(_PATCH_SHARE * native_side(matrix), _PATCH_MOST_PX) / 2
    spans = []
    for middle, length in zip(centre[::-1], image.shape[:2], strict=True):
        last = max(length // _GRID_PX - 1, 0)  # whole cells only
        first = int(np.clip(np.floor((middle - half) / _GRID_PX), 0, last))
        end = int(np.clip(np.ceil((middle + half) / _GRID_PX), first + 1, last + 1))
        spans.append(slice(first * _GRID_PX, end * _GRID_PX))
    return cv2.cvtColor(image[spans[0], spans[1]].astype(np.float32), cv2.COLOR_RGB2GRAY)


def crop_aligned(image: np.ndarray, matrix: np.ndarray, size: int) -> np.ndarray:
    """Cut the aligned face out of ``image`` (H, W, C), as (size, size, C) of the same dtype.

    A crop that shrinks is first reduced by area averaging (antialiased), then resampled with bicubic
    weights; one that grows much is enlarged by bicubic weights to twice the crop's sampling, then resampled
    bilinearly: a third of the time. Borders are replicated. Training and running use this one function.
    """
    to_crop = rescale_template(matrix, size)
    shrink, weights = native_side(matrix) / size, cv2.INTER_CUBIC
    if shrink > 1.0:
        image, to_crop = _resized(image, to_crop, size, 1 / shrink, cv2.INTER_AREA)
    elif shrink < _GROWS_MUCH:
        growth = min(int(np.ceil(2 / shrink)), _MOST_GROWTH)
        image, to_crop = _resized(image, to_crop, size, growth, cv2.INTER_CUBIC)
        weights = cv2.INTER_LINEAR
    return cv2.warpAffine(image, to_crop, (size, size), flags=weights, borderMode=cv2.BORDER_REPLICATE)


def _resized(
    image: np.ndarray, to_crop: np.ndarray, size: int, factor: float, interpolation: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of ``image`` under the crop, with ``factor`` times its sampling, and the map from it."""
    height, width = image.shape[:2]
    edge = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [size - 0.5, size - 0.5], [-0.5, size - 0.5]])
    inverse = invert(to_crop)
    corners = edge @ inverse[:, :2].T + inverse[:, 2]
    margin = 2 * max(1 / factor, 1) + 1
    x0, y0 = np.floor(corners.min(0) - margin).astype(int)
    x1, y1 = np.ceil(corners.max(0) + margin).astype(int) + 1
    x0, y0 = int(np.clip(x0, 0, width - 1)), int(np.clip(y0, 0, height - 1))
    x1, y1 = int(np.clip(x1, x0 + 1, width)), int(np.clip(y1, y0 + 1, height))
    region = image[y0:y1, x0:x1]
    wide, high = (max(1, round(side * factor)) for side in (x1 - x0, y1 - y0))
    resized = cv2.resize(region, (wide, high), interpolation=interpolation)
    sx, sy = (x1 - x0) / wide, (y1 - y0) / high
    # resized px -> frame px: x = (u + 0.5) sx - 0.5 + x0
    to_frame = np.array([[sx, 0, 0.5 * sx - 0.5 + x0], [0, sy, 0.5 * sy - 0.5 + y0], [0, 0, 1]])
    composed = np.vstack([to_crop, [0, 0, 1]]) @ to_frame
    return resized, composed[:2]
