"""What an evaluation of so many faces takes on this device, learned from what it took."""

from __future__ import annotations

__all__ = ["Costs"]

_KEEP = 0.9  # of what was learned before, an evaluation later
_FORGET = 0.97  # of a cost believed too high to try: one hiccup does not end it
_LEAST_MS = 0.05  # a face takes, so that no number of faces is free


class Costs:
    """In ms, by task and size S: base + slope n for n faces, by least squares that forget."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, int], _Line] = {}

    def learn(self, task: str, size: int, faces: int, ms: float) -> None:
        """``faces`` took ``ms`` together, in one evaluation of the network."""
        self._lines.setdefault((task, size), _Line()).learn(faces, ms)

    def doubt(self, task: str, size: int) -> None:
        """It was refused for its cost alone: believe a little less in that."""
        if (task, size) in self._lines:
            self._lines[task, size].believed *= _FORGET

    def of(self, task: str, size: int, faces: int) -> float:
        """0 for no faces, and for what was never tried."""
        line = self._lines.get((task, size))
        return line.at(faces) if line is not None and faces else 0.0


class _Line:
    def __init__(self) -> None:
        self.believed = 1.0
        self._seen = 0
        self._n = self._nn = self._ms = self._n_ms = 0.0  # means of n, n^2, ms and n ms
        self._base = self._slope = 0.0

    def learn(self, n: int, ms: float) -> None:
        if self.believed < 1.0:  # a trial settles the doubt
            self.believed, self._seen, self._base = 1.0, 0, 0.0
        elif self._seen:  # a hiccup counts for no more than twice what was expected; what lasts gets through
            ms = min(ms, 2 * self.at(n))
        share = max(1 - _KEEP, 1 / (self._seen + 1))  # a mean at first, then one that forgets
        self._seen += 1
        self._n += share * (n - self._n)
        self._nn += share * (n * n - self._nn)
        self._ms += share * (ms - self._ms)
        self._n_ms += share * (n * ms - self._n_ms)
        mean_n, mean_ms = self._n, self._ms
        spread = self._nn - mean_n**2
        if spread > 1e-3 * mean_n**2:
            self._slope = (self._n_ms - mean_n * mean_ms) / spread
            self._slope = min(max(self._slope, _LEAST_MS), mean_ms / mean_n)  # a base is never below 0
            self._base = mean_ms - self._slope * mean_n
        elif self._base == 0.0:
            self._slope = mean_ms / mean_n
        else:  # always the same n: the line moves as a whole
            scale = mean_ms / (self._base + self._slope * mean_n)
            self._base, self._slope = scale * self._base, scale * self._slope

    def at(self, n: int) -> float:
        return self.believed * (self._base + self._slope * n)
