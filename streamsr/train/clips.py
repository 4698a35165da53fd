"""Stills set in motion: recorded face-mesh trajectories, head shake, and now and then an occluder.

A data folder holds ``motion/*.npz`` with ``landmarks`` (T, 478, 2), a talking head's mesh in any unit,
and ``fps``. No pictures are needed of whoever moved: only the displacements are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..errors import ConfigError
from ..face.alignment import TEMPLATE_PX, similarity
from ..face.landmarks import FACE_OVAL, five_points
from ..face.mesh import MESH_PX, FaceNetworks

__all__ = ["Pose", "Trajectory", "animate", "find_mesh", "load_trajectories", "shake"]

RATE = 25.0  # frames a second of the clips that are made
_GRID = 33  # side of the grid on which displacements are evaluated
_EVERY = 7  # of the mesh's 478 points one in so many steers the warp
_LIPS_AND_LIDS = [13, 14, 61, 291, 0, 17, 159, 145, 386, 374, 33, 133, 362, 263, 468, 473]
_STEERING = np.array(sorted({*range(0, 468, _EVERY), *_LIPS_AND_LIDS, *FACE_OVAL[::3]}))
_MOST_PX = 60.0  # of the template: a displacement beyond it would fold the picture


class Pose(NamedTuple):
    """Where the camera sees the face in its view: turn in degrees, shift in px of the view."""

    roll_deg: float
    shift: tuple[float, float]


@dataclass(frozen=True)
class Trajectory:
    """points (T, 478, 2) float32: the mesh in px of the 512 template, aligned frame by frame. fps: of it."""

    points: np.ndarray
    fps: float


def load_trajectories(folder: Path) -> list[Trajectory]:
    """All of ``folder``. Raises ConfigError."""
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise ConfigError(f"no trajectories (*.npz) in {folder}")
    found = []
    for path in paths:
        with np.load(path) as file:
            meshes, fps = file["landmarks"].astype(np.float64), float(file["fps"])
        aligned = np.empty(meshes.shape, np.float32)
        for k, mesh in enumerate(meshes):
            matrix = similarity(five_points(mesh))
            aligned[k] = mesh @ matrix[:, :2].T + matrix[:, 2]
        found.append(Trajectory(aligned, fps))
    return found


def animate(
    face: np.ndarray, mesh: np.ndarray, trajectory: Trajectory, frames: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """``frames`` pictures of an aligned still (S, S, 3) uint8 that moves as ``trajectory`` does.

    mesh: the still's own (478, 2), px of the 512 template; NaN if it is not known: nothing moves then. The
    first picture is the still as it is. What moves is the face within its crop: speech, blinks, the
    parallax of a turning head.
    """
    if np.isnan(mesh).any():
        return [face] * frames
    size, step = face.shape[0], trajectory.fps / RATE
    last = len(trajectory.points) - 1
    begin = float(rng.uniform(0, max(last - frames * step, 0)))
    mirrored = rng.random() < 0.5
    moments = [trajectory.points[min(round(begin + k * step), last)] for k in range(frames)]
    source = mesh[_STEERING].astype(np.float64)
    pictures = [face]
    for points in moments[1:]:
        moved = (points - moments[0])[_STEERING].astype(np.float64)
        if mirrored:
            moved[:, 0] *= -1
        pictures.append(_warped(face, source, source + np.clip(moved, -_MOST_PX, _MOST_PX), size))
    return pictures


def find_mesh(networks: FaceNetworks, face: np.ndarray) -> np.ndarray | None:
    """The mesh (478, 2) of an aligned still (S, S, 3) uint8, px of the 512 template; None: no face found."""
    side = TEMPLATE_PX / face.shape[0]
    scale = 0.9 * MESH_PX / TEMPLATE_PX  # the mesh's network wants the face on two thirds of its input
    shift = MESH_PX / 2 - scale * np.array([257.0, 285.0])  # the middle of the template's face
    matrix = np.column_stack([np.eye(2) * scale * side, shift])
    crop = cv2.warpAffine(face, matrix, (MESH_PX, MESH_PX), borderMode=cv2.BORDER_REPLICATE)
    points, presence = networks.mesh(crop)
    return (points[:, :2] - shift) / scale if presence > 0.5 else None


def shake(pose: Pose, frames: int, rng: np.random.Generator, side_px: float) -> list[Pose]:
    """A head that sways from ``pose`` on: Ornstein-Uhlenbeck velocity. side_px: of the crop in the view."""
    strength = float(np.exp(rng.uniform(np.log(0.0005), np.log(0.01)))) * side_px  # px a frame
    velocity = rng.normal(0, 1, 3)
    at = np.array([pose.roll_deg, *pose.shift])
    poses = []
    for _ in range(frames):
        poses.append(Pose(float(at[0]), (float(at[1]), float(at[2]))))
        velocity = 0.85 * velocity + np.sqrt(1 - 0.85**2) * rng.normal(0, 1, 3)
        at = at + velocity * strength * np.array([0.3, 1.0, 1.0])
    return poses


def _warped(face: np.ndarray, source: np.ndarray, target: np.ndarray, size: int) -> np.ndarray:
    """``face`` with what lies at ``source`` moved to ``target``, both (N, 2) px of the template."""
    frame = np.linspace(0, TEMPLATE_PX - 1, 6)
    border = np.array([(x, y) for x in frame for y in frame if x in frame[[0, -1]] or y in frame[[0, -1]]])
    held = np.concatenate([target, border])
    pull = np.concatenate([source - target, np.zeros_like(border)])
    at = np.linspace(0, TEMPLATE_PX - 1, _GRID)
    grid = np.stack(np.meshgrid(at, at), 2).reshape(-1, 2)
    coarse = _thin_plate(held, pull, grid).reshape(_GRID, _GRID, 2).astype(np.float32) * (size / TEMPLATE_PX)
    columns, rows = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    scale = (_GRID - 1) / (size - 1)
    dense = cv2.remap(coarse, columns * scale, rows * scale, cv2.INTER_LINEAR)
    return cv2.remap(
        face,
        columns + dense[..., 0],
        rows + dense[..., 1],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101,
    )


def _thin_plate(at: np.ndarray, values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Thin-plate spline through ``values`` (N, 2) at ``at`` (N, 2), evaluated at ``where`` (M, 2)."""
    at, where = at / TEMPLATE_PX, where / TEMPLATE_PX
    n = len(at)
    affine = np.column_stack([np.ones(n), at])
    system = np.zeros((n + 3, n + 3))
    system[:n, :n] = _kernel(at, at) + 1e-4 * np.eye(n)  # a little slack: neighbours may disagree
    system[:n, n:], system[n:, :n] = affine, affine.T
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros((3, 2))]))
    return _kernel(where, at) @ weights[:n] + np.column_stack([np.ones(len(where)), where]) @ weights[n:]


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    square = np.square(a[:, None] - b[None]).sum(2)
    return square * np.log(square + 1e-12)
