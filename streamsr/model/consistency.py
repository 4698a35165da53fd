"""How far to trust the camera's own pixels: FLAIR, Eqs. 8 and 9, x_hat <- x_hat - gamma A+(A x_hat - y)."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

__all__ = ["gamma"]

TRUSTED = 0.03  # of [-1, 1]: an error of the observation at which gamma is a half

Number = TypeVar("Number", float, Tensor)


def gamma(sigma_y: Number) -> Number:
    """1 where the observation is exact, 0 where it is coded or noisy. sigma_y: the guide's, of [-1, 1].

    FLAIR's Eq. 9, s_p^2 / (s_p^2 + sigma_y^2), supposes that the estimate's error has nothing to do with
    the observation's. This estimate starts from the observation and keeps four fifths of its error
    (correlation .9 on coded faces), so that the best gamma is near 0 there whatever s_p is, and 1 on clean
    ones: hence the fourth power.
    """
    return 1 / (1 + (sigma_y / TRUSTED) ** 4)
