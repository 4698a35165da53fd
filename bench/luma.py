"""Two lumas, and what all picture measures have in common.

Pictures are (H, W, 3) uint8 RGB of the same size. ``weight`` is an optional (H, W) array of
non-negative numbers: where it is 0 nothing counts. Masks are applied to the maps of a measure,
never to the pictures, so the edge of a mask is not taken for an edge of the picture.

Two lumas are in use in the literature and both are here, each where its measure defines it:
PSNR and SSIM take the studio-range BT.601 luma (16..235) customary in super-resolution, the others
the full-range one (0..255).
"""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["area_down", "block_mean", "check_alike", "luma", "luma_full", "weighted_mean"]


def luma(image: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [16, 235]: BT.601 studio-range luma of RGB uint8, not rounded."""
    return image.astype(np.float32) @ (np.array([65.481, 128.553, 24.966], np.float32) / 255) + 16


def luma_full(image: np.ndarray) -> np.ndarray:
    """(H, W) float32 in [0, 255]: BT.601 luma of RGB uint8 at full range."""
    return image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def area_down(image: np.ndarray, scale: int) -> np.ndarray:
    """Block average: (H, W, C) -> (H / scale, W / scale, C), same dtype.

    Raises ValueError unless both sides are multiples of ``scale``.
    """
    height, width = image.shape[:2]
    if height % scale or width % scale:
        raise ValueError(f"sides must be multiples of {scale}, got {width}x{height}")
    return cv2.resize(image, (width // scale, height // scale), interpolation=cv2.INTER_AREA)


def check_alike(image: np.ndarray, truth: np.ndarray, weight: np.ndarray | None) -> None:
    if image.shape != truth.shape or truth.ndim != 3 or truth.shape[2] != 3:
        raise ValueError(f"pictures must be (H, W, 3) and alike, got {image.shape} and {truth.shape}")
    if weight is not None and weight.shape != truth.shape[:2]:
        raise ValueError(f"weight must be {truth.shape[:2]}, got {weight.shape}")


def weighted_mean(values: np.ndarray, weight: np.ndarray | None) -> float:
    if weight is None:
        return float(values.mean(dtype=np.float64))
    total = float(weight.sum(dtype=np.float64))
    if total <= 0:
        raise ValueError("weight is zero everywhere")
    return float((values * weight).sum(dtype=np.float64) / total)


def block_mean(plane: np.ndarray, side: int) -> np.ndarray:
    height, width = plane.shape
    return plane.reshape(height // side, side, width // side, side).mean((1, 3))
