"""NIQE: how far a face's local statistics are from those of clean faces, without a reference picture.

Mittal, Soundararajan, Bovik 2013, "Making a completely blind image quality analyzer", with the
features of BRISQUE (Mittal, Moorthy, Bovik 2012). The clean faces are the training stills of a data
folder, aligned, one model for each size. A face is small, so patches are of 48 px and overlap by
half (the paper: 96 px, side by side). Lower is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from streamsr.errors import ConfigError

from .luma import luma_full

__all__ = ["SMALLEST_PX", "Niqe", "fit_niqe"]

PATCH_PX = 48  # at the first of two scales; the second is half of it
SMALLEST_PX = 2 * PATCH_PX  # side of a picture
SHARP_SHARE = 0.75  # of a clean face's sharpest patch: blurred background tells nothing
_PAIRS = ((0, 1), (1, 0), (1, 1), (1, -1))  # neighbours: horizontal, vertical, both diagonals
_SHAPES = np.arange(0.2, 10.0005, 0.001)  # of the generalised Gaussians that are looked for
_FEATURES = 36


@dataclass(frozen=True)
class Niqe:
    """A multivariate Gaussian of clean patches: mean (36,), covariance (36, 36)."""

    mean: np.ndarray
    covariance: np.ndarray

    def score(self, picture: np.ndarray) -> float:
        """Eq. (10): distance of (H, W, 3) uint8 RGB from the model. Raises ValueError below 96 px."""
        features, _ = _patches(picture)
        features = features[np.isfinite(features).all(1)]
        if len(features) < 2:
            return float("nan")  # a flat picture has no statistics
        gap = features.mean(0) - self.mean
        pooled = (np.cov(features, rowvar=False) + self.covariance) / 2
        return float(np.sqrt(gap @ np.linalg.pinv(pooled) @ gap))

    def save(self, path: Path) -> None:
        np.savez(path, mean=self.mean, covariance=self.covariance)

    @classmethod
    def load(cls, path: Path) -> Niqe:
        """Raises ConfigError for a file that is none of ``save``."""
        try:
            with np.load(path) as kept:
                model = cls(kept["mean"], kept["covariance"])
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"{path} is no NIQE model: {error}") from error
        if model.mean.shape != (_FEATURES,) or model.covariance.shape != (_FEATURES, _FEATURES):
            raise ConfigError(f"{path} is no NIQE model: {model.mean.shape}, {model.covariance.shape}")
        return model


def fit_niqe(pictures: Iterable[np.ndarray]) -> Niqe:
    """The model of clean pictures, (H, W, 3) uint8 RGB, at least 96 px a side: their sharp patches."""
    rows = []
    for picture in pictures:
        features, sharpness = _patches(picture)
        sharp = sharpness > SHARP_SHARE * sharpness.max()
        rows.append(features[sharp & np.isfinite(features).all(1)])
    every = np.concatenate(rows) if rows else np.empty((0, _FEATURES))
    if len(every) <= _FEATURES:
        raise ConfigError(f"NIQE needs more than {_FEATURES} sharp patches of clean faces, got {len(every)}")
    return Niqe(every.mean(0), np.cov(every, rowvar=False))


def _patches(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 36) features of every patch, and (N,) the mean local contrast of each."""
    if min(picture.shape[:2]) < SMALLEST_PX:
        raise ValueError(f"NIQE needs at least {SMALLEST_PX} px a side, got {picture.shape[:2]}")
    height, width = (side // PATCH_PX * PATCH_PX for side in picture.shape[:2])
    plane = luma_full(picture[:height, :width])
    half = cv2.resize(plane, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    columns, sharpness = [], np.empty(0)
    for scale, level in ((1, plane), (2, half)):
        normal, contrast = _normalised(level)
        cell = PATCH_PX // scale // 2
        columns.append(_statistics(normal, cell))
        if scale == 1:
            sharpness = _sums(contrast, cell) / PATCH_PX**2
    return np.concatenate(columns, 1), sharpness


def _normalised(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean-subtracted, contrast-normalised luma (Eq. 1) and the local contrast (Eq. 3)."""
    mean = cv2.GaussianBlur(plane, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE)
    square = cv2.GaussianBlur(plane * plane, (7, 7), 7 / 6, borderType=cv2.BORDER_REPLICATE)
    contrast = np.sqrt(np.abs(square - mean * mean))
    return (plane - mean) / (contrast + 1), contrast


def _statistics(normal: np.ndarray, cell: int) -> np.ndarray:
    """(N, 18): the shape and width of the patches' values (2) and, for four neighbours' products, the
    shape, mean and both widths of each (4)."""
    shape, _, left, right = _asymmetric(normal, cell)
    columns = [shape, (left + right) / 2]
    for pair in _PAIRS:
        columns += _asymmetric(normal * np.roll(normal, pair, (0, 1)), cell)
    return np.stack(columns, 1)


def _asymmetric(values: np.ndarray, cell: int) -> list[np.ndarray]:
    """Asymmetric generalised Gaussian of every patch by moments (Lasmar et al. 2009).

    Returns shape, mean, left width, right width, (N,) each; NaN for a patch without both signs.
    """
    negative = values < 0
    square = values * values
    counts = _sums(negative.astype(np.float32), cell), _sums((values > 0).astype(np.float32), cell)
    energies = _sums(np.where(negative, square, 0), cell), _sums(np.where(negative, 0, square), cell)
    with np.errstate(divide="ignore", invalid="ignore"):
        left, right = (np.sqrt(energy / count) for energy, count in zip(energies, counts, strict=True))
        ratio = left / right
        area = (2 * cell) ** 2
        flatness = (_sums(np.abs(values), cell) / area) ** 2 / (_sums(square, cell) / area)
        wanted = flatness * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    known, one, two, three = _gammas()
    at = np.clip(np.searchsorted(known, wanted), 0, len(_SHAPES) - 1)  # NaN sorts last
    spread = np.sqrt(one[at] / three[at])
    left, right = left * spread, right * spread
    return [
        np.where(np.isfinite(wanted), _SHAPES[at], np.nan),
        (right - left) * two[at] / one[at],
        left,
        right,
    ]


@cache
def _gammas() -> tuple[np.ndarray, ...]:
    """Of every shape a: Gamma(2/a)^2 / (Gamma(1/a) Gamma(3/a)), which grows with a, and the three Gammas."""
    one, two, three = (np.array([math.gamma(k / shape) for shape in _SHAPES]) for k in (1, 2, 3))
    return two**2 / (one * three), one, two, three


def _sums(plane: np.ndarray, cell: int) -> np.ndarray:
    """(N,) sums over patches of 2 x 2 cells that overlap by a cell, row by row."""
    height, width = plane.shape
    cells = plane.reshape(height // cell, cell, width // cell, cell).sum((1, 3), dtype=np.float64)
    return (cells[:-1, :-1] + cells[1:, :-1] + cells[:-1, 1:] + cells[1:, 1:]).ravel()
