import pytest
import torch

from streamsr.model.consistency import CODED, NOISE, OWN_ERROR, QUANTISER, gamma


def test_an_exact_observation_is_kept_and_a_coded_one_is_not() -> None:
    assert gamma(0.0, 14.0, 0.0) == pytest.approx(1, abs=1e-4)
    assert gamma(0.0, 34.0, 0.0) == pytest.approx(CODED, abs=1e-3)
    assert gamma(0.0, QUANTISER, 0.0) == pytest.approx((1 + CODED) / 2)


def test_a_noisy_observation_is_trusted_less() -> None:
    assert gamma(OWN_ERROR, 14.0, 0.0) == pytest.approx(0.5, abs=1e-4)
    assert gamma(0.1, 30.0, 0.0) < gamma(0.05, 30.0, 0.0)
    assert gamma(0.0, 14.0, NOISE) == pytest.approx(0.5, abs=1e-4)
    assert gamma(0.0, 14.0, 2.0) > 0.98  # texture that looks like noise


def test_tensors_go_through_element_by_element() -> None:
    sigma_y, quantiser = torch.tensor([0.001, 0.03, 0.2]), torch.tensor([14.0, 26.0, 33.0])
    noise = torch.tensor([1.0, 4.0, 9.0])
    each = [gamma(float(s), float(q), float(n)) for s, q, n in zip(sigma_y, quantiser, noise, strict=True)]
    assert gamma(sigma_y, quantiser, noise).tolist() == pytest.approx(each, rel=1e-5)
