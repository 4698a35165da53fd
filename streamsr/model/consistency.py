"""How far to trust the camera's own pixels: FLAIR, Eqs. 8 and 9, x_hat <- x_hat - gamma A+(A x_hat - y)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["gamma"]

# measured by ``bench gamma`` on clean, coded and noisy input
OWN_ERROR = 0.15  # of [-1, 1]: s_p, the part of the estimate's error that is not the observation's
CODED = 0.2  # what is left of the trust in a picture that has been coded
QUANTISER, SOFTNESS = 27.0, 0.8  # where between them lies half of it, on H.264's scale of QP
NOISE = 6.0  # of 255: where a noisy picture has half of a quiet one's

Number = TypeVar("Number", float, "Tensor")


def gamma(sigma_y: Number, quantiser: Number, noise: Number) -> Number:
    """In [0, 1]; sigma_y: the error of the observation, of [-1, 1], and quantiser: both the guide's; noise:
    coding.noise_level, in 1/255.

    FLAIR's Eq. 9, s_p^2 / (s_p^2 + sigma_y^2), supposes that the estimate's error has nothing to do with
    the observation's. This estimate starts from the observation and keeps four fifths of what coding did
    to it (correlation .9), so that a projection takes away what was won. Hence the second factor: trust in
    coded pixels is low, however small their error. And the third: noise the estimate has removed comes back
    with the camera's pixels, more of it than Eq. 9 foresees; its power of four leaves quiet pictures alone,
    whose texture the measure takes for some noise.
    """
    uncoded = 1 / (1 + math.e ** ((quantiser - QUANTISER) / SOFTNESS))
    quiet = 1 / (1 + (noise / NOISE) ** 4)
    return (CODED + (1 - CODED) * uncoded) * quiet * OWN_ERROR**2 / (OWN_ERROR**2 + sigma_y**2)
