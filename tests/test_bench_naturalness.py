"""NIQE knows blur and noise, and its statistics are those of its papers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from scipy.special import gamma

from streamsr.bench import naturalness
from streamsr.bench.naturalness import Niqe, fit_niqe
from streamsr.errors import ConfigError


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut())


@pytest.fixture(scope="module")
def model(photo: np.ndarray) -> Niqe:
    windows = range(0, 512 - 120, 28)
    return fit_niqe([photo[top : top + 120, left : left + 120] for top in windows for left in windows])


def test_blur_and_noise_raise_it(model: Niqe, photo: np.ndarray) -> None:
    face = photo[20:260, 100:340]
    blurred = [cv2.GaussianBlur(face, (0, 0), sigma) for sigma in (1, 2, 4)]
    grain = np.random.default_rng(0).normal(0, 1, face.shape)
    noisy = [(face + sigma * grain).clip(0, 255).astype(np.uint8) for sigma in (6, 14, 30)]
    for worse in (blurred, noisy):
        scores = [model.score(picture) for picture in (face, *worse)]
        assert scores == sorted(scores)
        assert scores[-1] > 2 * scores[0]


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 4.0])
def test_the_shape_of_a_generalised_gaussian_is_found(shape: float) -> None:
    rng = np.random.default_rng(3)
    side, widths = 480, (1.5, 0.6)  # |x|^shape of a generalised Gaussian is Gamma(1 / shape)
    sample = rng.gamma(1 / shape, 1, (side, side)) ** (1 / shape)
    left = rng.random((side, side)) < widths[0] / sum(widths)
    values = np.where(left, -widths[0], widths[1]) * sample
    found, mean, *wide = (column.mean() for column in naturalness._asymmetric(values, side // 2))
    assert found == pytest.approx(shape, rel=0.05)
    assert wide == pytest.approx(widths, rel=0.05)
    assert mean == pytest.approx((widths[1] - widths[0]) * gamma(2 / shape) / gamma(1 / shape), rel=0.05)


def test_patches_overlap_by_half_and_scale_by_two(photo: np.ndarray) -> None:
    features, sharpness = naturalness._patches(photo[:150, :250])
    assert features.shape == ((6 - 1) * (10 - 1), 36)  # cells of 24 px in 144 x 240 px
    assert sharpness.shape == (45,)
    moved, _ = naturalness._patches(photo[:150, 24:250])  # 192 px of it
    # a cell further, away from the border that the local means see
    same = features.reshape(5, 9, 36)[1:-1, 2:7]
    assert moved.reshape(5, 7, 36)[1:-1, 1:-1] == pytest.approx(same, abs=1e-5)


def test_a_model_is_kept_and_what_is_none_is_refused(model: Niqe, photo: np.ndarray, tmp_path: Path) -> None:
    model.save(tmp_path / "model.npz")
    face = photo[:200, 100:300]
    assert Niqe.load(tmp_path / "model.npz").score(face) == model.score(face)
    np.savez(tmp_path / "other.npz", mean=np.zeros(3), covariance=np.eye(3))
    for name in ("none.npz", "other.npz"):
        with pytest.raises(ConfigError, match="is no NIQE model"):
            Niqe.load(tmp_path / name)
    with pytest.raises(ConfigError, match="more than 36 sharp patches"):
        fit_niqe([face[:96, :96]])
    with pytest.raises(ValueError, match="at least 96 px"):
        model.score(face[:95])
    assert np.isnan(model.score(np.full((96, 96, 3), 128, np.uint8)))
