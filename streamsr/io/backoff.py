"""How long to wait before trying again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

__all__ = ["delays"]


def delays(
    first_s: float = 0.5,
    cap_s: float = 2.0,
    factor: float = 2.0,
    jitter: float = 0.5,
    uniform: Callable[[], float] = random.random,
) -> Iterator[float]:
    """Endless pauses in s: ``first_s``, growing by ``factor`` up to ``cap_s``.

    Each is shortened by a random share of up to ``jitter`` (0..1), so that a hundred cameras behind
    one rebooted switch do not knock all at once; none is longer than ``cap_s``.
    uniform: random numbers in [0, 1). Raises ValueError for values out of range.
    """
    if not 0 < first_s <= cap_s:
        raise ValueError(f"first_s must be in (0, cap_s = {cap_s}], got {first_s}")
    if factor < 1:
        raise ValueError(f"factor must be at least 1, got {factor}")
    if not 0 <= jitter <= 1:
        raise ValueError(f"jitter must be in [0, 1], got {jitter}")
    return _delays(first_s, cap_s, factor, jitter, uniform)


def _delays(
    delay_s: float, cap_s: float, factor: float, jitter: float, uniform: Callable[[], float]
) -> Iterator[float]:
    while True:
        yield delay_s * (1 - jitter * uniform())
        delay_s = min(cap_s, delay_s * factor)  # stays finite however long it goes on
