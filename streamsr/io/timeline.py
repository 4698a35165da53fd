"""One increasing line of pts out of several connections to the same camera."""

from __future__ import annotations

from fractions import Fraction

from ..clock import NS_PER_S

__all__ = ["Timeline"]

LATE_S = Fraction(1, 4)  # a picture this little behind its predecessor came out of order...
LATE_PICTURES = 8  # ...unless so many in a row do; then, or further back, the clock was set
LEAP_S = 2  # a pts this far ahead of the time that has passed: the clock was set


class Timeline:
    """Keeps the pts of the first connection as they are and shifts those of later ones behind them.

    The gap between two connections is the time that really passed. A camera whose clock is set
    while it streams is treated in the same way, and counted in ``jumps``.
    """

    def __init__(self) -> None:
        self.jumps = 0
        self.time_base = Fraction(1, 90_000)  # of what ``place`` returns; that of the first picture
        self._shift: int | None = 0  # added to incoming pts; None: to be found from the next one
        self._last: int | None = None
        self._last_ns = 0
        self._late = 0  # pictures left out in a row

    def restart(self) -> None:
        """The next pts come from a new connection."""
        self._shift = None

    def place(self, pts: int | None, time_base: Fraction, captured_ns: int) -> int | None:
        """The pts, in ``self.time_base``, of a picture that came at ``captured_ns``.

        pts: in ``time_base``; None: unknown, the time that has passed decides.
        Returns None for a picture that came out of order and is to be left out.
        """
        placed = self._place(pts, time_base, captured_ns)
        if placed is not None:
            self._last, self._last_ns, self._late = placed, captured_ns, 0
        return placed

    def _place(self, pts: int | None, time_base: Fraction, captured_ns: int) -> int | None:
        if self._last is None:
            self.time_base = time_base
            if pts is None:
                self._shift = None
            return pts or 0
        passed = round(Fraction(captured_ns - self._last_ns, NS_PER_S) / self.time_base)
        expected = self._last + max(1, passed)
        if pts is None:
            return expected
        own = round(pts * time_base / self.time_base)
        if self._shift is None:
            self._shift = expected - own
        ahead = own + self._shift - self._last
        if ahead > 0 and own + self._shift - expected <= LEAP_S / self.time_base:
            return own + self._shift
        if -LATE_S / self.time_base < ahead <= 0 and self._late < LATE_PICTURES:
            self._late += 1
            return None
        self._shift = expected - own
        self.jumps += 1
        return expected
