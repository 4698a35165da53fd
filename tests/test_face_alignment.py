import cv2
import numpy as np
import pytest

from streamsr.face.alignment import (
    TEMPLATE_FIVE,
    crop_aligned,
    invert,
    native_side,
    rescale_template,
    similarity,
)
from streamsr.face.smoothing import SteadyFilter, from_pose, pose


def turned(scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    angle = np.radians(degrees)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, shift])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def waves(x: np.ndarray, y: np.ndarray, period: float) -> np.ndarray:
    """A smooth picture known at every point of the plane: (..., 3) in 0..255."""
    w = 2 * np.pi / period
    planes = [np.sin(w * x) * np.cos(w * y), np.cos(w * (x + 0.6 * y)), np.sin(w * (0.3 * x - 0.8 * y) + 1)]
    return 127.5 + 100 * np.stack(planes, -1)


def drawn(height: int, width: int, period: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return np.round(waves(x, y, period)).astype(np.uint8)


@pytest.mark.parametrize(("scale", "degrees"), [(0.1, 0), (0.37, 12), (1.0, -33), (2.5, 170)])
def test_similarity_recovers_what_moved_the_template(scale, degrees):
    placed = turned(scale, degrees, (310.2, 77.7))
    matrix = similarity(apply(placed, TEMPLATE_FIVE))
    np.testing.assert_allclose(matrix, invert(placed), atol=1e-9)
    assert native_side(matrix) == pytest.approx(512 * scale)


def test_similarity_refuses_what_has_no_extent_or_shape():
    with pytest.raises(ValueError, match="coincide"):
        similarity(np.ones((5, 2)))
    with pytest.raises(ValueError, match=r"\(5, 2\)"):
        similarity(np.ones((4, 2)))


def test_rescaled_template_keeps_pixel_centres():
    matrix = turned(0.8, 5, (3, 4))
    corner = invert(matrix) @ [-0.5, -0.5, 1]  # the outer corner of the template's first pixel
    np.testing.assert_allclose(rescale_template(matrix, 256) @ [*corner, 1], [-0.5, -0.5], atol=1e-9)


@pytest.mark.parametrize("size", [64, 128, 256, 512])
@pytest.mark.parametrize("degrees", [0.0, 9.0])
def test_crop_is_the_picture_at_the_crops_own_pixel_centres(size, degrees):
    matrix = invert(turned(256 / 512, degrees, (60.3, 40.8)))  # native side 256
    image = drawn(420, 400, period=48)
    crop = crop_aligned(image, matrix, size).astype(np.float64)
    y, x = np.mgrid[:size, :size].astype(np.float64)
    where = apply(invert(rescale_template(matrix, size)), np.stack([x.ravel(), y.ravel()], 1))
    expected = waves(where[:, 0], where[:, 1], 48).reshape(size, size, 3)
    inner = slice(4, -4)
    shrink = max(256 / size, 1)  # averaging over shrink px flattens a wave of 48 px a little
    error = np.abs(crop - expected)[inner, inner]
    assert error.mean() < 0.7 + 0.6 * (shrink - 1) ** 2
    # least squares of crop - expected = gradient . shift: a crop half a pixel off has 0.5 here
    slope_y, slope_x = np.gradient(expected, axis=(0, 1))
    slopes = np.stack([slope_x[inner, inner].ravel(), slope_y[inner, inner].ravel()], 1)
    shift = np.linalg.lstsq(slopes, (crop - expected)[inner, inner].ravel(), rcond=None)[0]
    assert np.hypot(*shift) < 0.05


def test_crop_of_twice_the_sampling_equals_a_resize():
    image = drawn(256, 256, period=32)
    matrix = rescale_template(np.eye(2, 3), 512)
    matrix = np.array([[2.0, 0, 0.5], [0, 2.0, 0.5]])  # the whole picture, native side 256
    np.testing.assert_allclose(
        crop_aligned(image, matrix, 512)[8:-8, 8:-8].astype(int),
        cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC)[8:-8, 8:-8].astype(int),
        atol=1,
    )


def test_crop_that_shrinks_does_not_alias():
    image = np.zeros((512, 512, 3), np.uint8)
    image[:, ::2] = 255
    crop = crop_aligned(image, np.eye(2, 3), 100)
    assert crop[5:-5, 5:-5].std() < 20  # picking pixels would leave 127


def test_crop_outside_the_frame_repeats_its_edge():
    image = np.full((40, 60, 3), 77, np.uint8)
    crop = crop_aligned(image, invert(turned(0.2, 20, (-300, 500))), 64)
    assert (crop == 77).all()


def test_pose_and_back():
    matrix = invert(turned(0.4, -21, (100, 50)))
    np.testing.assert_allclose(from_pose(pose(matrix)), matrix, atol=1e-9)


def follow(poses: np.ndarray) -> np.ndarray:
    steady = SteadyFilter()
    return np.array([steady.update(p, 1 / 30) for p in poses])


def test_filter_calms_a_still_face():
    rng = np.random.default_rng(0)
    still = np.array([300.0, 200.0, np.log(180.0), 0.1]) + rng.normal(0, 1, (200, 4)) * [
        0.3,
        0.3,
        0.004,
        0.004,
    ]
    calm = follow(still)

    def tremble(p: np.ndarray) -> np.ndarray:
        return np.sqrt((np.diff(p, 2, axis=0)[20:] ** 2).mean(0))

    assert (tremble(calm) < 0.6 * tremble(still)).all()


def test_filter_does_not_trail_a_moving_face():
    rng = np.random.default_rng(1)
    t = np.arange(300) / 30
    path = np.stack([300 + 60 * np.sin(2 * np.pi * 0.5 * t), 200 + 0 * t, np.log(180) + 0 * t, 0 * t], 1)
    seen = path + rng.normal(0, 1, path.shape) * [0.15, 0.15, 0.001, 0.001]
    followed = follow(seen)
    lags = np.linspace(-1, 2, 301)
    frames = np.arange(300)
    errors = [
        ((np.interp(frames - lag, frames, path[:, 0]) - followed[:, 0])[30:-30] ** 2).mean() for lag in lags
    ]
    assert abs(lags[int(np.argmin(errors))]) < 0.25
    assert np.abs(followed[30:, 0] - path[30:, 0]).max() < 2.5  # of up to 6 px a frame


def test_filter_follows_a_jump_within_three_frames_and_an_angle_past_180():
    poses = np.tile([100.0, 100.0, 5.0, 3.1], (60, 1))
    poses[30:, 0] += 40
    poses[40:, 3] = -3.1  # 4.8 degrees on, across the seam
    out = follow(poses)
    assert abs(out[32, 0] - 140) < 6
    angle = np.exp(1j * out[50:, 3])
    np.testing.assert_allclose(np.abs(angle - np.exp(-3.1j)), 0, atol=0.02)


def test_filter_needs_something_to_predict_from():
    with pytest.raises(ValueError, match="update"):
        SteadyFilter().predict(0.1)
