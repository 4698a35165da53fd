"""What the guide says, computed without torch: the same figures as with it."""

import numpy as np
import pytest
import torch

from streamsr.model.guide import Reading
from streamsr.model.reading import GuideReading, step_count


def test_its_figures_are_those_of_the_tensors() -> None:
    rng = np.random.default_rng(0)
    bands = rng.uniform(-6.9, 1, (500, 7)).astype(np.float32)
    energy = rng.uniform(1e-4, 1, 500)
    tensors = Reading(torch.from_numpy(bands), torch.full((500,), -3.0), torch.full((500,), 30.0))
    readings = [GuideReading(row, -3.0, 30.0, e, 1.0) for row, e in zip(bands, energy, strict=True)]
    np.testing.assert_allclose([r.t0 for r in readings], tensors.t0.numpy(), rtol=1e-6)
    share = tensors.high_band_energy.numpy() / energy
    np.testing.assert_allclose([r.missing_share for r in readings], share, rtol=1e-6)
    assert [step_count(r.t0) for r in readings] == [step_count(float(t0)) for t0 in tensors.t0]


def test_a_crop_without_energy_of_its_own_misses_much() -> None:
    assert GuideReading(np.full(7, -3, np.float32), -3.0, 30.0, 0.0, 1.0).missing_share > 1e6


def test_units_of_the_observation() -> None:
    assert GuideReading(np.zeros(7, np.float32), -3.0, 30.0, 1.0, 1.0).sigma_y == pytest.approx(np.exp(-3))
