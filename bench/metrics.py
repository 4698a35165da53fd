"""Full-reference picture measures.

Pictures are (H, W, 3) uint8 RGB of the same size. ``weight`` is an optional (H, W) array of
non-negative numbers: where it is 0 nothing counts. Masks are applied to the maps of a measure,
never to the pictures, so the edge of a mask is not taken for an edge of the picture.

Two lumas are in use in the literature and both are here, each where its measure defines it:
PSNR and SSIM take the studio-range BT.601 luma (16..235) customary in super-resolution, HaarPSI
the full-range one (0..255) of its paper. The peak of PSNR and SSIM is 255.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = [
    "Motion",
    "area_down",
    "consistency",
    "haarpsi",
    "hf_ratio",
    "luma",
    "luma_full",
    "motion",
    "psnr_y",
    "ssim",
    "temporal_error",
]

PEAK = 255.0
SSIM_SIGMA, SSIM_SIDE = 1.5, 11  # Wang et al. 2004
HAARPSI_C, HAARPSI_ALPHA = 30.0, 4.2  # Reisenhofer et al. 2018, section 3


def luma(image: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [16, 235]: BT.601 studio-range luma of RGB uint8, not rounded."""
    return image.astype(np.float32) @ (np.array([65.481, 128.553, 24.966], np.float32) / 255) + 16


def luma_full(image: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [0, 255]: BT.601 luma of RGB uint8 at full range."""
    return image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def psnr_y(image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None) -> float:
    """PSNR of the studio-range luma in dB; infinite for identical pictures."""
    _check(image, truth, weight)
    error = _mean((luma(image) - luma(truth)) ** 2, weight)
    return float("inf") if error == 0 else float(10 * np.log10(PEAK**2 / error))


def ssim(image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean SSIM of the studio-range luma, Gaussian 11x11 window of sigma 1.5, in [-1, 1].

    The 5-px border, where the window leaves the picture, does not count (Wang et al. 2004).
    Raises ValueError for a picture smaller than the window.
    """
    _check(image, truth, weight)
    if min(truth.shape[:2]) < SSIM_SIDE:
        raise ValueError(f"a picture must be at least {SSIM_SIDE} px a side, got {truth.shape[:2]}")
    # float64: variances are small differences of large squares
    x, y = luma(image).astype(np.float64), luma(truth).astype(np.float64)
    mean_x, mean_y = _window(x), _window(y)
    var_x = _window(x * x) - mean_x**2
    var_y = _window(y * y) - mean_y**2
    covariance = _window(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    inner = np.s_[SSIM_SIDE // 2 : -(SSIM_SIDE // 2)]
    return _mean(similarity[inner, inner], None if weight is None else weight[inner, inner])


def haarpsi(image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Haar wavelet-based perceptual similarity index in [0, 1]; identical pictures give 1.

    Reisenhofer, Bosse, Kutyniok, Wiegand 2018, grey-scale, with the 2x2 mean and subsampling of
    its reference code. ``weight`` multiplies the index's own weight map.
    """
    _check(image, truth, weight)
    x, y = _halved(luma_full(image)), _halved(luma_full(truth))
    numerator = denominator = 0.0
    importance = 1.0 if weight is None else _halved(weight.astype(np.float32)).astype(np.float64)
    for vertical in (False, True):
        similarity = np.zeros(x.shape, np.float64)
        for scale in (1, 2):
            a, b = np.abs(_haar(x, scale, vertical)), np.abs(_haar(y, scale, vertical))
            similarity += 0.5 * (2 * a * b + HAARPSI_C) / (a * a + b * b + HAARPSI_C)  # eq. (9)
        w = np.maximum(np.abs(_haar(x, 3, vertical)), np.abs(_haar(y, 3, vertical))) * importance
        numerator += float((w / (1 + np.exp(-HAARPSI_ALPHA * similarity))).sum())
        denominator += float(w.sum())
    if denominator == 0:  # neither picture has any structure where it counts
        return 1.0
    mean = numerator / denominator
    return float((np.log(mean / (1 - mean)) / HAARPSI_ALPHA) ** 2)


def hf_ratio(image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Energy in the three high bands of a one-level Haar transform of luma, over the truth's.

    Below 1: blurred. Above 1: sharper, or noisier, than the truth. NaN where the truth is flat.
    """
    _check(image, truth, weight)
    height, width = truth.shape[0] // 2 * 2, truth.shape[1] // 2 * 2
    even = np.s_[:height, :width]
    block = None if weight is None else _block_mean(weight[even].astype(np.float32), 2)
    energy = _mean(_high_energy(luma_full(image)[even]), block)
    reference = _mean(_high_energy(luma_full(truth)[even]), block)
    return energy / reference if reference > 0 else float("nan")


def area_down(image: np.ndarray, scale: int) -> np.ndarray:
    """Block average: (H, W, C) -> (H / scale, W / scale, C), same dtype.

    Raises ValueError unless both sides are multiples of ``scale``.
    """
    height, width = image.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"sides must be multiples of {scale}, got {width}x{height}")
    return cv2.resize(image, (width // scale, height // scale), interpolation=cv2.INTER_AREA)


def consistency(
    image: np.ndarray, camera: np.ndarray, scale: int, weight: np.ndarray | None = None
) -> tuple[float, float]:
    """rms and maximum of A image - camera in units of 1/255, A the block average by ``scale``.

    image: (sH, sW, 3) uint8; camera: (H, W, 3) uint8; weight: (H, W), of the camera's size.
    """
    reduced = area_down(image.astype(np.float32), scale)
    _check(reduced, camera, weight)
    error = np.abs(reduced - camera)
    worst = error.max(2) if weight is None else error.max(2)[weight > 0]
    return float(np.sqrt(_mean((error**2).mean(2), weight))), float(worst.max(initial=0.0))


@dataclass(frozen=True, slots=True)
class Motion:
    """source: (H, W, 2) float32 px, where each pixel of a frame was in the frame before.

    seen: (H, W) float32, 1 where it was in view there and the flow passes the forward-backward
    check (1 px).
    """

    source: np.ndarray
    seen: np.ndarray


def motion(previous: np.ndarray, current: np.ndarray) -> Motion:
    """Optical flow (DIS) between two following frames, (H, W, 3) uint8."""
    _check(current, previous, None)
    before, after = luma_full(previous), luma_full(current)
    forward, backward = _flow(after, before), _flow(before, after)
    height, width = after.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    source = grid + forward
    returned = forward + cv2.remap(backward, source[..., 0], source[..., 1], cv2.INTER_LINEAR)
    inside = (source >= 0).all(2) & (source[..., 0] <= width - 1) & (source[..., 1] <= height - 1)
    return Motion(source, (inside & ((returned**2).sum(2) < 1.0)).astype(np.float32))


def temporal_error(
    images: tuple[np.ndarray, np.ndarray],
    truths: tuple[np.ndarray, np.ndarray],
    moved: Motion,
    weight: np.ndarray | None = None,
) -> tuple[float, float]:
    """Change between two following frames (previous, current): of the picture, and too much of it.

    moved: ``motion(*truths)``. Returns (warp, flicker), rms in units of 1/255 of luma where the
    motion is seen, NaN if it is seen nowhere. warp (Ewarp): current - W previous; a blurred result
    makes it small, so it never stands alone. flicker: that change minus the truth's own, so only
    change that the truth does not have.
    """
    _check(images[1], truths[1], weight)
    seen = moved.seen if weight is None else moved.seen * weight
    if not seen.any():
        return float("nan"), float("nan")

    def change(pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        x, y = moved.source[..., 0], moved.source[..., 1]
        return luma_full(pair[1]) - cv2.remap(luma_full(pair[0]), x, y, cv2.INTER_LINEAR)

    changed, should = change(images), change(truths)
    return float(np.sqrt(_mean(changed**2, seen))), float(np.sqrt(_mean((changed - should) ** 2, seen)))


def _flow(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32 px: where each pixel of ``start`` lies in ``end``, relative to itself."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    no_guess = np.zeros((*start.shape, 2), np.float32)
    return dis.calc(np.rint(start).astype(np.uint8), np.rint(end).astype(np.uint8), no_guess)


def _check(image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None) -> None:
    if image.shape != truth.shape or truth.ndim != 3 or truth.shape[2] != 3:
        raise ValueError(f"pictures must be (H, W, 3) and alike, got {image.shape} and {truth.shape}")
    if weight is not None and weight.shape != truth.shape[:2]:
        raise ValueError(f"weight must be {truth.shape[:2]}, got {weight.shape}")


def _mean(values: np.ndarray, weight: np.ndarray | None) -> float:
    if weight is None:
        return float(values.mean(dtype=np.float64))
    total = float(weight.sum(dtype=np.float64))
    if total <= 0:
        raise ValueError("weight is zero everywhere")
    return float((values * weight).sum(dtype=np.float64) / total)


def _window(plane: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(plane, (SSIM_SIDE, SSIM_SIDE), SSIM_SIGMA, borderType=cv2.BORDER_REFLECT)


def _block_mean(plane: np.ndarray, side: int) -> np.ndarray:
    height, width = plane.shape
    return plane.reshape(height // side, side, width // side, side).mean((1, 3))


def _halved(plane: np.ndarray) -> np.ndarray:
    """2x2 block means; an odd last row or column is averaged with zeros, as the reference does."""
    return _block_mean(np.pad(plane, ((0, plane.shape[0] % 2), (0, plane.shape[1] % 2))), 2)


def _haar(plane: np.ndarray, scale: int, vertical: bool) -> np.ndarray:
    """Undecimated Haar response at ``scale``: MATLAB's conv2(plane, filter, 'same'), zeros outside."""
    side = 2**scale
    kernel = np.full((side, side), 2.0**-scale, np.float32)
    kernel[: side // 2] *= -1
    if vertical:
        kernel = kernel.T
    anchor = (side // 2 - 1, side // 2 - 1)
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])  # cv2 correlates
    response = cv2.filter2D(plane, cv2.CV_32F, flipped, anchor=anchor, borderType=cv2.BORDER_CONSTANT)
    return response.astype(np.float64)


def _high_energy(plane: np.ndarray) -> np.ndarray:
    """Sum of squares of the orthonormal LH, HL and HH coefficients of each 2x2 block."""
    a, b, c, d = plane[::2, ::2], plane[::2, 1::2], plane[1::2, ::2], plane[1::2, 1::2]
    bands = ((a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2)
    return sum((band**2 for band in bands), np.zeros(a.shape, np.float32))
