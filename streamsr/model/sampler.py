"""The few-step sampler: a straight path from the degraded face to the clean one.

Training state and start share one line: x_s = (1 - t0) x_in + t0 kappa eps at t = t0, x at t = 0,
x_t = (1 - tau) x + tau x_s with t = tau t0. Its velocity v = (x_s - x) / t0 is constant, so the
Euler step of rectified flow in x-prediction is x_t' = x_hat + (t' / t)(x_t - x_hat).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .reading import KAPPA, step_count

__all__ = ["euler_step", "sample", "start", "state", "step_count"]


def start(x_in: Tensor, t0: Tensor, eps: Tensor) -> Tensor:
    """x_s = (1 - t0) x_in + t0 kappa eps. x_in, eps (B, 3, S, S), t0 (B,)."""
    return torch.lerp(x_in, KAPPA * eps, t0.view(-1, 1, 1, 1).to(x_in.dtype))


def state(x: Tensor, x_s: Tensor, tau: Tensor) -> Tensor:
    """x_t = (1 - tau) x + tau x_s, tau (B,) in [0, 1], t = tau t0."""
    tau = tau.view(-1, 1, 1, 1)
    return (1 - tau) * x + tau * x_s


def euler_step(x_t: Tensor, x_hat: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """x_t' = x_hat + (t' / t)(x_t - x_hat); t' = 0 gives x_hat."""
    ratio = torch.where(t > 0, t_next / t.clamp_min(1e-12), torch.zeros_like(t))
    return x_hat + ratio.view(-1, 1, 1, 1) * (x_t - x_hat)


def sample(
    predict: Callable[[Tensor, Tensor], Tensor], x_in: Tensor, x_s: Tensor, t0: Tensor, steps: int
) -> Tensor:
    """Run ``steps`` evaluations of ``predict(x_t, t) -> x_hat - x_in``, uniform in t from t0 to 0.

    Returns what the last one gave: at t' = 0 that is the whole of the step.
    """
    x_t, t = x_s, t0
    for k in range(1, steps):
        t_next = t0 * (1 - k / steps)
        x_t = euler_step(x_t, x_in + predict(x_t, t), t, t_next)
        t = t_next
    return predict(x_t, t)
