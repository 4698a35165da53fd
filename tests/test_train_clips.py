from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from streamsr.errors import ConfigError
from streamsr.face.alignment import crop_aligned, similarity
from streamsr.face.landmarks import five_points
from streamsr.face.mesh import FaceNetworks
from streamsr.train.clips import Pose, Trajectory, animate, find_mesh, load_trajectories, shake


@pytest.fixture(scope="module")
def networks() -> Iterator[FaceNetworks]:
    found = FaceNetworks()
    yield found
    found.close()


@pytest.fixture(scope="module")
def still(networks: FaceNetworks) -> np.ndarray:
    """A real face, aligned by its mesh."""
    near = cv2.resize(skimage.data.astronaut()[36:196, 140:300], (192, 192), interpolation=cv2.INTER_AREA)
    mesh, _ = networks.mesh(near)
    return crop_aligned(near, similarity(five_points(mesh)), 256)


@pytest.fixture(scope="module")
def mesh(networks: FaceNetworks, still: np.ndarray) -> np.ndarray:
    found = find_mesh(networks, still)
    assert found is not None
    return found


def _trajectory(mesh: np.ndarray, frames: int = 20) -> Trajectory:
    """The mouth opens, px by px."""
    points = np.repeat(mesh[None], frames, 0).astype(np.float32)
    lower_lip = [17, 14, 84, 181, 314, 405, 87, 317]
    points[:, lower_lip, 1] += np.arange(frames)[:, None]
    return Trajectory(points, 25.0)


def test_the_mesh_of_a_still_lies_on_its_face(mesh: np.ndarray) -> None:
    eyes_nose_mouth = five_points(mesh)
    assert np.abs(eyes_nose_mouth - [[193, 240], [319, 240], [257, 314], [201, 371], [313, 371]]).max() < 25


def test_a_picture_without_a_face_has_no_mesh(networks: FaceNetworks, mesh: np.ndarray) -> None:
    empty = np.full((256, 256, 3), 90, np.uint8)
    assert find_mesh(networks, empty) is None
    clip = animate(empty, np.full((478, 2), np.nan), _trajectory(mesh), 3, np.random.default_rng(0))
    assert all(frame is empty for frame in clip)


def test_only_what_the_trajectory_moves_is_moved(still: np.ndarray, mesh: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    clip = animate(still, mesh, _trajectory(mesh), 12, rng)
    assert len(clip) == 12
    assert np.array_equal(clip[0], still)
    changed = [np.abs(frame.astype(float) - still).mean(2) for frame in clip]
    mouth = (slice(176, 216), slice(104, 152))
    assert changed[11][mouth].mean() > changed[4][mouth].mean() > 1
    assert changed[11][:80].mean() < 0.5  # forehead and hair


def test_trajectories_are_read_and_aligned(tmp_path: Path, mesh: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="no trajectories"):
        load_trajectories(tmp_path)
    turn = cv2.getRotationMatrix2D((0, 0), 20, 0.01)
    moved = mesh @ turn[:, :2].T + [3, -2]
    np.savez(tmp_path / "a.npz", landmarks=np.stack([moved, moved]).astype(np.float16), fps=30.0)
    (trajectory,) = load_trajectories(tmp_path)
    assert trajectory.fps == 30
    assert trajectory.points.shape == (2, 478, 2)
    assert np.abs(five_points(trajectory.points[0]) - five_points(mesh)).max() < 12


def test_a_head_sways_about_where_it_was() -> None:
    poses = shake(Pose(5.0, (0.3, -0.2)), 50, np.random.default_rng(3), side_px=200)
    assert poses[0] == Pose(5.0, (0.3, -0.2))
    steps = np.diff([pose.shift for pose in poses], axis=0)
    assert 0 < np.abs(steps).max() < 0.1 * 200
