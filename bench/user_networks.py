"""Measures whose weights the user brings: LPIPS, ArcFace and FVD, as TorchScript files.

    --lpips FILE    (a, b), each (B, 3, H, W) float32 RGB in [-1, 1]  ->  B distances
    --arcface FILE  (B, 3, 112, 112) float32 RGB in [-1, 1], aligned to ArcFace's five points  ->  (B, D)
    --fvd FILE      (B, 3, 16, 224, 224) float32 RGB in [-1, 1], I3D's input  ->  (B, D)

Without a file its measure is absent. None of these weights is streamsr's, and none is shipped.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from streamsr.errors import ConfigError
from streamsr.face.alignment import TEMPLATE_FIVE, crop_aligned, similarity

__all__ = ["ArcFace", "Lpips", "VideoFeatures", "frechet_distance"]

# Deng et al. 2019: left and right eye, nose tip, left and right mouth corner in 112 x 112 px
ARCFACE_FIVE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
ARCFACE_PX = 112
FVD_FRAMES, FVD_EVERY, FVD_PX = 16, 8, 224  # frames of a window, between two windows; side in px


class _UserNetwork:
    """A TorchScript file under the contract of ``measure``. Raises ConfigError."""

    measure: str

    def __init__(self, path: Path) -> None:
        try:
            self._network = torch.jit.load(str(path), map_location="cpu").eval()
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(f"--{self.measure} {path} is no TorchScript file: {reason}") from error
        self._path = path

    def _run(self, *inputs: Tensor) -> np.ndarray:
        try:
            with torch.inference_mode():
                found = self._network(*inputs)
            return found.float().numpy()
        except (RuntimeError, AttributeError) as error:
            shapes = " and ".join(str(tuple(each.shape)) for each in inputs)
            reason = str(error).strip().splitlines()[-1]
            raise ConfigError(f"--{self.measure} {self._path} does not take {shapes}: {reason}") from error


class Lpips(_UserNetwork):
    """Zhang et al. 2018, by the network that the user brings."""

    measure = "lpips"

    def distance(self, picture: np.ndarray, truth: np.ndarray) -> float:
        """Of two (H, W, 3) uint8 RGB pictures. Raises ConfigError for a network of another contract."""
        found = self._run(unit_batch([picture]), unit_batch([truth]))
        if found.size != 1:
            raise ConfigError(f"--lpips {self._path} must give one distance a pair, got {found.shape}")
        return float(found.ravel()[0])


class ArcFace(_UserNetwork):
    """Deng et al. 2019, by the network that the user brings."""

    measure = "arcface"

    def embed(self, image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """(D,) of unit length. image: (H, W, 3) uint8 RGB; matrix: its px -> px of the 512 template."""
        template_to_chip = similarity(TEMPLATE_FIVE, ARCFACE_FIVE)
        to_chip = template_to_chip @ np.vstack([matrix, [0, 0, 1]])
        shrink = 1 / np.sqrt(abs(np.linalg.det(to_chip[:, :2])))
        if shrink > 1:
            image = cv2.GaussianBlur(image, (0, 0), 0.5 * shrink)
        chip = cv2.warpAffine(image, to_chip, (ARCFACE_PX, ARCFACE_PX), borderMode=cv2.BORDER_REPLICATE)
        found = self._run(unit_batch([chip]))
        if found.ndim != 2 or len(found) != 1:
            raise ConfigError(f"--arcface {self._path} must give (1, D), got {found.shape}")
        return found[0] / np.linalg.norm(found[0])


class VideoFeatures(_UserNetwork):
    """Unterthiner et al. 2018: features of windows of 16 aligned faces, kept by name of the video."""

    measure = "fvd"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._windows: dict[tuple[str, ...], list[np.ndarray]] = defaultdict(list)
        self._features: dict[tuple[str, ...], list[np.ndarray]] = defaultdict(list)

    def add(self, key: tuple[str, ...], image: np.ndarray, matrix: np.ndarray) -> None:
        """The next frame of the video ``key``. matrix: px of the image -> px of the 512 template."""
        window = self._windows[key]
        window.append(crop_aligned(image, matrix, FVD_PX))
        if len(window) == FVD_FRAMES:
            self._features[key].append(self._run(unit_batch(window).transpose(0, 1)[None])[0])
            del window[:FVD_EVERY]

    def cut(self) -> None:
        """What comes next does not follow what came."""
        self._windows.clear()

    def distance(self, key: tuple[str, ...], truth: tuple[str, ...]) -> float:
        """FVD of a video from another; NaN with fewer than two windows of either."""
        sets = [np.array(self._features[name]) for name in (key, truth)]
        return float("nan") if min(map(len, sets)) < 2 else frechet_distance(*sets)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Between Gaussians of two sets of features (N, D): |m_a - m_b|^2 + tr(A + B - 2 (A B)^1/2)."""
    gap = a.mean(0) - b.mean(0)
    # tr (A B)^1/2 is the sum of singular values of the product of the square roots of A and B
    roots = [(each - each.mean(0)) / np.sqrt(len(each) - 1) for each in (a, b)]
    cross = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(gap @ gap + sum((root**2).sum() for root in roots) - 2 * cross)


def unit_batch(pictures: list[np.ndarray]) -> Tensor:
    """(B, 3, H, W) float32 in [-1, 1] of (H, W, 3) uint8."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
