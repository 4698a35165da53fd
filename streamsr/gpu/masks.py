"""A face's mask where it is needed: in its crop, and in the camera's picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..face.alignment import camera_map, rescale_template
from .background import Cover

__all__ = ["Placement", "cover", "enlarged_mask", "placement"]


def enlarged_mask(drawn: Tensor, size: int) -> Tensor:
    """``face.mask.drawn_mask`` -> (size, size), as ``face_mask`` gives it."""
    mask = F.interpolate(drawn[None, None], size=(size, size), mode="bilinear", align_corners=False)
    return mask[0, 0].clamp_max_(1.0)


class Placement(NamedTuple):
    """to_mask (2, 3) float32: as ``affine_grid`` wants it, from an area of the camera's picture to the mask.
    area: x0, y0, x1, y1, camera px."""

    to_mask: np.ndarray
    area: tuple[int, int, int, int]


def placement(matrix: np.ndarray, side: int, width: int, height: int) -> Placement | None:
    """Where a mask of ``side`` px lies in a picture of that size; None where outside. matrix: camera px to
    512-template px."""
    edge = np.array([[x, y] for x in (-1, side) for y in (-1, side)])
    back = camera_map(matrix, side)
    corners = edge @ back[:, :2].T + back[:, 2]
    limits = np.array([width, height])
    x0, y0 = np.clip(np.floor(corners.min(0)), 0, limits).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(corners.max(0)) + 1, 0, limits).astype(int).tolist()
    if x0 >= x1 or y0 >= y1:
        return None
    # both in grid_sample's units, [-1, 1] from edge to edge: of the area to camera px to those of the mask
    from_area = np.array(
        [[(x1 - x0) / 2, 0, (x0 + x1 - 1) / 2], [0, (y1 - y0) / 2, (y0 + y1 - 1) / 2], [0, 0, 1]]
    )
    theta = rescale_template(matrix, side) @ from_area
    theta[:, 2] += 0.5
    theta *= 2 / side
    theta[:, 2] -= 1
    return Placement(theta.astype(np.float32), (x0, y0, x1, y1))


def cover(drawn: Tensor, to_mask: Tensor, area: tuple[int, int, int, int]) -> Cover:
    """``face.mask.drawn_mask`` as it lies in the camera's picture; so smooth that any size may be looked up
    bilinearly. to_mask: the placement's, on the device."""
    x0, y0, x1, y1 = area
    at = F.affine_grid(to_mask[None], [1, 1, y1 - y0, x1 - x0], align_corners=False)  # (1, h, w, 2)
    weight = F.grid_sample(drawn[None, None], at, mode="bilinear", padding_mode="zeros", align_corners=False)
    return Cover(weight[0, 0], area)
