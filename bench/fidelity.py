"""How near a picture is to the clean one, pixel by pixel and band by band; see luma.py for the terms."""

from __future__ import annotations

import cv2
import numpy as np

from .luma import area_down, block_mean, check_alike, luma, luma_full, weighted_mean

__all__ = ["consistency", "haarpsi", "hf_ratio", "psnr_y", "ssim"]

PEAK = 255.0  # of PSNR and SSIM
SSIM_SIGMA, SSIM_SIDE = 1.5, 11  # Wang et al. 2004
HAARPSI_C, HAARPSI_ALPHA = 30.0, 4.2  # Reisenhofer et al. 2018, section 3


def psnr_y(image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None) -> float:
    """PSNR of the studio-range luma in dB; infinite for identical pictures."""
    check_alike(image, truth, weight)
    error = weighted_mean((luma(image) - luma(truth)) ** 2, weight)
    return float("inf") if error == 0 else float(10 * np.log10(PEAK**2 / error))


def ssim(image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Mean SSIM of the studio-range luma, Gaussian 11x11 window of sigma 1.5, in [-1, 1].

    The 5-px border, where the window leaves the picture, does not count (Wang et al. 2004).
    Raises ValueError for a picture smaller than the window.
    """
    check_alike(image, truth, weight)
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
    return weighted_mean(similarity[inner, inner], None if weight is None else weight[inner, inner])


def haarpsi(image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Haar wavelet-based perceptual similarity index in [0, 1]; identical pictures give 1.

    Reisenhofer, Bosse, Kutyniok, Wiegand 2018, grey-scale, with the 2x2 mean and subsampling of
    its reference code. ``weight`` multiplies the index's own weight map.
    """
    check_alike(image, truth, weight)
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
    check_alike(image, truth, weight)
    height, width = truth.shape[0] // 2 * 2, truth.shape[1] // 2 * 2
    even = np.s_[:height, :width]
    block = None if weight is None else block_mean(weight[even].astype(np.float32), 2)
    energy = weighted_mean(_high_energy(luma_full(image)[even]), block)
    reference = weighted_mean(_high_energy(luma_full(truth)[even]), block)
    return energy / reference if reference > 0 else float("nan")


def consistency(
    image: np.ndarray, camera: np.ndarray, scale: int, weight: np.ndarray | None = None
) -> tuple[float, float]:
    """rms and maximum of A image - camera in units of 1/255, A the block average by ``scale``.

    image: (sH, sW, 3) uint8; camera: (H, W, 3) uint8; weight: (H, W), of the camera's size.
    """
    reduced = area_down(image.astype(np.float32), scale)
    check_alike(reduced, camera, weight)
    error = np.abs(reduced - camera)
    worst = error.max(2) if weight is None else error.max(2)[weight > 0]
    return float(np.sqrt(weighted_mean((error**2).mean(2), weight))), float(worst.max(initial=0.0))


def _window(plane: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(plane, (SSIM_SIDE, SSIM_SIDE), SSIM_SIGMA, borderType=cv2.BORDER_REFLECT)


def _halved(plane: np.ndarray) -> np.ndarray:
    """2x2 block means; an odd last row or column is averaged with zeros, as the reference does."""
    return block_mean(np.pad(plane, ((0, plane.shape[0] % 2), (0, plane.shape[1] % 2))), 2)


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
