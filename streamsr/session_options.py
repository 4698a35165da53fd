"""What may be asked of a session, checked before it exists and again while it runs."""

from __future__ import annotations

from typing import Literal

from .errors import ConfigError

__all__ = ["CALL_BUDGET_MS", "DEFAULT_FIDELITY", "MAX_STEPS", "EngineName", "check_fidelity", "check_steps"]

EngineName = Literal["auto", "openvino", "eager", "inductor", "tensorrt"]
"""What evaluates the network; see ``Enhancer``."""

DEFAULT_FIDELITY = 0.4
MAX_STEPS = 64
CALL_BUDGET_MS = 170.0  # age of a frame in a call; at 100, slow machines restore a tenth of what they could


def check_fidelity(fidelity: float) -> None:
    """Raise ConfigError unless it is in [0, 1]."""
    if not (isinstance(fidelity, (int, float)) and 0 <= fidelity <= 1):
        raise ConfigError(f"fidelity must be in 0..1, got {fidelity!r}")


def check_steps(steps: int | str) -> None:
    """Raise ConfigError unless it is "auto" or a number in 1..64."""
    if steps != "auto" and not (isinstance(steps, int) and 1 <= steps <= MAX_STEPS):
        raise ConfigError(f'steps must be "auto" or in 1..{MAX_STEPS}, got {steps!r}')
