"""Measures of one picture against other implementations, closed forms and known behaviour."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.signal import convolve2d
from skimage.data import astronaut
from skimage.metrics import structural_similarity

from streamsr.bench import fidelity, luma


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[20:213, 120:321])  # odd sides: (193, 201, 3)


@pytest.fixture(scope="module")
def blurred(truth: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(truth, (0, 0), 1.5)


@pytest.fixture(scope="module")
def noisy(truth: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, 8, truth.shape)
    return np.rint(truth + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def left(truth: np.ndarray) -> np.ndarray:
    """A mask that sees only the left 60 columns."""
    mask = np.zeros(truth.shape[:2], np.float32)
    mask[:, :60] = 1
    return mask


def test_luma_is_studio_range_bt601() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.uint8)
    assert luma.luma(colours)[0] == pytest.approx([16, 235, 16 + 65.481], abs=1e-3)
    assert luma.luma_full(colours)[0] == pytest.approx([0, 255, 255 * 0.299], abs=1e-3)


def test_psnr_of_a_known_error() -> None:
    truth = np.full((8, 8, 3), 100, np.uint8)
    # one grey level is 219/255 of a studio-range luma level
    expected = 20 * np.log10(255 / (10 * 219 / 255))
    assert fidelity.psnr_y(truth + np.uint8(10), truth) == pytest.approx(expected, abs=1e-3)
    assert fidelity.psnr_y(truth, truth) == float("inf")


def test_psnr_counts_only_where_the_mask_is(truth: np.ndarray, noisy: np.ndarray, left: np.ndarray) -> None:
    half_broken = noisy.copy()
    half_broken[:, 60:] = 0
    assert fidelity.psnr_y(half_broken, truth, left) == pytest.approx(
        fidelity.psnr_y(noisy[:, :60], truth[:, :60]), abs=1e-4
    )
    assert fidelity.psnr_y(half_broken, truth) < 10


@pytest.mark.parametrize("kind", ["blurred", "noisy"])
def test_ssim_agrees_with_scikit_image(kind: str, truth: np.ndarray, request: pytest.FixtureRequest) -> None:
    image = request.getfixturevalue(kind)
    expected = structural_similarity(
        luma.luma(image).astype(np.float64),
        luma.luma(truth).astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert fidelity.ssim(image, truth) == pytest.approx(expected, abs=1e-6)


def test_ssim_in_a_mask_is_the_mean_of_the_map_there(
    truth: np.ndarray, blurred: np.ndarray, left: np.ndarray
) -> None:
    _, expected = structural_similarity(
        luma.luma(blurred).astype(np.float64),
        luma.luma(truth).astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        full=True,
    )
    assert fidelity.ssim(blurred, truth, left) == pytest.approx(expected[5:-5, 5:60].mean(), abs=1e-6)


def reference_haarpsi(image: np.ndarray, truth: np.ndarray) -> float:
    """The grey-scale index as its authors' reference code spells it, over scipy's convolution."""

    def conv2(plane: np.ndarray, kernel: np.ndarray) -> np.ndarray:  # MATLAB's 'same'
        return np.rot90(convolve2d(np.rot90(plane, 2), np.rot90(kernel, 2), mode="same"), 2)

    def coefficients(plane: np.ndarray) -> np.ndarray:
        stack = np.zeros((*plane.shape, 6))
        for scale in (1, 2, 3):
            kernel = 2.0**-scale * np.ones((2**scale, 2**scale))
            kernel[: 2**scale // 2] *= -1
            stack[..., scale - 1] = conv2(plane, kernel)
            stack[..., scale + 2] = conv2(plane, kernel.T)
        return stack

    def subsampled(picture: np.ndarray) -> np.ndarray:
        plane = picture.astype(np.float64) @ [0.299, 0.587, 0.114]
        return conv2(plane, np.ones((2, 2)) / 4)[::2, ::2]

    a, b = coefficients(subsampled(image)), coefficients(subsampled(truth))
    similarities, weights = np.zeros((*a.shape[:2], 2)), np.zeros((*a.shape[:2], 2))
    for o in (0, 1):
        weights[..., o] = np.maximum(abs(a[..., 2 + 3 * o]), abs(b[..., 2 + 3 * o]))
        x, y = abs(a[..., 3 * o : 3 * o + 2]), abs(b[..., 3 * o : 3 * o + 2])
        similarities[..., o] = ((2 * x * y + 30) / (x**2 + y**2 + 30)).sum(-1) / 2
    mean = (weights / (1 + np.exp(-4.2 * similarities))).sum() / weights.sum()
    return float((np.log(mean / (1 - mean)) / 4.2) ** 2)


@pytest.mark.parametrize("kind", ["blurred", "noisy"])
def test_haarpsi_agrees_with_the_reference_code(
    kind: str, truth: np.ndarray, request: pytest.FixtureRequest
) -> None:
    image = request.getfixturevalue(kind)
    assert fidelity.haarpsi(image, truth) == pytest.approx(reference_haarpsi(image, truth), abs=1e-5)


def test_haarpsi_is_one_for_identical_and_falls_with_distortion(truth: np.ndarray) -> None:
    assert fidelity.haarpsi(truth, truth) == pytest.approx(1, abs=1e-9)
    scores = [fidelity.haarpsi(cv2.GaussianBlur(truth, (0, 0), s), truth) for s in (0.8, 1.5, 3, 6)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > 0.8
    assert scores[-1] < 0.4


def test_haarpsi_of_black_frames_is_one() -> None:
    black = np.zeros((16, 16, 3), np.uint8)
    assert fidelity.haarpsi(black, black) == 1


def test_haarpsi_mask_hides_what_lies_outside(truth: np.ndarray, noisy: np.ndarray, left: np.ndarray) -> None:
    broken_right = truth.copy()
    broken_right[:, 80:] = noisy[:, 80:]  # 20 px off the mask: wider than the 16-px widest filter
    assert fidelity.haarpsi(broken_right, truth, left) == pytest.approx(1, abs=1e-9)
    assert fidelity.haarpsi(broken_right, truth) < 0.99


def test_hf_ratio(truth: np.ndarray, blurred: np.ndarray, noisy: np.ndarray) -> None:
    assert fidelity.hf_ratio(truth, truth) == pytest.approx(1)
    assert fidelity.hf_ratio(blurred, truth) < 0.5
    assert fidelity.hf_ratio(noisy, truth) > 1
    halved = (128 + (truth.astype(np.float32) - 128) / 2).round().clip(0, 255).astype(np.uint8)
    assert fidelity.hf_ratio(halved, truth) == pytest.approx(0.25, rel=0.02)  # energy goes with the square


def test_hf_ratio_without_detail_to_compare_with_is_nan() -> None:
    flat = np.full((8, 8, 3), 90, np.uint8)
    assert np.isnan(fidelity.hf_ratio(flat, flat))


def test_hf_ratio_in_a_mask(truth: np.ndarray, blurred: np.ndarray, left: np.ndarray) -> None:
    mixed = truth.copy()
    mixed[:, 60:] = blurred[:, 60:]
    assert fidelity.hf_ratio(mixed, truth, left) == pytest.approx(1)
    assert fidelity.hf_ratio(mixed, truth) < 0.9


def test_consistency_is_the_block_averages_distance_from_the_camera() -> None:
    camera = np.random.default_rng(0).integers(0, 200, (6, 5, 3), np.uint8)
    enlarged = camera.repeat(4, 0).repeat(4, 1)
    assert fidelity.consistency(enlarged, camera, 4) == (0, 0)
    enlarged[:4, :4] += 30  # one camera pixel of thirty off by 30
    rms, worst = fidelity.consistency(enlarged, camera, 4)
    assert worst == pytest.approx(30, abs=1e-4)
    assert rms == pytest.approx(30 / np.sqrt(30), abs=1e-4)
    elsewhere = np.ones((6, 5), np.float32)
    elsewhere[0, 0] = 0
    assert fidelity.consistency(enlarged, camera, 4, elsewhere) == (0, 0)


@pytest.mark.parametrize("measure", [fidelity.psnr_y, fidelity.ssim, fidelity.haarpsi, fidelity.hf_ratio])
def test_shapes_that_do_not_fit_are_refused(measure, truth: np.ndarray) -> None:
    with pytest.raises(ValueError, match="alike"):
        measure(truth[:-1], truth)
    with pytest.raises(ValueError, match="weight must be"):
        measure(truth, truth, np.ones((3, 3), np.float32))


@pytest.mark.parametrize("measure", [fidelity.psnr_y, fidelity.ssim])
def test_an_empty_mask_is_refused(measure, truth: np.ndarray) -> None:
    with pytest.raises(ValueError, match="zero everywhere"):
        measure(truth, truth, np.zeros(truth.shape[:2], np.float32))


def test_area_down_refuses_a_remainder(truth: np.ndarray) -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        luma.area_down(truth, 4)
