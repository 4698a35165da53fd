import pytest
import torch

from streamsr.model.consistency import TRUSTED, gamma


def test_an_exact_observation_is_kept_and_a_coded_one_is_not() -> None:
    assert gamma(0.0) == 1
    assert gamma(0.01) > 0.98
    assert gamma(TRUSTED) == pytest.approx(0.5)
    assert gamma(0.06) < 0.07


def test_tensors_go_through_element_by_element() -> None:
    sigma_y = torch.tensor([0.001, 0.03, 0.2])
    assert gamma(sigma_y).tolist() == pytest.approx([gamma(float(v)) for v in sigma_y], rel=1e-5)
