"""The camera's own block grid tells how coarsely it was coded."""

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from streamsr.face.alignment import camera_map, camera_patch, similarity
from streamsr.model.coding import STATISTICS, coding_statistics, noise_level
from streamsr.train.codec import code_frames

NEAR_ZERO = slice(1 * 6 + 6, 6 * 6 + 6)  # of the 4 x 4 blocks on the grid: shares not near zero


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut()[:320, 64:384])


def _luma(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))


@pytest.mark.parametrize("codec", ["h264", "vp8"])
def test_coarser_coding_leaves_fewer_coefficients(picture: np.ndarray, codec: str) -> None:
    means = []
    for quality in (10, 25, 45):
        coded = code_frames([picture, np.roll(picture, 1, 1)], codec, quality)[-1]
        means.append(float(coding_statistics(_luma(coded)[32:288, 32:288])[NEAR_ZERO].mean()))
    assert means[0] > means[1] + 0.05
    assert means[1] > means[2] + 0.05


@pytest.mark.parametrize("shape", [(8, 8), (16, 8), (240, 256)])
def test_any_patch_has_finite_statistics(shape: tuple[int, int]) -> None:
    flat, noise = torch.full(shape, 128.0), torch.rand(shape) * 255
    for patch in (flat, noise):
        found = coding_statistics(patch)
        assert found.shape == (STATISTICS,)
        assert torch.isfinite(found).all()
        assert found.abs().max() < 8
    assert coding_statistics(noise)[NEAR_ZERO].mean() > coding_statistics(flat)[NEAR_ZERO].mean() + 1


@pytest.mark.parametrize("sigma", [3.0, 6.0, 12.0])
def test_noise_is_measured(picture: np.ndarray, sigma: float) -> None:
    smooth = _luma(cv2.GaussianBlur(picture, (0, 0), 2))
    noise = torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))
    assert float(noise_level(coding_statistics(smooth + sigma * noise))) == pytest.approx(sigma, rel=0.1)
    assert float(noise_level(coding_statistics(smooth))) < 1


def test_a_patch_lies_on_the_grid_in_the_middle_of_the_face() -> None:
    rows, columns = np.mgrid[:240, :320]
    image = np.stack([columns % 256, rows, rows], 2).astype(np.uint8)
    five = np.array([[150, 100], [182, 102], [166, 120], [152, 134], [180, 135]], np.float64)
    matrix = similarity(five)
    patch = camera_patch(image, matrix)
    height, width = patch.shape
    assert height % 8 == width % 8 == 0
    top = round(float((patch[0, 0] - 0.299 * patch_left(patch)) / 0.701))
    assert top % 8 == 0
    assert patch_left(patch) % 8 == 0
    middle = camera_map(matrix, 512) @ [255.5, 255.5, 1]
    assert abs(patch_left(patch) + width / 2 - middle[0]) < 8
    assert abs(top + height / 2 - middle[1]) < 8


def patch_left(patch: np.ndarray) -> int:
    """Column of the patch's first px, out of a picture whose red is its column."""
    a, b = 0.299, 0.701
    rows = np.arange(patch.shape[0])
    for left in range(0, 256, 8):
        for top in range(0, 240, 8):
            if np.allclose(patch[:, 0], a * left + b * (top + rows), atol=0.01) and np.allclose(
                patch[0], a * (left + np.arange(patch.shape[1])) + b * top, atol=0.01
            ):
                return left
    raise AssertionError("not cut on multiples of 8")


@pytest.mark.parametrize("centre", [(0, 0), (319, 239), (-300, 500)])
def test_a_patch_at_the_edge_stays_in_the_frame(centre: tuple[int, int]) -> None:
    image = np.zeros((239, 317, 3), np.uint8)
    matrix = np.array([[4.0, 0, 256 - 4 * centre[0]], [0, 4.0, 256 - 4 * centre[1]]])
    height, width = camera_patch(image, matrix).shape
    assert 8 <= height <= 256
    assert 8 <= width <= 256
