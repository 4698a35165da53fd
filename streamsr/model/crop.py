"""What the model sees of a face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..face.alignment import camera_map, camera_patch, crop_aligned

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Crop", "DeviceCrop"]


@dataclass(frozen=True, slots=True)
class Crop:
    """An aligned face. x_in (S, S, 3) and y (S/4, S/4, 3) uint8 RGB, both cut from the camera's own
    picture; camera (2, 3) float64: px of x_in to px of that picture; patch (H, W) float32: luma of the
    middle of the face there, cut on multiples of 8 px."""

    x_in: np.ndarray
    y: np.ndarray
    camera: np.ndarray
    patch: np.ndarray

    @classmethod
    def cut(cls, image: np.ndarray, matrix: np.ndarray, size: int) -> Crop:
        """Out of ``image`` (H, W, 3) uint8; matrix: its px to px of the 512 template; size: S."""
        return cls(
            crop_aligned(image, matrix, size),
            crop_aligned(image, matrix, size // 4),
            camera_map(matrix, size),
            camera_patch(image, matrix),
        )

    @property
    def size(self) -> int:
        return int(self.x_in.shape[0])


@dataclass(frozen=True, slots=True)
class DeviceCrop:
    """A ``Crop`` whose pictures lie where the network is: x_in (1, 3, S, S), y (1, 3, S/4, S/4) float32 in
    [-1, 1], channels last."""

    x_in: Tensor
    y: Tensor
    camera: np.ndarray
    patch: np.ndarray

    @property
    def size(self) -> int:
        return int(self.x_in.shape[-1])
