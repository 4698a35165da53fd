"""A filter for alignments that neither lags nor trembles."""

from __future__ import annotations

from collections import deque

import numpy as np

from .alignment import TEMPLATE_PX, invert, native_side

__all__ = ["SteadyFilter", "from_pose", "pose"]

_CENTRE = np.array([256.0, 300.0])  # of the template: between its eyes and mouth
_LEVER_PX = 128.0  # a change of log size or angle moves the face's points by about this many template px
_RATE = 30.0  # frames per second the gains below were tuned at
_NOISE_WINDOW = 15
_NOISE_MIN_PX, _NOISE_START_PX, _NOISE_MAX_PX = 0.1, 0.3, 3.0


def pose(matrix: np.ndarray) -> np.ndarray:
    """(2, 3) alignment to (4,): the face's centre in frame px, log of its native side, its angle."""
    inverse = invert(matrix)
    x, y = inverse[:, :2] @ _CENTRE + inverse[:, 2]
    return np.array([x, y, np.log(native_side(matrix)), np.arctan2(inverse[1, 0], inverse[0, 0])])


def from_pose(values: np.ndarray) -> np.ndarray:
    """The (2, 3) alignment of a ``pose``."""
    x, y, log_side, angle = values
    k = TEMPLATE_PX / np.exp(log_side)
    rotation = k * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.column_stack([rotation, _CENTRE - rotation @ (x, y)])


class SteadyFilter:
    """Alpha-beta filter of a ``pose`` whose gain follows what its own prediction misses.

    A One Euro filter opens with speed and so trails a face that starts to move (half a frame to a
    frame). Here position and velocity are predicted; the miss, low-passed, is compared with the
    measurement noise (median third difference of the last half second): misses like noise are mostly
    ignored, misses that persist are followed at once.
    """

    def __init__(self) -> None:
        self._values: np.ndarray | None = None
        self._velocity = np.zeros(4)

    def reset(self) -> None:
        """Forget everything: the next ``update`` returns its argument."""
        self._values = None

    def predict(self, dt_s: float) -> np.ndarray:
        """(4,) where the pose will be ``dt_s`` from the last update. Needs an update first."""
        if self._values is None:
            raise ValueError("nothing to predict from: update() has not been called")
        return self._values + self._damping(dt_s) * dt_s * self._velocity

    @property
    def velocity(self) -> np.ndarray:
        """(4,) per second."""
        return self._velocity

    def coast(self, dt_s: float) -> np.ndarray:
        """Move on by prediction alone; returns the (4,) pose."""
        self._values = self.predict(dt_s)
        self._velocity = self._velocity * self._damping(dt_s)
        return self._values.copy()

    def update(self, measured: np.ndarray, dt_s: float) -> np.ndarray:
        """Take in a (4,) pose measured ``dt_s`` after the last; returns the smoothed (4,) pose."""
        measured = np.asarray(measured, np.float64)
        if self._values is None:
            self._values = measured.copy()
            self._velocity = np.zeros(4)
            self._miss = np.zeros(4)
            self._recent = deque([measured], maxlen=4)
            self._thirds: deque[float] = deque(maxlen=_NOISE_WINDOW)
            return measured.copy()
        predicted = self.predict(dt_s)
        turns = np.round((measured[3] - predicted[3]) / (2 * np.pi))
        measured = measured - np.array([0, 0, 0, 2 * np.pi * turns])
        to_px = np.array([TEMPLATE_PX / np.exp(measured[2])] * 2 + [_LEVER_PX] * 2)
        noise = self._noise(measured, to_px)

        error = measured - predicted
        self._miss = 0.6 * self._miss + 0.4 * error * to_px
        # 0.5: what low-passing by 0.6 leaves of white noise
        ratio = float(np.sqrt((self._miss**2).mean())) / (2.0 * 0.5 * noise)
        alpha = 0.1 + 0.9 * ratio**2 / (1 + ratio**2)
        beta = alpha * alpha / (2 - alpha)
        self._values = predicted + alpha * error
        self._velocity = self._damping(dt_s) * self._velocity + beta * error / dt_s
        return self._values.copy()

    def _noise(self, measured: np.ndarray, to_px: np.ndarray) -> float:
        """Standard deviation of the measurement in template px: the median third difference."""
        self._recent.append(measured)
        if len(self._recent) == 4:
            a, b, c, d = self._recent
            # white noise has sqrt(20) times its deviation there, and a mean modulus of 0.8 deviations
            self._thirds.append(float(np.abs((d - 3 * c + 3 * b - a) * to_px).mean()) / (np.sqrt(20) * 0.8))
        if len(self._thirds) < 5:
            return _NOISE_START_PX
        return float(np.clip(np.median(self._thirds), _NOISE_MIN_PX, _NOISE_MAX_PX))

    @staticmethod
    def _damping(dt_s: float) -> float:
        return float(0.85 ** (dt_s * _RATE))
