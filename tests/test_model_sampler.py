import pytest
import torch

from streamsr.model.guide import KAPPA, start_time
from streamsr.model.sampler import euler_step, sample, start, state, step_count


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 16])
def test_an_oracle_network_stays_on_the_training_path(steps: int) -> None:
    g = torch.Generator().manual_seed(0)
    x, x_in, eps = (torch.randn(2, 3, 8, 8, generator=g, dtype=torch.float64) for _ in range(3))
    t0 = torch.tensor([0.3, 0.07], dtype=torch.float64)
    x_s = start(x_in, t0, eps)
    visited = []

    def oracle(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        visited.append((x_t - state(x, x_s, t / t0)).abs().max().item())
        return x - x_in

    out = x_in + sample(oracle, x_in, x_s, t0, steps)
    assert len(visited) == steps
    assert max(visited) < 1e-7
    assert (out - x).abs().max() < 1e-7


def test_the_start_has_the_snr_of_the_input() -> None:
    """SNR of the input P / sigma^2 equals SNR of the process ((1 - t) / (kappa t))^2 P at t0."""
    sigma = torch.tensor([0.01, 0.05, 0.2])
    t0 = start_time(sigma)
    assert torch.allclose(((1 - t0) / (KAPPA * t0)) ** 2, 1 / sigma**2, rtol=1e-5)


def test_the_last_step_returns_the_estimate() -> None:
    x_t, x_hat = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    assert torch.equal(euler_step(x_t, x_hat, torch.tensor([0.2]), torch.tensor([0.0])), x_hat)


@pytest.mark.parametrize(("t0", "steps"), [(0.0, 1), (0.05, 1), (0.1, 1), (0.11, 2), (0.35, 4), (0.9, 4)])
def test_step_count_follows_t0(t0: float, steps: int) -> None:
    assert step_count(t0) == steps
