"""What the guide says of one face, and what a restored one leaves: for those who do not compute them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["BAND_SHARE", "KAPPA", "GuideReading", "Trace", "step_count"]

KAPPA = 0.25  # noise scale of the process
# n_b / n of the seven bands of a two-level orthonormal Haar transform: level 1 LH HL HH, level 2 LH HL HH LL
BAND_SHARE = (0.25, 0.25, 0.25, 0.0625, 0.0625, 0.0625, 0.0625)

_SHARE = np.array(BAND_SHARE, np.float32)


@dataclass(frozen=True, slots=True)
class GuideReading:
    """What the guide says of one crop; see model.guide.Reading. Units of [-1, 1] pictures.

    log_bands: (7,) float32. present_energy: energy a pixel of x_in's own six high bands, to weigh what is
    missing against. noise: see model.coding.noise_level, in 1/255.
    """

    log_bands: np.ndarray
    log_sigma_y: float
    quantiser: float
    present_energy: float
    noise: float

    @property
    def t0(self) -> float:
        """sigma / (kappa + sigma), as model.guide.start_time."""
        sigma = np.sqrt(self._energy().sum())
        return float(sigma / (np.float32(KAPPA) + sigma))

    @property
    def sigma_y(self) -> float:
        return float(np.exp(self.log_sigma_y))

    @property
    def missing_share(self) -> float:
        """Missing high-band energy over what is there: small for a face that needs no restoring."""
        return float(self._energy()[:6].sum()) / max(self.present_energy, 1e-12)

    def _energy(self) -> np.ndarray:
        """(7,) float32, a pixel, by band."""
        return np.exp(2 * self.log_bands.astype(np.float32)) * _SHARE


@dataclass(frozen=True, slots=True)
class Trace:
    """A restored crop, and what the next frame of its face may make of it.

    crop: a Crop or a DeviceCrop. residual: x_hat - x_in, (S, S, 3) float32 in 1/255 units, in numpy or on the
    crop's device; the sum with crop.x_in may leave [0, 255]: whoever rounds it clips it. past: for whoever
    restored it; None with weights that know none.
    """

    crop: Any
    residual: Any
    past: Any = None


def step_count(t0: float, most: int = 4) -> int:
    """N = clip(ceil(t0 / 0.1), 1, most): the further a face is from clean, the more steps."""
    return max(1, min(most, int(-(-t0 // 0.1))))
